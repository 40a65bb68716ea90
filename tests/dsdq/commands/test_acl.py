"""``dsdq acl setup`` on a real server: users with their rights and passwords, made once and corrected ever after."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from unittest.mock import create_autospec

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError
from typer.testing import CliRunner, Result

from dsdq.bus.connection import open_redis
from dsdq.bus.tenants import TenantStore
from dsdq.commands.acl import _save, acl
from dsdq.errors import BusError, ConfigError
from dsdq.settings import settings
from dsdq.tenants import Tenant

Setup = Callable[..., Awaitable[Result]]
NAMES = ["dsdq-verifier", "dsdq-gateway", "dsdq-device-acme", "dsdq-device-globex"]
GIVEN = "a-password-of-24-letters"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
async def admin(newest_redis_url: str) -> AsyncIterator[Redis]:
    """Give an administrator's client of a server without any user but that one."""
    client = open_redis(newest_redis_url)
    left = [name for name in await client.acl_users() if name != "default"]
    if left:
        await client.acl_deluser(*left)
    yield client
    await client.aclose()


@pytest.fixture
def setup(admin: Redis, newest_redis_url: str) -> Setup:
    del admin

    async def run(*arguments: str) -> Result:
        chosen = arguments or ("--tenant", "acme", "--tenant", "globex")
        return await asyncio.to_thread(CliRunner().invoke, acl, ["setup", "--redis", newest_redis_url, *chosen])

    return run


def passwords(said: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+): created, password ([0-9a-f]+)$", said, flags=re.MULTILINE))


async def logs_in(url: str, user: str, password: str) -> bool:
    client = open_redis(url.replace("//", f"//{user}:{password}@"))
    try:
        return bool(await client.ping())
    except AuthenticationError:
        return False
    finally:
        await client.aclose()


async def test_every_user_gets_a_password_that_is_shown_once_and_logs_in(setup: Setup, newest_redis_url: str) -> None:
    made = await setup()
    assert made.exit_code == 0, made.output
    fresh = passwords(made.stdout)
    assert list(fresh) == NAMES
    assert len(set(fresh.values())) == 4
    for user, password in fresh.items():
        assert await logs_in(newest_redis_url, user, password)
    assert not await logs_in(newest_redis_url, NAMES[0], fresh[NAMES[1]])


async def test_without_a_name_all_tenants_that_were_added_get_users(
    admin: Redis, setup: Setup, newest_redis_url: str
) -> None:
    await admin.flushall()
    assert "dsdq-device-default" in (await setup("--redis", newest_redis_url)).stdout
    for name in ("acme", "globex"):
        await TenantStore(admin).add(Tenant(name=name, created=datetime.now(UTC)))
    made = await setup("--redis", newest_redis_url)
    assert set(NAMES) <= set(await admin.acl_users())
    assert "dsdq-device-default is left" in made.stdout
    await admin.flushall()


async def test_running_it_twice_gives_the_same_users(setup: Setup, admin: Redis) -> None:
    first = await setup()
    before = await admin.acl_list()
    again = await setup()
    assert await admin.acl_list() == before
    assert len(before) == 5
    assert again.stdout.count("updated, password kept") == 4
    assert not any(password in again.stdout for password in passwords(first.stdout).values())


async def test_a_user_that_was_given_more_loses_it_again_and_keeps_its_password(
    setup: Setup, admin: Redis, newest_redis_url: str
) -> None:
    fresh = passwords((await setup()).stdout)
    before = await admin.acl_list()
    await admin.execute_command("ACL SETUSER", NAMES[2], "off", "allcommands", "allkeys", "allchannels", "(+@all ~*)")
    await setup()
    assert await admin.acl_list() == before
    assert await logs_in(newest_redis_url, NAMES[2], fresh[NAMES[2]])


async def test_a_user_without_a_password_gets_one(setup: Setup, admin: Redis, newest_redis_url: str) -> None:
    await admin.execute_command("ACL SETUSER", NAMES[2], "on", "nopass")
    said = (await setup()).stdout
    assert re.search(rf"^{NAMES[2]}: updated, password [0-9a-f]+$", said, flags=re.MULTILINE)
    assert not await logs_in(newest_redis_url, NAMES[2], "anything")


async def test_a_given_password_replaces_the_one_before_and_is_not_printed(
    setup: Setup, newest_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = passwords((await setup()).stdout)
    settings.cache_clear()
    monkeypatch.setenv("DSDQ_ACL_PASSWORDS", f"{NAMES[2]}={GIVEN}")
    given = await setup()
    assert f"{NAMES[2]}: updated, password as given" in given.stdout
    assert GIVEN not in given.output
    assert await logs_in(newest_redis_url, NAMES[2], GIVEN)
    assert not await logs_in(newest_redis_url, NAMES[2], fresh[NAMES[2]])


async def test_a_password_for_nobody_is_refused_before_anything_is_done(
    setup: Setup, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSDQ_ACL_PASSWORDS", f"dsdq-device-initech={GIVEN}")
    ended = await setup()
    assert isinstance(ended.exception, ConfigError)
    assert "dsdq-device-initech" in str(ended.exception)
    assert GIVEN not in str(ended.exception)
    assert len(await admin.acl_list()) == 1


async def test_the_tenants_are_those_of_the_settings_unless_named(
    setup: Setup, admin: Redis, newest_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSDQ_TENANTS", "initech")
    await asyncio.to_thread(CliRunner().invoke, acl, ["setup", "--redis", newest_redis_url])
    assert "dsdq-device-initech" in await admin.acl_users()
    said = (await setup("--tenant", "acme")).stdout
    assert "ACL DELUSER dsdq-device-initech" in said


async def test_the_users_are_saved_and_an_open_door_is_said(setup: Setup, admin: Redis) -> None:
    said = (await setup()).stdout
    assert "ACL SETUSER default off" in said
    assert "gone" not in said
    await admin.execute_command("ACL LOAD")
    assert len(await admin.acl_users()) == 5


async def test_users_that_would_not_outlive_the_server_are_said() -> None:
    refusing = create_autospec(Redis, instance=True)
    refusing.acl_save.side_effect = ResponseError("This Redis instance is not configured to use an ACL file")
    (note,) = await _save(refusing)
    assert "gone when the server restarts" in note
    assert "ACL file" in note


async def test_a_name_that_is_none_is_refused(setup: Setup) -> None:
    ended = await setup("--tenant", "acme ~* +@all")
    assert isinstance(ended.exception, ConfigError)
    assert "--tenant" in str(ended.exception)


async def test_no_server_is_said_in_the_projects_own_error() -> None:
    ended = await asyncio.to_thread(CliRunner().invoke, acl, ["setup", "--redis", "redis://127.0.0.1:1/0"])
    assert isinstance(ended.exception, BusError)
