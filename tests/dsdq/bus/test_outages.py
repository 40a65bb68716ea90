"""What Redis does on bad days: each is survived, or said in a sentence that an operator can act on."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import acl, scripts
from dsdq.bus.connection import Role, check_server, open_redis, server_version, translated
from dsdq.bus.dead import DeadLetters
from dsdq.bus.inbox import GROUP, Bounds, Inbox
from dsdq.bus.publishing import publish
from dsdq.bus.sessions import Commit, CommitStatus, SessionStore, read_log
from dsdq.contract import Contract
from dsdq.errors import DeniedError, RedisUnavailableError
from dsdq.testing.servers import RealServer, client

CONTRACT = Contract("acme", "phone-1", "s1", "m", "f")


@pytest.fixture
async def server(program: str, tmp_path: Path) -> AsyncIterator[RealServer]:
    async with RealServer(tmp_path, program=program) as started:
        yield started


@pytest.fixture
async def redis(server: RealServer) -> AsyncIterator[Redis]:
    async with client(server.url) as opened:
        yield opened


@pytest.fixture
async def inbox(redis: Redis) -> Inbox:
    opened = inbox_at(redis)
    await opened.open(Bounds(entries=10, kept=1, bytes_=1 << 20))
    return opened


def inbox_at(redis: Redis) -> Inbox:
    return Inbox(redis, "w1", ["acme"], DeadLetters(redis))


def store_at(redis: Redis) -> SessionStore:
    return SessionStore(redis, "w1", feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)


def as_user(url: str, user: str, password: str) -> str:
    return url.replace("//", f"//{user}:{password}@")


@pytest.mark.usefixtures("inbox")
async def test_a_server_that_was_killed_comes_back_with_all_that_it_accepted(redis: Redis, server: RealServer) -> None:
    store = store_at(redis)
    owned = await store.open(CONTRACT, length=0, digest=b"d", answer=b"opened", request=b"open")
    assert owned is not None
    await publish(redis, "w1", "acme", b"one")
    await store.commit([Commit(owned, 1, 0, 1, b"d", 1, 0, False, [b"v0"])])
    await server.kill()
    with pytest.raises(RedisUnavailableError):
        await publish(redis, "w1", "acme", b"two")
    await server.start()
    # The same client goes on; the server has forgotten the scripts.
    assert await store.commit([Commit(owned, 2, 1, 2, b"d", 2, 0, False, [b"v1"])]) == [CommitStatus.OK]
    assert await read_log(redis, CONTRACT, 0) == [b"opened", b"v0", b"v1"]
    entries = await inbox_at(redis).read(count=10, block_ms=100)
    assert [entry.payload for entry in entries] == [b"one"]


@pytest.mark.usefixtures("inbox")
async def test_a_full_server_says_so_and_takes_writes_again_when_there_is_room(redis: Redis) -> None:
    await publish(redis, "w1", "acme", b"before")
    await redis.config_set("maxmemory", "1kb")
    with pytest.raises(RedisUnavailableError, match=r"maxmemory.*OOM"):
        await publish(redis, "w1", "acme", b"a script")
    with pytest.raises(RedisUnavailableError, match=r"maxmemory.*OOM"), translated():
        await redis.xadd("a-command", {"m": "x"})
    await redis.config_set("maxmemory", "0")
    await publish(redis, "w1", "acme", b"after")
    assert await redis.xlen(keys.inbox("w1", "acme")) == 2


async def test_a_server_that_is_loading_its_data_says_so(redis: Redis, server: RealServer, program: str) -> None:
    for number in range(40):  # a server that loads looks for clients every 2 MB
        await redis.set(f"key-{number}", os.urandom(256 * 1024))
    await redis.bgrewriteaof()
    while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
        await asyncio.sleep(0.02)
    folder, port = Path((await redis.config_get("dir"))["dir"]), int(server.url.rsplit(":", 1)[1].split("/")[0])
    await server.stop()
    async with client(server.url) as other:
        slow = RealServer(folder, port=port, program=program, arguments=["--key-load-delay", "50000"])
        starting = asyncio.create_task(slow.start())
        said: list[str] = []
        while not starting.done():
            try:
                with translated():
                    await other.get("key-1")
            except RedisUnavailableError as error:
                said.append(str(error))
                await asyncio.sleep(0.01)
        await starting
        assert any("still loading its data" in sentence for sentence in said)
        assert await other.get("key-1")
        await slow.stop()


async def test_a_server_that_stands_still_is_an_error_when_the_time_is_over(server: RealServer) -> None:
    async with client(f"{server.url}?socket_timeout=0.2") as impatient:
        await impatient.ping()
        server.pause()
        try:
            with pytest.raises(RedisUnavailableError, match="Timeout"), translated():
                await impatient.get("x")
        finally:
            server.resume()
        assert await impatient.get("x") is None


async def test_entries_whose_answer_was_lost_are_read_once_the_reader_knows(redis: Redis, inbox: Inbox) -> None:
    for payload in (b"held", b"settled", b"lost", b"too"):
        await publish(redis, "w1", "acme", payload)
    _, settled = await inbox.read(count=2, block_ms=1)
    await inbox.settle([settled])
    await redis.xreadgroup(GROUP, "w1", {keys.inbox("w1", "acme"): ">"})  # an answer that never arrives
    reading = asyncio.create_task(inbox.read(count=1, block_ms=60_000))
    while not (await redis.info("clients"))["blocked_clients"]:
        await asyncio.sleep(0.01)
    await redis.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(RedisUnavailableError):  # not repeated behind the reader's back
        await reading
    assert [entry.payload for entry in await inbox.read(count=1, block_ms=1)] == [b"lost", b"too"]
    assert await inbox.read(count=1, block_ms=1) == []


async def test_a_replica_is_refused_and_what_is_written_to_it_is_told_as_such(redis: Redis) -> None:
    await redis.replicaof("127.0.0.1", 1)
    with pytest.raises(RedisUnavailableError, match="replica"):
        await check_server(redis)
    with pytest.raises(RedisUnavailableError, match=r"replica.*READONLY"):
        await store_at(redis).refuse(CONTRACT, answer=b"no", request=b"open")


async def test_an_inbox_that_the_server_lost_is_made_again(redis: Redis, inbox: Inbox) -> None:
    await redis.delete(keys.inbox("w1", "acme"))
    assert await inbox.read(count=1, block_ms=10) == []
    await publish(redis, "w1", "acme", b"one")
    assert [entry.payload for entry in await inbox.read(count=1, block_ms=100)] == [b"one"]


async def test_a_wrong_password_is_denied_and_not_tried_again(redis: Redis, server: RealServer) -> None:
    await redis.execute_command("ACL SETUSER", "bob", "on", ">right", "~*", "+@all")
    async with client(as_user(server.url, "bob", "wrong")) as bob:
        with pytest.raises(DeniedError, match=r"user and password.*WRONGPASS"):
            await publish(bob, "w1", "acme", b"x")
    (refused,) = await redis.acl_log()
    assert refused["count"] == 1


async def test_no_password_where_one_is_wanted_is_denied(redis: Redis, server: RealServer) -> None:
    await redis.config_set("requirepass", "secret")
    async with client(server.url) as nobody:
        with pytest.raises(DeniedError, match=r"wants a password.*NOAUTH"):
            await check_server(nobody)


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ("~* +@all -xreadgroup -info", "NOPERM"),
        ("~* +@all -xreadgroup -srem", "XREADGROUP GROUP probe, SREM {w.probe}:sessions probe"),
        ("~{w.*} ~{p.*} ~{m.*} ~{models}* +@all", "XADD {dead}:letters NOMKSTREAM"),
    ],
)
async def test_a_verifier_that_lacks_a_right_is_told_which_at_the_start(
    redis: Redis, server: RealServer, rules: str, missing: str
) -> None:
    await redis.execute_command("ACL SETUSER", "bob", "on", ">x", *rules.split())
    async with client(as_user(server.url, "bob", "x")) as bob:
        with pytest.raises(DeniedError, match=re.escape(missing)):
            await check_server(bob)
    assert await redis.keys("*") == []


async def test_the_users_that_dsdq_makes_have_the_rights_that_are_asked_for(redis: Redis, server: RealServer) -> None:
    if (version := await server_version(redis)) < acl.SELECTORS_SINCE:
        pytest.skip("users of dsdq need a server of version 7")
    for user in acl.users(["acme"], version):
        await redis.execute_command("ACL SETUSER", user.name, "on", ">x", *user.rules)
    async with client(as_user(server.url, acl.VERIFIER, "x")) as verifier:
        await check_server(verifier)
        await scripts.load(verifier)
    async with client(as_user(server.url, acl.device_name("acme"), "x")) as device:
        await check_server(device, role=Role.DEVICE)


async def test_a_device_that_may_do_little_is_taken_as_it_is(redis: Redis, server: RealServer) -> None:
    rules = "~* +@read +evalsha +eval +time"
    await redis.execute_command("ACL SETUSER", "phone", "on", ">x", *rules.split())
    async with client(as_user(server.url, "phone", "x")) as phone:
        await check_server(phone, role=Role.DEVICE)
    await redis.execute_command("ACL SETUSER", "phone", "-zrangebyscore", "+multi", "+discard")
    async with client(as_user(server.url, "phone", "x")) as phone:
        with pytest.raises(DeniedError, match="ZRANGEBYSCORE"):
            await check_server(phone, role=Role.DEVICE)


@pytest.mark.usefixtures("inbox")
async def test_a_script_that_may_not_write_is_denied(redis: Redis, server: RealServer) -> None:
    await redis.execute_command("ACL SETUSER", "phone", "on", ">x", "~*", "+@all", "-xadd")
    async with client(as_user(server.url, "phone", "x")) as phone:
        with pytest.raises(DeniedError, match="ACL does not allow"):
            await publish(phone, "w1", "acme", b"x")


async def test_a_path_without_a_socket_is_unavailable(tmp_path: Path) -> None:
    redis = open_redis(f"unix://{tmp_path / 'nothing.sock'}")
    with pytest.raises(RedisUnavailableError, match=r"nothing\.sock"):
        await check_server(redis)
