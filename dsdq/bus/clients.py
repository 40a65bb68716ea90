"""redis-py's clients, with what it leaves open decided: what is repeated, for how long, and who follows a failover.

A connection that breaks is everyday, and a command that broke with it is sent again, up to ``RETRIES`` times within
``RETRY_S``. It may have been applied and only its answer lost: whatever dsdq writes may be written twice. A message
that comes twice is answered once, a commit that was applied answers DONE, the rest sets, adds or removes by name.
One command must not be repeated: XREADGROUP gives each entry once, and those of a lost answer wait among the reader's
own pending entries. Its caller has to learn of it (:data:`ONCE`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import FullJitterBackoff
from redis.cluster import PRIMARY

from dsdq.bus.brisk import BriskConnection
from dsdq.bus.faults import code_of, fault_of
from dsdq.errors import DeniedError
from dsdq.tasks import end_all_of

RETRIES = 3
MADE_AT_ONCE = 16  # connections of one client
RETRY_S = 3.0  # connecting is tried within sending is tried: without an end, a host that drops packets takes minutes
ONCE = frozenset({"XREADGROUP"})


class BoundedRetry(Retry):  # type: ignore[misc] # redis-py is untyped here, as below
    """A few attempts with random pauses, for a bounded time: what gets over a hiccup, no more."""

    def __init__(self) -> None:
        super().__init__(FullJitterBackoff(cap=0.5, base=0.02), RETRIES)

    async def call_with_retry(
        self, do: Callable[[], Awaitable[Any]], fail: Callable[[Exception], Awaitable[Any]]
    ) -> Any:  # noqa: ANN401
        """Return what ``do`` returns; ``fail`` is told of each error, and raises the one that ends it."""
        failures, ends = 0, monotonic() + RETRY_S
        while True:
            try:
                return await do()
            except self._supported_errors as error:
                failures += 1
                await fail(error)
                if failures > self._retries or monotonic() > ends or _is_no_hiccup(error):
                    raise
                await asyncio.sleep(self._backoff.compute(failures))


def _is_no_hiccup(error: Exception) -> bool:
    """Say whether an error outlasts these pauses: what is denied, and a server that has to load its data first."""
    return isinstance(error, exceptions.BusyLoadingError) or isinstance(fault_of(error), DeniedError)


class _Leaves(BriskConnection):
    """A connection that is given up when its server has become a replica: the next one finds the new primary.

    It is not asked whether it lives while it is being made. redis-py says several things then before it reads the
    answers; a question that fell due in between would get one of those, which a server before 7.2 refuses.
    """

    async def _connect(self) -> None:
        """Open the socket and say what a new connection says first: if it breaks meanwhile, all of that is repeated.

        redis-py repeats only the first of both.
        """
        await super()._connect()
        self.next_health_check = asyncio.get_running_loop().time() + self.health_check_interval
        try:
            await super().on_connect()
        except exceptions.RedisError:  # it may be another database, or nobody's user: no command may find it open
            await self.disconnect()
            raise

    async def on_connect(self) -> None:
        """Do nothing: it was said."""

    async def connect(self) -> None:
        """Connect; a refusal is raised as it is, without what redis-py wraps it in."""
        try:
            await super().connect()
        except exceptions.ConnectionError as error:
            if isinstance(error.__cause__, exceptions.RedisError):
                raise error.__cause__ from None
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Return the next answer; that the server has become a replica is an end of the connection."""
        try:
            return await super().read_response(*args, **options)
        except exceptions.ResponseError as error:
            if code_of(error) != "READONLY":  # a script of Redis 6.2 says so in the middle of its own error
                raise
            await self.disconnect()
            msg = "the primary has become a replica"
            raise exceptions.ConnectionError(msg) from error


class Tcp(_Leaves, Connection):  # type: ignore[misc]
    """A connection to a server."""


class Tls(_Leaves, SSLConnection):  # type: ignore[misc]
    """A connection to a server over TLS."""


class Unix(_Leaves, UnixDomainSocketConnection):  # type: ignore[misc]
    """A connection to a server on this machine."""


class SentinelTcp(_Leaves, SentinelManagedConnection):  # type: ignore[misc]
    """A connection to the primary that Sentinels name."""


class SentinelTls(_Leaves, SentinelManagedSSLConnection):  # type: ignore[misc]
    """A connection to the primary that Sentinels name, over TLS."""


class _Apart:
    """A pool that makes connections at the same time. redis-py's makes one after another, and each takes round trips.

    Whoever finds a free one does not wait for them either. No more than so many are made at a time: a crowd whose
    commands are short comes to share them meanwhile.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self._making = asyncio.Semaphore(MADE_AT_ONCE)

    async def get_connection(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        """Return a connection that is ready for a command."""
        connection = self.get_available_connection()  # type: ignore[attr-defined]
        try:
            if connection.is_connected:
                await self.ensure_connection(connection)  # type: ignore[attr-defined]
            else:
                async with self._making:
                    connection = self._freed(connection)
                    await self.ensure_connection(connection)  # type: ignore[attr-defined]
        except BaseException:
            await self.release(connection)  # type: ignore[attr-defined]
            raise
        return connection

    def _freed(self, connection: Any) -> Any:  # noqa: ANN401
        """Return one that has become free while this one waited to be made, or this one."""
        available, in_use = self._available_connections, self._in_use_connections  # type: ignore[attr-defined]
        if not available or not available[-1].is_connected:
            return connection
        freed = available.pop()
        in_use.remove(connection)
        available.insert(0, connection)
        in_use.add(freed)
        return freed


class Pool(_Apart, ConnectionPool):  # type: ignore[misc]
    """The connections to one server."""


class SentinelPool(_Apart, SentinelConnectionPool):  # type: ignore[misc]
    """The connections to the primary that Sentinels name."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self._asking = asyncio.Lock()

    async def get_master_address(self) -> Any:  # noqa: ANN401
        """Return where the primary is; one asks at a time, for redis-py reorders its list of Sentinels as it does."""
        async with self._asking:
            return await super().get_master_address()


class Client(Redis):  # type: ignore[misc]
    """A client of one server, or of the primary that Sentinels name."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Send a command and return its answer."""
        if args[0] not in ONCE:
            return await super().execute_command(*args, **options)
        connection = await self.connection_pool.get_connection()
        try:
            return await self._send_command_parse_response(connection, args[0], *args, **options)
        finally:
            await self.connection_pool.release(connection)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's own
        """End what runs for this client and close every connection, those to Sentinels too."""
        await end_all_of(self)  # whoever finds a connection closed would make it again
        await super().aclose(close_connection_pool)
        manager = getattr(self.connection_pool, "sentinel_manager", None)
        for sentinel in manager.sentinels if manager is not None else ():
            await sentinel.aclose()


class _Nodes(dict[str, Any]):
    """Nodes by name. redis-py walks over them while other tasks take out those that failed."""

    def values(self) -> list[Any]:  # type: ignore[override]
        """Return the nodes as they are now."""
        return list(super().values())


class _LastFirst(deque[Any]):
    """A node's connections that nobody uses, of which the one that was used last is taken first."""

    def popleft(self) -> Any:  # noqa: ANN401
        """Return the connection that came back last."""
        return super().pop()


class ClusterClient(RedisCluster):  # type: ignore[misc]
    """A client of a cluster. Scripts and blocked reads find the node of their keys without asking a server."""

    def __init__(self, hosts: Sequence[tuple[str, int]], **options: Any) -> None:  # noqa: ANN401
        super().__init__(startup_nodes=[ClusterNode(host, port) for host, port in hosts], **options)
        self._hosts = hosts
        self.nodes_manager.startup_nodes = _Nodes(self.nodes_manager.startup_nodes)

    async def initialize(self) -> ClusterClient:
        """Learn the cluster's layout, when it is not known or no longer right."""
        if self._initialize:
            # redis-py forgets each node that failed: after an outage of all it would have nobody left to ask.
            for host, port in self._hosts:
                node = ClusterNode(host, port, **self.connection_kwargs)
                self.nodes_manager.startup_nodes.setdefault(node.name, node)
        await super().initialize()
        return self

    async def aclose(self) -> None:
        """End what runs for this client and close every connection."""
        await end_all_of(self)
        await super().aclose()

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Send a command to the node of its keys and return its answer."""
        if args[0] in ONCE and "target_nodes" not in options:
            await self.initialize()
            slot = await self._determine_slot(*args)
            options["target_nodes"] = self.nodes_manager.get_node_from_slot(slot)  # redis-py repeats nothing then
        return await super().execute_command(*args, **options)

    def get_default_node(self) -> ClusterNode | None:
        """Return the node for what has no keys. redis-py forgets it with the layout, and a pipeline asks its name."""
        return super().get_default_node() or next(iter(self.get_primaries()), None)

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """Return a node; that to which a slot is on its way, by its name, even if no slot has come there yet.

        redis-py says ASKING and then the command, on whatever connection it finds first, but only the connection that
        said it may go on. Nobody else comes in between if the one that was used last is taken.
        """
        node = super().get_node(host, port, node_name)
        if node is None and node_name is not None:
            place, _, number = node_name.rpartition(":")
            node = ClusterNode(place, int(number), PRIMARY, **self.connection_kwargs)
            self.nodes_manager.nodes_cache[node.name] = node
        if node is not None and not isinstance(node._free, _LastFirst):  # noqa: SLF001 - redis-py has no way to say it
            node._free = _LastFirst(node._free, node.max_connections)  # noqa: SLF001
        return node

    def primaries(self) -> list[Client]:
        """Return a client for each primary of the layout as it is known; the caller closes them."""
        return [
            Client.from_pool(Pool(connection_class=node.connection_class, **node.connection_kwargs))
            for node in self.get_primaries()
        ]

    async def _determine_slot(self, command: str, *args: Any) -> int:  # noqa: ANN401
        if command in {"XREAD", "XREADGROUP"}:  # redis-py would ask a server each time where their keys stand
            return int(self.keyslot(args[args.index(b"STREAMS") + 1]))
        return int(await super()._determine_slot(command, *args))
