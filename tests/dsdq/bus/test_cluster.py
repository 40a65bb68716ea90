"""dsdq on a real cluster of three primaries: everything that it does, wherever its keys lie, and when nodes go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.dead import DeadLetters, Kind
from dsdq.bus.feed import FeedReader
from dsdq.bus.inbox import Bounds, Inbox, close_inboxes, count_tries, forget_inboxes, left_behind, with_tries
from dsdq.bus.publishing import publish
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import Commit, CommitStatus, Owned, SessionStore, read_log
from dsdq.contract import Contract
from dsdq.errors import BusError, DeniedError, GoneError, RedisUnavailableError
from dsdq.testing.servers import RealServer, client, cluster_port, real_cluster, until

Cluster = tuple[str, list[RealServer]]
DEVICES = [f"phone-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def cluster(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        starting = real_cluster(tmp_path_factory.mktemp("cluster"), program=program)
        yield runner.run(stack.enter_async_context(starting))
        runner.run(stack.aclose())


@pytest.fixture
async def redis(cluster: Cluster) -> AsyncIterator[RedisCluster]:
    async with client(cluster[0]) as opened_client:
        await opened_client.flushall()
        yield opened_client


@pytest.fixture
def store(redis: RedisCluster) -> SessionStore:
    return store_at(redis)


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with real_cluster(tmp_path) as started:
        yield started


def store_at(redis: RedisCluster, worker: str = "w1") -> SessionStore:
    return SessionStore(redis, worker, feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)


async def opened(store: SessionStore, producer: str) -> Owned:
    contract = Contract("acme", producer, "s1", "m", "f")
    owned = await store.open(contract, length=0, digest=b"d", answer=b"opened", request=b"open")
    assert owned is not None
    return owned


def verdicts(owned: Owned, count: int) -> list[Commit]:
    return [Commit(owned, at + 1, at, at + 1, b"d", at + 1, 0, False, [b"v%d" % at]) for at in range(count)]


async def test_the_devices_of_one_worker_lie_on_all_nodes(redis: RedisCluster) -> None:
    await redis.initialize()
    nodes = {redis.get_node_from_key(keys.session_log(device, "acme", "s1")).name for device in DEVICES}
    assert len(nodes) == 3


async def test_it_is_fit_for_use(redis: RedisCluster) -> None:
    await check_server(redis)


async def test_every_primary_is_checked(redis: RedisCluster, cluster: Cluster) -> None:
    for server in cluster[1]:
        async with client(server.url) as one:
            await one.config_set("maxmemory-policy", "allkeys-lru")
            with pytest.raises(DeniedError, match="noeviction"):
                await check_server(redis)
            await one.config_set("maxmemory-policy", "noeviction")


async def test_what_is_published_is_read_settled_and_closed(redis: RedisCluster) -> None:
    tenants = ["acme", "globex", "initech"]
    inbox = Inbox(redis, "w1", tenants, DeadLetters(redis))
    await inbox.open(Bounds(entries=3, kept=1, bytes_=1 << 20))
    for tenant in tenants:
        await publish(redis, "w1", tenant, tenant.encode())
    entries = await inbox.read(count=10, block_ms=100)
    assert sorted(entry.payload for entry in entries) == [b"acme", b"globex", b"initech"]
    await inbox.settle(entries[1:])
    await inbox.bury(entries[0], Kind.FAILED, "a test")
    assert [await redis.xlen(keys.inbox("w1", tenant)) for tenant in tenants] == [0, 0, 0]
    assert await DeadLetters(redis).drop_all() == 1
    await inbox.beat(1.0, 60_000)
    await inbox.close()
    with pytest.raises(GoneError):
        await publish(redis, "w1", "acme", b"late")


async def test_a_worker_that_is_gone_is_inherited(redis: RedisCluster, store: SessionStore) -> None:
    inbox = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
    await inbox.open(Bounds(entries=3, kept=1, bytes_=1 << 20))
    await publish(redis, "w1", "acme", b"one")
    await inbox.read(count=10, block_ms=100)
    for device in DEVICES:
        await opened(store, device)
    heir = store_at(redis, "w2")
    taken = [await heir.take_over(place, "w1") for place in await store.places("w1")]
    assert len(taken) == len(DEVICES)
    assert None not in taken
    left = [one async for page in left_behind(redis, "w1", await close_inboxes(redis, "w1")) for one in page]
    await count_tries(redis, left)
    assert [entry.tries for entry in await with_tries(redis, "w1", left)] == [1]
    await Inbox(redis, "w2", ["acme"], DeadLetters(redis)).settle(left)
    await forget_inboxes(redis, "w1", ["acme"])
    assert not await redis.exists(keys.worker_state("w1"))


async def test_one_batch_commits_to_sessions_on_all_nodes_each_in_its_order(
    redis: RedisCluster, store: SessionStore
) -> None:
    sessions = [await opened(store, device) for device in DEVICES]
    await redis.script_flush()
    by_turns = [commit for turn in zip(*(verdicts(owned, 20) for owned in sessions), strict=True) for commit in turn]
    assert await store.commit(by_turns) == [CommitStatus.OK] * len(by_turns)
    for owned in sessions:
        assert await read_log(redis, owned.contract, 1) == [b"v%d" % at for at in range(20)]


async def test_a_device_follows_its_feed(redis: RedisCluster, store: SessionStore) -> None:
    reader = FeedReader(redis, "phone-1", "acme")
    await reader.start()
    subscription = reader.subscribe(Contract("acme", "phone-1", "s1", "m", "f"))
    await store.commit(verdicts(await opened(store, "phone-1"), 2))
    assert [await subscription.get(5) for _ in range(3)] == [b"opened", b"v0", b"v1"]
    await reader.stop()


async def test_workers_are_found_in_the_registry(redis: RedisCluster) -> None:
    registry = Registry(redis)
    info = WorkerInfo("w1", "m", "r", "f", "t", "n", 10, 10, 4, 1)
    await registry.join(info, 60_000)
    await registry.renew(info, 60_000)
    assert await registry.claim("m", "w0", "w1", 60_000)
    assert not await registry.claim("m", "w0", "w2", 60_000)
    await registry.release("m", "w0")
    assert await registry.list_models() == ["m"]
    assert await registry.list_workers("m") == [info]
    await registry.forget("m", info.wid)
    assert await registry.list_workers("m") == []


async def test_leases_of_a_model_are_judged_by_the_clock_of_the_node_that_grants_them(
    redis: RedisCluster, cluster: Cluster
) -> None:
    registry = Registry(redis)
    for model in ("m", "n", "o", "p", "q"):
        await registry.join(WorkerInfo("w1", model, "r", "f", "t", "n", 10, 10, 4, 1), 60_000)
        await redis.config_resetstat(target_nodes=RedisCluster.PRIMARIES)
        await registry.list_workers(model)
        asked = [server.url for server in cluster[1] if await asked_for_its_time(server)]
        port = redis.get_node_from_key(keys.workers(model)).port
        assert asked == [f"redis://127.0.0.1:{port}/0"]


async def asked_for_its_time(server: RealServer) -> bool:
    async with client(server.url) as one:
        return "cmdstat_time" in await one.info("commandstats")


async def test_scripts_are_brought_to_all_primaries(redis: RedisCluster) -> None:
    await redis.script_flush()
    await scripts.load(redis)
    _, digest = scripts._source("publish")
    assert all(await redis.script_exists(digest))


# A slot on its way


@dataclass(frozen=True)
class Move:
    """A slot on its way from one node to another."""

    source: Redis
    target: ClusterNode

    async def migrate(self, *names: str) -> None:
        """Take keys along."""
        for name in names:
            await self.source.execute_command("MIGRATE", self.target.host, self.target.port, name, 0, 5_000)


@asynccontextmanager
async def moving(redis: RedisCluster, key: str, to: ClusterNode | None = None) -> AsyncIterator[Move]:
    """Begin to move the slot of ``key`` to another node, and end it with the block: its owner moves then."""
    await redis.initialize()
    slot, node = redis.keyslot(key), redis.get_node_from_key(key)
    target = to or next(one for one in redis.get_primaries() if one.name != node.name)
    async with client(_url(node)) as source, client(_url(target)) as other:
        theirs, mine = [await one.execute_command("CLUSTER MYID") for one in (source, other)]
        await other.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", theirs)
        await source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", mine)
        try:
            yield Move(source, target)
        finally:
            for one in (other, source):
                await one.execute_command("CLUSTER SETSLOT", slot, "NODE", mine)
            for third in redis.get_primaries():  # as redis-cli does, not by hearsay
                if third.name not in {node.name, target.name}:
                    async with client(_url(third)) as bystander:
                        await bystander.execute_command("CLUSTER SETSLOT", slot, "NODE", mine)


def _url(node: ClusterNode) -> str:
    return f"redis://{node.host}:{node.port}"


async def test_a_session_is_committed_to_and_read_where_its_keys_have_gone_before_their_slot(
    redis: RedisCluster, store: SessionStore
) -> None:
    owned = await opened(store, "phone-1")
    async with moving(redis, owned.keys[0]) as move:
        await move.migrate(*owned.keys)
        for connections in (1, 2, 4):  # who asks for the way must go it on the same connection
            await asyncio.gather(*(redis.ping(target_nodes=move.target) for _ in range(connections)))
            written = len(await read_log(redis, owned.contract, 1))
            commits = verdicts(owned, written + 5)[written:]
            assert [(await store.commit([commit]))[0] for commit in commits] == [CommitStatus.OK] * 5
    assert await read_log(redis, owned.contract, 1) == [b"v%d" % at for at in range(15)]


async def test_a_session_is_found_on_a_node_that_has_no_slot_yet(mortal: Cluster, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    port = cluster_port()
    new = RealServer(tmp_path / "new", port=port, arguments=["--cluster-enabled", "yes"])
    async with new, client(new.url) as operator, client(mortal[0]) as redis:
        await redis.initialize()
        known, node = redis.get_default_node(), ClusterNode("127.0.0.1", port)
        await operator.execute_command("CLUSTER MEET", known.host, known.port)

        async def met() -> bool:
            seen = [*(await redis.cluster_info(target_nodes=RedisCluster.PRIMARIES)).values()]
            seen.append(await operator.execute_command("CLUSTER INFO"))
            return {(info["cluster_state"], info["cluster_known_nodes"]) for info in seen} == {("ok", "4")}

        await until(met, "a fourth node")
        owned = await opened(store_at(redis), "phone-1")
        async with moving(redis, owned.keys[0], node) as move:
            await move.migrate(*owned.keys)
            assert await store_at(redis).commit(verdicts(owned, 1)) == [CommitStatus.OK]


async def test_a_session_whose_keys_lie_on_two_nodes_cannot_be_committed_to_until_they_are_together(
    redis: RedisCluster, store: SessionStore
) -> None:
    owned = await opened(store, "phone-1")
    async with moving(redis, owned.keys[0]) as move:
        await move.migrate(owned.keys[0])
        error = await failure(store.commit(verdicts(owned, 1)))
        assert isinstance(error, RedisUnavailableError)
        await move.migrate(*owned.keys[1:])
        assert await store.commit(verdicts(owned, 1)) == [CommitStatus.OK]
    assert await read_log(redis, owned.contract, 1) == [b"v0"]


async def test_one_batch_finds_the_sessions_of_many_slots_that_have_moved(
    redis: RedisCluster, store: SessionStore, cluster: Cluster
) -> None:
    sessions = [await opened(store, device) for device in DEVICES[:5]]  # at the fifth, redis-py forgets what it knew
    for owned in sessions:
        async with client(cluster[0]) as operator, moving(operator, owned.keys[0]) as move:
            await move.migrate(*owned.keys)
    commits = [commit for owned in sessions for commit in verdicts(owned, 1)]
    await until_done(lambda: store.commit(commits))
    assert [await read_log(redis, owned.contract, 1) for owned in sessions] == [[b"v0"]] * 5


async def test_leases_that_have_moved_are_judged_by_the_clock_of_where_they_are(
    redis: RedisCluster, cluster: Cluster
) -> None:
    registry, info = Registry(redis), WorkerInfo("w1", "m", "r", "f", "t", "n", 10, 10, 4, 1)
    await registry.join(info, 60_000)
    async with client(cluster[0]) as operator, moving(operator, keys.workers("m")) as move:
        await move.migrate(keys.workers("m"), keys.worker_infos("m"))
    await redis.config_resetstat(target_nodes=RedisCluster.PRIMARIES)
    assert await registry.list_workers("m") == [info]
    (now,) = [server for server in cluster[1] if server.url == f"redis://127.0.0.1:{move.target.port}/0"]
    assert await asked_for_its_time(now)


async def test_a_feed_and_an_inbox_are_followed_through_a_move(redis: RedisCluster, store: SessionStore) -> None:
    reader = FeedReader(redis, "phone-1", "acme")
    await reader.start()
    subscription = reader.subscribe(Contract("acme", "phone-1", "s1", "m", "f"))
    owned = await opened(store, "phone-1")
    inbox = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
    await inbox.open(Bounds(entries=30, kept=1, bytes_=1 << 20))
    await publish(redis, "w1", "acme", b"one")
    async with moving(redis, owned.keys[0]) as session, moving(redis, keys.inbox("w1", "acme")) as work:
        await session.migrate(*owned.keys)
        await work.migrate(keys.inbox("w1", "acme"), keys.inbox_bytes("w1", "acme"), keys.worker_state("w1"))
        await work.migrate(keys.worker_sessions("w1"))  # no key may stay behind
        await publish(redis, "w1", "acme", b"two")
        entries = await inbox.read(count=10, block_ms=100)
        assert await store.commit(verdicts(owned, 1)) == [CommitStatus.OK]
    await publish(redis, "w1", "acme", b"three")
    entries += await inbox.read(count=10, block_ms=100)
    assert [entry.payload for entry in entries] == [b"one", b"two", b"three"]
    assert await store.commit(verdicts(owned, 2)[1:]) == [CommitStatus.OK]
    assert [await subscription.get(5) for _ in range(3)] == [b"opened", b"v0", b"v1"]
    await reader.stop()


# Nodes that go


async def test_a_node_that_restarts_is_an_error_and_then_found_again_with_all_that_it_held(mortal: Cluster) -> None:
    async with client(mortal[0]) as redis:
        store = store_at(redis)
        sessions = [await opened(store, device) for device in DEVICES]
        await store.commit([commit for owned in sessions for commit in verdicts(owned, 1)])
        await mortal[1][0].stop()
        errors = [error for owned in sessions if (error := await failure(store.commit(verdicts(owned, 2)[1:])))]
        assert {type(error) for error in errors} == {RedisUnavailableError}
        await mortal[1][0].start()
        for owned in sessions:
            await until_done(lambda owned=owned: store.commit(verdicts(owned, 2)[1:]))
            assert await read_log(redis, owned.contract, 1) == [b"v0", b"v1"]


async def test_a_cluster_that_was_gone_whole_is_found_again(mortal: Cluster) -> None:
    async with client(mortal[0]) as redis:
        store = store_at(redis)
        owned = await opened(store, "phone-1")
        for server in mortal[1]:
            await server.stop()
        errors = [await failure(store.commit(verdicts(owned, 1))) for _ in range(3)]
        assert {type(error) for error in errors} == {RedisUnavailableError}
        for server in mortal[1]:
            await server.start()
        await until_done(lambda: store.commit(verdicts(owned, 1)))
        assert await read_log(redis, owned.contract, 1) == [b"v0"]


async def test_one_node_without_its_cluster_is_refused_by_name(cluster: Cluster) -> None:
    async with client(cluster[1][0].url) as redis:
        errors = [await failure(read_log(redis, Contract("acme", device, "s1", "m", "f"), 0)) for device in DEVICES]
    denied = [error for error in errors if error]
    assert {type(error) for error in denied} == {DeniedError}
    assert "redis+cluster://" in str(denied[0])


async def test_a_server_that_is_no_cluster_is_refused(redis_server: str) -> None:
    redis = open_redis(redis_server.replace("redis://", "redis+cluster://"))
    with pytest.raises(DeniedError, match="cluster support disabled"):
        await check_server(redis)
    await redis.aclose()


async def failure(asked: Awaitable[object]) -> BusError | None:
    try:
        await asked
    except BusError as error:
        return error
    return None


async def until_done(ask: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while error := await failure(ask()):
            assert isinstance(error, RedisUnavailableError)
            await asyncio.sleep(0.05)
