"""What each user of a real server may do there, and that nothing else goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.resources import files

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from dsdq import keys
from dsdq.batches import Status
from dsdq.bus import scripts
from dsdq.bus.acl import GATEWAY, VERIFIER, check_tenancy, device_name, users, version_of
from dsdq.bus.batches import BatchStore, Entry
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.dead import DeadLetters, Kind
from dsdq.bus.feed import FeedReader
from dsdq.bus.figures import FiguresStore
from dsdq.bus.files import FileBounds, FileStore
from dsdq.bus.inbox import Bounds, Inbox
from dsdq.bus.publishing import publish
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.rights import Role
from dsdq.bus.sessions import Commit, CommitStatus, Owned, SessionStore, place_of, read_head, read_log
from dsdq.bus.tenants import TenantStore
from dsdq.contract import Contract
from dsdq.errors import BusError, ConfigError, GoneError, RedisUnavailableError
from dsdq.telemetry.figures import Snapshot
from dsdq.tenants import Tenant, fresh_key
from tests.dsdq.bus.commands import (
    ANOTHER_TENANTS,
    MODEL,
    OUR_BYTES,
    OUR_FEED,
    OUR_HEAD,
    OUR_LOG,
    OURS,
    SCRIPTS,
    STATE,
    THE_GATEWAYS,
    THE_SERVERS,
    THE_WORKERS,
    THEIR_BYTES,
    THEIR_LOG,
    THEIRS,
    WORKER,
)

Login = Callable[[str], Redis]
State = dict[bytes, bytes]

INFO = WorkerInfo(WORKER, MODEL, "r", "f", "t", "n", 2048, 2048, 16, 64)
DEVICE = device_name("acme")


def contract(tenant: str, session: str = "s1") -> Contract:
    return Contract(tenant, "phone", session, MODEL, "f")


@pytest.fixture
async def admin(newest_redis_url: str) -> AsyncIterator[Redis]:
    """Give an administrator's client of a server with nothing in it but the users for acme and globex."""
    client = open_redis(newest_redis_url)
    await client.flushall()
    version = version_of((await client.info("server"))["redis_version"])
    for user in users(["acme", "globex"], version):
        await client.execute_command("ACL SETUSER", user.name, "reset", "on", ">password", *user.rules)
    yield client
    await client.aclose()


@pytest.fixture
async def login(admin: Redis, newest_redis_url: str) -> AsyncIterator[Login]:
    """Return a function that gives the client of a user."""
    del admin
    clients: list[Redis] = []

    def client_of(user: str) -> Redis:
        clients.append(open_redis(newest_redis_url.replace("//", f"//{user}:password@")))
        return clients[-1]

    yield client_of
    for client in clients:
        await client.aclose()


@pytest.fixture
async def service(login: Login) -> Inbox:
    """Serve both tenants as the verifier's user: an inbox, a session with its log and an unread message each."""
    redis = login(VERIFIER)
    inbox = Inbox(redis, WORKER, ["acme", "globex"], DeadLetters(redis))
    await inbox.open(Bounds(entries=10, kept=1, bytes_=1 << 20))
    await Registry(redis).join(INFO, 60_000)
    store = SessionStore(redis, WORKER, feed_entries=10, open_ttl_ms=60_000, closed_ttl_ms=60_000)
    await FiguresStore(redis).write(Snapshot(worker=WORKER, model=MODEL, ttl_ms=60_000))
    for tenant in ("acme", "globex"):
        await store.open(contract(tenant), length=3, digest=b"d", answer=b"opened", request=b"prompt")
        await publish(redis, WORKER, tenant, b"unread")
    return inbox


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def state_of(admin: Redis) -> State:
    return {key: await admin.dump(key) for key in await admin.keys("*")}


# What a device may do


@pytest.mark.usefixtures("service")
async def test_a_device_finds_its_verifier_publishes_and_reads_what_is_answered(login: Login) -> None:
    redis = login(DEVICE)
    assert await Registry(redis).list_models() == [MODEL]
    assert [worker.wid for worker in await Registry(redis).list_workers(MODEL)] == [WORKER]
    await publish(redis, WORKER, "acme", b"a draft", producer="phone")
    await publish(redis, WORKER, "acme", b"an open", producer="phone", opens=True)
    assert await read_log(redis, contract("acme"), 0) == [b"opened"]
    head = await read_head(redis, place_of(contract("acme")))
    assert head is not None
    assert head.worker == WORKER


async def test_a_device_follows_its_feed(login: Login, service: Inbox) -> None:
    del service
    reader = FeedReader(login(DEVICE), "phone", "acme")
    await reader.start()
    try:
        subscription = reader.subscribe(contract("acme", "s2"))
        store = SessionStore(login(VERIFIER), WORKER, feed_entries=10, open_ttl_ms=60_000, closed_ttl_ms=60_000)
        await store.open(contract("acme", "s2"), length=3, digest=b"d", answer=b"opened", request=b"prompt")
        assert await subscription.get(5) == b"opened"
    finally:
        await reader.stop()


async def test_a_device_learns_that_its_verifier_is_gone(login: Login, service: Inbox) -> None:
    await service.close()
    with pytest.raises(GoneError):
        await publish(login(DEVICE), WORKER, "acme", b"too late")


async def test_a_device_waits_for_a_verifier_to_load_the_script_after_a_restart(
    admin: Redis, login: Login, service: Inbox
) -> None:
    await admin.script_flush()
    with pytest.raises(RedisUnavailableError, match="next heartbeat"):
        await publish(login(DEVICE), WORKER, "acme", b"too early")
    await service.beat(1.0, 60_000)
    await publish(login(DEVICE), WORKER, "acme", b"now")


# What a device may not do


async def refused(redis: Redis, command: str) -> None:
    with pytest.raises(NoPermissionError):
        await redis.execute_command(*(part.replace("#", " ") for part in command.split()))


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "commands",
    [ANOTHER_TENANTS, THE_WORKERS, THE_GATEWAYS, THE_SERVERS],
    ids=["another tenant's", "the workers'", "the gateways'", "the server's"],
)
async def test_a_device_can_neither_read_nor_change_what_is_not_its_tenants(
    admin: Redis, login: Login, commands: list[str]
) -> None:
    before = await state_of(admin)
    redis = login(DEVICE)
    for command in commands:
        await refused(redis, command)
    assert await state_of(admin) == before


async def test_a_device_brings_no_script_of_its_own(login: Login) -> None:
    """One that loops would hold up the server for everybody, and could not be killed once it has written."""
    for command in SCRIPTS:
        await refused(login(DEVICE), command)
    assert await login(VERIFIER).execute_command("EVAL", "return 1", 0) == 1  # whom it is needed for


@pytest.mark.usefixtures("service")
async def test_a_device_can_publish_for_no_other_tenant(admin: Redis, login: Login) -> None:
    before = await state_of(admin)
    with pytest.raises(BusError):
        await publish(login(DEVICE), WORKER, "globex", b"forged", producer="phone")
    where = [keys.inbox(WORKER, "acme"), THEIR_BYTES, STATE]
    with pytest.raises(NoPermissionError):
        await scripts.call(login(DEVICE), "publish", where, [b"forged", "", "phone"])
    assert await state_of(admin) == before


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", sorted(file.name for file in files("dsdq.bus").joinpath("lua").iterdir()))
async def test_a_script_gives_a_device_no_rights(admin: Redis, login: Login, name: str) -> None:
    text = files("dsdq.bus").joinpath("lua", name).read_text(encoding="utf-8")
    digest = await admin.script_load(text)
    before = await state_of(admin)
    for mine in ([THEIRS, THEIR_BYTES, STATE], [OUR_HEAD, OUR_LOG, OUR_FEED], [keys.workers(MODEL), STATE, STATE]):
        with pytest.raises(NoPermissionError):
            await login(DEVICE).evalsha(digest, 3, *mine, *["1"] * 13)
    if name != "publish.lua":
        # Keys that it may name, in the places of those that a worker names: each command is looked at by itself.
        none_may_stay = ["1", "0" if name == "cut.lua" else "1", *["1"] * 11]
        with pytest.raises(ResponseError):
            await login(DEVICE).evalsha(digest, 3, OURS, OUR_BYTES, STATE, *none_may_stay)
    assert await state_of(admin) == before


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "body",
    [
        f"return redis.call('XADD', '{THEIRS}', '*', 'm', 'x')",
        f"return redis.call('XRANGE', '{THEIR_LOG}', '-', '+')",
        f"return redis.call('HSET', '{STATE}', 'closed', '1')",
        "return redis.call('HSET', KEYS[2], 'closed', '1')",
        "return redis.call('DEL', KEYS[1])",
        "return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)",
    ],
)
async def test_not_even_a_hostile_script_that_is_there_does_more_for_a_device(
    admin: Redis, login: Login, body: str
) -> None:
    digest = await admin.script_load(body)
    before = await state_of(admin)
    with pytest.raises(ResponseError, match="can't"):
        await login(DEVICE).evalsha(digest, 2, OURS, STATE)
    assert await state_of(admin) == before


NAMES = st.from_regex(keys.NAME, fullmatch=True)


@given(tenant=NAMES, other=NAMES, producer=NAMES, session=NAMES, worker=NAMES)
def test_no_name_breaks_out_of_its_place_in_a_pattern(
    tenant: str, other: str, producer: str, session: str, worker: str
) -> None:
    assume(tenant != other)
    *_, device = users([tenant], (7, 0))
    patterns = [part.strip("()") for rule in device.rules for part in rule.split()]
    patterns = [part.partition("~")[2] for part in patterns if "~" in part]
    inbox, size = keys.inbox(worker, other), keys.inbox_bytes(worker, other)
    log, head = keys.session_log(producer, other, session), keys.session_head(producer, other, session)
    for key in (
        inbox,
        size,
        log,
        head,
        keys.feed(producer, other),
        keys.worker_sessions(worker),
        keys.worker_figures(worker),
        keys.DEAD_LETTERS,
    ):
        assert [pattern for pattern in patterns if fnmatchcase(key, pattern)] == []
    assert any(fnmatchcase(keys.inbox(worker, tenant), pattern) for pattern in patterns)


# Verifiers and gateways


async def test_a_verifier_serves(login: Login, service: Inbox) -> None:
    redis = login(VERIFIER)
    entries = await service.read(count=10, block_ms=100)
    assert sorted(entry.tenant for entry in entries) == ["acme", "globex"]
    await service.bury(entries[0], Kind.MALFORMED, "no message")
    await service.settle(entries[1:])
    await service.beat(10.0, 60_000)
    store = SessionStore(redis, WORKER, feed_entries=10, open_ttl_ms=60_000, closed_ttl_ms=60_000)
    taken = await store.take_over(place_of(contract("acme")), WORKER)
    assert taken is not None
    owned = Owned(contract("acme"), taken.epoch, taken.owner)
    commit = Commit(owned, taken.entries, 3, 4, b"e", 1, 0, closes=True, messages=[b"verdict", b"closed"])
    assert await store.commit([commit]) == [CommitStatus.OK]
    await Registry(redis).renew(INFO, 60_000)
    await Registry(redis).claim(MODEL, "w0", WORKER, 1_000)
    await Registry(redis).release(MODEL, "w0")
    await Registry(redis).forget(MODEL, WORKER)
    await service.close()
    await FiguresStore(redis).forget(WORKER)
    await service.forget()


# What a verifier may ask of the server: how it is, its replicas' assent.
ITS_OWN = {"INFO", "WAIT", "SELECT"}


async def test_a_verifier_may_touch_dsdqs_keys_and_nothing_else(admin: Redis, login: Login) -> None:
    before = await state_of(admin)
    others = [command for command in THE_SERVERS if command.split()[0] not in ITS_OWN]
    for command in [
        *others,
        "GET arq:queue",
        f"GET {keys.stored_bytes('acme')}",
        f"SMEMBERS {keys.BATCH_TENANTS}",
        "CONFIG GET requirepass",
        "SWAPDB 0 1",
        "SORT {w.w1}:x",
        f"HSET {keys.TENANTS} acme x",
        f"INCR {keys.TENANTS_VERSION}",
        "FUNCTION LOAD x",
    ]:
        await refused(login(VERIFIER), command)
    assert await state_of(admin) == before


@pytest.mark.usefixtures("service")
async def test_a_gateway_speaks_for_every_tenant_knows_who_they_are_and_keeps_jobs(admin: Redis, login: Login) -> None:
    redis = login(GATEWAY)
    await admin.script_flush()
    for tenant in ("acme", "globex"):
        await publish(redis, WORKER, tenant, b"a draft", producer="phone")
        assert await read_log(redis, contract(tenant), 0) == [b"opened"]
    assert len(await Registry(redis).list_workers(MODEL)) == 1
    assert [one.worker for one in (await FiguresStore(redis).read()).snapshots] == [WORKER]
    text, key = fresh_key("acme")
    await TenantStore(admin).add(Tenant(name="acme", created=datetime.now(UTC), keys=(key,)))
    assert (await TenantStore(redis).authenticate(text)).name == "acme"
    assert await redis.hgetall(keys.quota("acme")) == {}
    async with redis.pipeline(transaction=True) as pipeline:
        await pipeline.watch("arq:job:1")
        pipeline.multi()
        pipeline.psetex("arq:job:1", 1_000, b"job")
        pipeline.zadd("arq:queue", {"1": 1})
        await pipeline.execute()


async def test_a_gateway_keeps_every_tenants_files_and_batches(admin: Redis, login: Login) -> None:
    redis = login(GATEWAY)
    await admin.script_flush()
    await check_server(redis, role=Role.GATEWAY, allow_unsafe=True)
    files, batches = FileStore(redis, FileBounds(1 << 20, 1 << 20, 60_000)), BatchStore(redis, 60_000)
    for tenant in ("acme", "globex"):
        info = await files.add(tenant, pieces(b"a line\n"), filename="f", purpose="batch")
        assert await files.newest(tenant) == [info]
        begun = await batches.create(tenant, input_file_id=info.id, endpoint="/v1/completions")
        assert await batches.add_lines(
            tenant, begun.id, [(1, "good", b"work"), (2, "good", b"more"), (3, "bad", b"no")]
        )
        assert await batches.hold(tenant, begun.id, "me", 1_000)
        await batches.let_go(tenant, begun.id, "me")
        assert await batches.move(tenant, begun.id, Status.IN_PROGRESS, [Status.VALIDATING])
        one, other = await batches.claim(tenant, "me", 2, 60_000)
        assert await batches.finish(one, Entry(completed=True, text=b"result", costs={"prompt_tokens": 1}))
        assert await batches.renew("me", {tenant: [other.member]}, 60_000) == set()
        await batches.release(tenant, "me", [other.member])
        assert (await batches.cancel(tenant, begun.id)).status is Status.CANCELLING
        assert await batches.freeze(tenant, begun.id)
        assert await batches.move(tenant, begun.id, Status.CANCELLED, [Status.CANCELLING])
        assert [one.status for one in await batches.newest(tenant)] == [Status.CANCELLED]
        await batches.forget(tenant)
        assert await files.delete(tenant, info.id)
    assert await batches.tenants() == ["acme", "globex"]
    assert [one.batches for one in await batches.look(["acme", "globex"])] == [(), ()]


@pytest.mark.usefixtures("service")
async def test_a_gateway_writes_no_log_and_no_registry(admin: Redis, login: Login) -> None:
    before = await state_of(admin)
    for command in [*THE_WORKERS, "FLUSHALL", "KEYS *", "CONFIG GET *", "SCRIPT FLUSH", "SET x 1", "ACL LIST"]:
        await refused(login(GATEWAY), command)
    assert await state_of(admin) == before


# Versions


def test_a_server_without_selectors_can_have_no_users() -> None:
    with pytest.raises(ConfigError, match=r"expected version 7\.0 or newer.*got 6\.2"):
        users(["acme"], version_of("6.2.14"))


def test_the_clients_name_may_be_set_where_the_server_knows_that_command() -> None:
    for version, known in (((7, 0), False), ((7, 2), True), ((8, 0), True)):
        assert all(("+client|setinfo" in user.rules) is known for user in users(["acme"], version))


def test_several_tenants_are_refused_where_they_could_not_be_kept_apart() -> None:
    old, new = version_of("6.2.14"), version_of("7.0.15")
    with pytest.raises(ConfigError, match=r"more than one tenant, got 6\.2 for acme, globex.*DSDQ_ALLOW_UNSAFE_REDIS"):
        check_tenancy(old, ["acme", "globex"], allow_unsafe=False)
    check_tenancy(old, ["acme", "acme"], allow_unsafe=False)
    check_tenancy(old, ["acme", "globex"], allow_unsafe=True)
    check_tenancy(new, ["acme", "globex"], allow_unsafe=False)
