"""A connection that does in a few calls what redis-py does in tasks, time limits and turns of the event loop.

A round takes five commands, each of which would cost more in this process than in the server. The bytes are the same,
and what goes wrong is still redis-py's to deal with. This looks inside of redis-py 5 and hiredis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
from redis import exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection


class BriskConnection(AbstractConnection):  # type: ignore[misc] # redis-py is untyped here
    """To be mixed into a kind of connection, before it."""

    def pack_command(self, *args: Any) -> list[bytes]:  # noqa: ANN401
        """Return a command's bytes, by hiredis."""
        name, *rest = args
        return [hiredis.pack_command((*name.split(), *rest))]  # `SCRIPT LOAD` is one argument to redis-py

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]:
        """Return several commands' bytes."""
        return [packed for command in commands for packed in self.pack_command(*command)]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002 - redis-py's own
        """Write a command. Whoever writes then waits for the answer, and with it until all is written."""
        if check_health and self.is_connected:
            await self.check_health()
        writer = self._writer
        if writer is None or writer.transport.is_closing() or writer.transport.get_write_buffer_size():
            await super().send_packed_command(command, check_health=False)
        else:
            writer.write(command if isinstance(command, bytes) else b"".join(command))

    async def can_read_destructive(self) -> bool:
        """Say whether this connection has ended, or was left with an answer that nobody read."""
        reader = self._reader
        ended = reader.at_eof() or reader.exception() is not None
        return bool(ended or reader._buffer or self._parser._reader.has_data())  # noqa: SLF001

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return the next answer; no clock is set for one that has come with the one before it."""
        asks_plainly = self.is_connected and not (args or options)
        answer = self._parser._reader.gets() if asks_plainly else NOT_ENOUGH_DATA  # noqa: SLF001
        if answer is NOT_ENOUGH_DATA:
            return await super().read_response(*args, **options)
        if isinstance(answer, exceptions.ConnectionError):
            await self.disconnect(nowait=True)
        if isinstance(answer, exceptions.RedisError):
            raise answer
        return answer
