"""``dsdq tenant`` on a real server: what it prints works, what it ends does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from dsdq.bus.connection import open_redis
from dsdq.bus.tenants import TenantStore
from dsdq.commands.acl import acl
from dsdq.commands.keys import keys
from dsdq.commands.tenant import tenant
from dsdq.errors import ConfigError, DeniedError
from dsdq.sealing import producer_key
from dsdq.settings import settings
from dsdq.tenants import unwrap
from tests.dsdq.commands.test_acl import logs_in

SERVICE_KEY = bytes(range(32))
USER = "dsdq-device-acme"
Run = Callable[..., Awaitable[str]]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DSDQ_SERVICE_KEY", SERVICE_KEY.hex())
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
async def admin(newest_redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(newest_redis_url)
    await client.flushall()
    left = [name for name in await client.acl_users() if name != "default"]
    if left:
        await client.acl_deluser(*left)
    yield client
    await client.aclose()


@pytest.fixture
def run(admin: Redis, newest_redis_url: str) -> Run:
    """Return what runs the command and gives what it printed, or raises what it failed with."""
    del admin

    async def run(*arguments: str) -> str:
        ran = await asyncio.to_thread(CliRunner().invoke, tenant, [*arguments, "--redis", newest_redis_url])
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return ran.output

    return run


def shown(said: str, what: str) -> str:
    found = re.search(rf"^{what}: (\S+)$", said, flags=re.MULTILINE)
    assert found is not None, said
    return found[1]


async def test_what_is_shown_at_first_works_and_is_shown_once(run: Run, admin: Redis, newest_redis_url: str) -> None:
    said = await run("add", "acme", "--weight", "3", "--sessions", "2")
    record = await TenantStore(admin).authenticate(shown(said, "API key"))
    assert (record.name, record.weight, record.limits.sessions) == ("acme", 3, 2)
    assert await logs_in(newest_redis_url, USER, shown(said, "Redis password"))
    for again in (await run("show", "acme"), await run("list"), await run("show", "acme", "--json")):
        assert shown(said, "API key") not in again
        assert shown(said, "Redis password") not in again


async def test_a_device_seals_with_a_key_from_the_record(run: Run, admin: Redis, newest_redis_url: str) -> None:
    await run("add", "acme")
    (wrapped,) = (await TenantStore(admin).get("acme")).secrets
    arguments = ["producer", "--tenant", "acme", "--producer", "phone-7", "--redis", newest_redis_url]
    printed = await asyncio.to_thread(CliRunner().invoke, keys, arguments)
    assert printed.stdout.strip() == producer_key(unwrap(SERVICE_KEY, "acme", wrapped), "phone-7").hex()


async def test_a_limit_is_changed_by_itself_and_ends_with_0(run: Run, admin: Redis) -> None:
    await run("add", "acme", "--sessions", "2", "--committed-per-minute", "1000")
    await run("limit", "acme", "--committed-per-minute", "2000", "--weight", "0.5")
    changed = await TenantStore(admin).get("acme")
    assert (changed.weight, changed.limits.sessions, changed.limits.committed_per_minute) == (0.5, 2, 2000)
    await run("limit", "acme", "--sessions", "0")
    assert (await TenantStore(admin).get("acme")).limits.sessions is None
    with pytest.raises(ConfigError, match="expected a weight or a limit"):
        await run("limit", "acme")


async def test_while_keys_are_rotated_both_work_and_afterwards_the_new_ones_alone(
    run: Run, admin: Redis, newest_redis_url: str
) -> None:
    old, store = await run("add", "acme"), TenantStore(admin)
    new = await run("rotate", "acme")
    for said in (old, new):
        assert (await store.authenticate(shown(said, "API key"))).name == "acme"
        assert await logs_in(newest_redis_url, USER, shown(said, "Redis password"))
    assert len((await store.get("acme")).secrets) == 2
    with pytest.raises(ConfigError, match="--finish"):
        await run("rotate", "acme")
    newest_secret = (await store.get("acme")).secrets[0]
    await run("rotate", "acme", "--finish")
    assert (await store.get("acme")).secrets == (newest_secret,)
    assert (await store.authenticate(shown(new, "API key"))).name == "acme"
    assert await logs_in(newest_redis_url, USER, shown(new, "Redis password"))
    with pytest.raises(DeniedError):
        await store.authenticate(shown(old, "API key"))
    assert not await logs_in(newest_redis_url, USER, shown(old, "Redis password"))


async def test_who_is_disabled_is_shut_out_until_enabled_again(run: Run, admin: Redis, newest_redis_url: str) -> None:
    said, store = await run("add", "acme"), TenantStore(admin)
    inside = open_redis(newest_redis_url.replace("//", f"//{USER}:{shown(said, 'Redis password')}@"))
    assert await inside.ping()
    connections = await admin.client_list()
    assert any(one["user"] == USER for one in connections)
    await run("disable", "acme")
    assert not any(one["user"] == USER for one in await admin.client_list())
    assert not await logs_in(newest_redis_url, USER, shown(said, "Redis password"))
    with pytest.raises(DeniedError, match="disabled"):
        await store.authenticate(shown(said, "API key"))
    await run("enable", "acme")
    assert await logs_in(newest_redis_url, USER, shown(said, "Redis password"))
    await inside.aclose()


async def test_what_is_set_up_anew_does_not_let_in_who_is_disabled(
    run: Run, admin: Redis, newest_redis_url: str
) -> None:
    said = await run("add", "acme")
    await run("disable", "acme")
    again = await asyncio.to_thread(CliRunner().invoke, acl, ["setup", "--redis", newest_redis_url])
    assert f"{USER}: updated, password kept, off: its tenant is disabled" in again.stdout
    rotated = await run("rotate", "acme")
    for password in (shown(said, "Redis password"), shown(rotated, "Redis password")):
        assert not await logs_in(newest_redis_url, USER, password)
    await run("enable", "acme")
    assert await logs_in(newest_redis_url, USER, shown(rotated, "Redis password"))
    assert "on" in (await admin.acl_getuser(USER))["flags"]


async def test_a_tenant_without_a_secret_gets_one_only_where_that_is_asked_for(
    run: Run, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = TenantStore(admin), SERVICE_KEY.hex()
    monkeypatch.delenv("DSDQ_SERVICE_KEY")
    settings.cache_clear()
    await run("add", "acme")
    with pytest.raises(ConfigError, match="DSDQ_SERVICE_KEY"):
        await run("rotate", "acme", "--seal")
    monkeypatch.setenv("DSDQ_SERVICE_KEY", key)
    settings.cache_clear()
    await run("rotate", "acme")
    await run("rotate", "acme", "--finish")
    assert (await store.get("acme")).secrets == ()
    await run("rotate", "acme", "--seal")
    assert len((await store.get("acme")).secrets) == 1


async def test_what_is_wrong_is_said(run: Run) -> None:
    await run("add", "acme")
    for arguments, expected in (
        (("add", "acme"), "added before"),
        (("add", "Acme Inc"), "a-z, 0-9"),
        (("show", "globex"), "tenant list"),
        (("disable", "globex"), "tenant list"),
    ):
        with pytest.raises(ConfigError, match=expected):
            await run(*arguments)


async def test_all_tenants_are_listed(run: Run) -> None:
    await run("add", "globex", "--requests-per-minute", "60")
    await run("add", "acme")
    listed = json.loads(await run("list", "--json"))
    assert [one["name"] for one in listed] == ["acme", "globex"]
    assert listed[1]["limits"] == {"requests_per_minute": 60}
    assert "globex" in await run("list")


async def test_without_a_service_key_devices_have_no_secret(
    run: Run, admin: Redis, monkeypatch: pytest.MonkeyPatch, newest_redis_url: str
) -> None:
    monkeypatch.delenv("DSDQ_SERVICE_KEY")
    settings.cache_clear()
    await run("add", "acme")
    assert (await TenantStore(admin).get("acme")).secrets == ()
    arguments = ["producer", "--tenant", "acme", "--producer", "phone-7", "--redis", newest_redis_url]
    assert isinstance((await asyncio.to_thread(CliRunner().invoke, keys, arguments)).exception, ConfigError)


async def test_a_server_that_keeps_no_tenants_apart_gets_no_users(redis: Redis, redis_url: str) -> None:
    ran = await asyncio.to_thread(CliRunner().invoke, tenant, ["add", "acme", "--redis", redis_url])
    assert "older than 7" in ran.output
    assert (await TenantStore(redis).get("acme")).name == "acme"
