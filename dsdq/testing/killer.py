"""Real processes that are killed, stopped, continued, ended and started again; none outlives the block."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dsdq.processes import Child, spawn

LOOK_S = 0.1


class Victim:
    """One process of a :class:`Killer`. ``said`` is the last line that it wrote."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._heard = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopped = False
        self.was_ready = False
        self.said = ""
        self.exit_code: int | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Say whether it has not ended; one that is stopped runs."""
        return not self._ended.is_set()

    @property
    def stopped(self) -> bool:
        """Say whether it is stopped."""
        return self._stopped and self.running

    async def until_ready(self) -> bool:
        """Wait for its first line and return True; False when it ended without one."""
        await self._heard.wait()
        return self.was_ready

    def kill(self) -> None:
        """SIGKILL: it ends where it stands."""
        self._child.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: it may finish what it does."""
        self._child.send_signal(signal.SIGTERM)

    async def stop_for(self, seconds: float) -> None:
        """SIGSTOP it, and SIGCONT after ``seconds``, whatever happens to the caller."""
        self._stopped = True
        self._child.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._child.send_signal(signal.SIGCONT)
            self._stopped = False

    async def wait(self) -> None:
        """Wait for its end."""
        await self._ended.wait()

    async def end(self) -> None:
        """End it for certain: SIGCONT and SIGTERM, and SIGKILL when it takes too long."""
        self._child.send_signal(signal.SIGCONT)
        await self._child.stop()
        await self.wait()

    async def _read(self) -> None:
        """Wait for the first line, then read on: a pipe that nobody reads would stop who writes into it."""
        while line := await self._child.read_line():
            self.said = line
            self.was_ready = True
            self._heard.set()
        self._heard.set()
        self.exit_code = await self._child.wait()
        self._ended.set()


class Killer:
    """Starts processes of one command, which says a line when it is ready, and ends all of them with the block.

    ``started`` counts them; ``exits`` counts the exit codes of those that ended: 137 is that of a killed one.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._command = command
        self._victims: list[Victim] = []
        self.started = 0

    async def __aenter__(self) -> Self:
        """Start nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process that still runs."""
        await self.end()

    @property
    def running(self) -> list[Victim]:
        """Return the processes that have not ended, oldest first; some may be stopped."""
        return [victim for victim in self._victims if victim.running]

    @property
    def exits(self) -> Counter[int]:
        """Return how many ended with each exit code."""
        return Counter(victim.exit_code for victim in self._victims if victim.exit_code is not None)

    async def start(self) -> Victim:
        """Start one more process; see :meth:`Victim.until_ready`."""
        victim = Victim(await spawn(self._command, stdout=True))
        self._victims.append(victim)
        self.started += 1
        return victim

    async def end(self) -> None:
        """End every process that still runs, stopped ones too."""
        await asyncio.gather(*(victim.end() for victim in self._victims))

    async def keep(self, count: int) -> None:
        """Start another process whenever fewer than ``count`` run, for ever."""
        while True:
            if len(self.running) < count:
                await self.start()
            else:
                await asyncio.sleep(LOOK_S)
