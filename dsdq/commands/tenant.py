"""``dsdq tenant``: add tenants, bound them, change their keys without a pause, shut them out."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from dsdq.bus.acl import SELECTORS_SINCE, device_name, users
from dsdq.bus.connection import open_redis, server_version
from dsdq.bus.logins import fresh_password, keep_newest_password, login_of, save_users, set_user, switch
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError
from dsdq.keys import NAME
from dsdq.sealing import KEY_BYTES
from dsdq.settings import settings
from dsdq.tenants import Limits, Tenant, fresh_key, wrap

T = TypeVar("T")
Url = Annotated[
    str | None,
    typer.Option("--redis", help="URL of the server, with an administrator's user.", show_default="DSDQ_REDIS_URL"),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant, of a-z, 0-9 and -.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Weight = Annotated[float | None, typer.Option(min=0.001, max=1e6, help="Its part of a busy verifier; 1 at first.")]
Requests = Annotated[int | None, typer.Option(min=0, help="Sessions that it may begin in a minute; 0: no limit.")]
Committed = Annotated[int | None, typer.Option(min=0, help="Tokens that it may generate in a minute; 0: no limit.")]
Verified = Annotated[int | None, typer.Option(min=0, help="Positions verified for it in a minute; 0: no limit.")]
AtOnce = Annotated[int | None, typer.Option(min=0, help="Sessions that it may have at once; 0: no limit.")]
Monthly = Annotated[int | None, typer.Option(min=0, help="Tokens that it may generate in a month (UTC); 0: no limit.")]

tenant = typer.Typer(no_args_is_help=True, help="Who shares the verifiers: keys, limits, fair shares.")


@tenant.command()
def add(
    name: Name,
    redis: Url = None,
    weight: Weight = None,
    requests_per_minute: Requests = None,
    committed_per_minute: Committed = None,
    verified_per_minute: Verified = None,
    sessions: AtOnce = None,
    committed_per_month: Monthly = None,
) -> None:
    """Add a tenant. Its API key and its devices' password at Redis are shown now and never again.

    With DSDQ_SERVICE_KEY set its devices must seal their messages: `dsdq keys producer` prints a key for each, made
    from a secret that nobody is shown.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"expected a tenant's name of 1 to 64 of a-z, 0-9 and -, got {name!r}")
    given = _limits(requests_per_minute, committed_per_minute, verified_per_minute, sessions, committed_per_month)

    async def _add(store: TenantStore, client: Redis) -> list[str]:
        text, key = fresh_key(name)
        wrapped = _fresh_secret(name)
        record = Tenant(
            name=name,
            created=datetime.now(UTC),
            weight=1.0 if weight is None else weight,
            limits=_limited(Limits(), given),
            keys=(key,),
            secrets=wrapped,
        )
        await store.add(record)
        typer.echo(f"tenant {name} added\nAPI key: {text}")  # now: whatever fails below, nobody could show it again
        return await _give_password(client, record, fresh=True)

    _say(redis, _add)


@tenant.command("list")
def list_tenants(redis: Url = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """List all tenants."""
    found = _run(redis, lambda store, _: store.all())
    if as_json:
        typer.echo(json.dumps([_facts(one) for one in found.values()], indent=2))
        return
    table = Table("tenant", "weight", "enabled", "limits", "API keys", title="tenants")
    for one in found.values():
        limits = ", ".join(f"{name} {value}" for name, value in one.limits.model_dump(exclude_none=True).items())
        table.add_row(one.name, f"{one.weight:g}", "yes" if one.enabled else "no", limits or "none", _keys(one))
    Console().print(table)


@tenant.command()
def show(name: Name, redis: Url = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """Show one tenant: its share, its limits, the ids of its API keys."""
    facts = _facts(_run(redis, lambda store, _: store.get(name)))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table("field", "value", show_header=False)
    for field, value in facts.items():
        table.add_row(field, str(value))
    Console().print(table)


@tenant.command()
def limit(
    name: Name,
    redis: Url = None,
    weight: Weight = None,
    requests_per_minute: Requests = None,
    committed_per_minute: Committed = None,
    verified_per_minute: Verified = None,
    sessions: AtOnce = None,
    committed_per_month: Monthly = None,
) -> None:
    """Change a tenant's share or limits; what is not named stays as it is. Verifiers go by it within a second."""
    given = _limits(requests_per_minute, committed_per_minute, verified_per_minute, sessions, committed_per_month)
    if weight is None and not given:
        raise ConfigError("expected a weight or a limit to change, got none")

    def _changed(one: Tenant) -> Tenant:
        share = one.weight if weight is None else weight
        return one.model_copy(update={"weight": share, "limits": _limited(one.limits, given)})

    async def _limit(store: TenantStore, _: Redis) -> list[str]:
        changed = await store.change(name, _changed)
        return [f"tenant {name}: weight {changed.weight:g}, limits {changed.limits.model_dump(exclude_none=True)}"]

    _say(redis, _limit)


@tenant.command()
def rotate(
    name: Name,
    redis: Url = None,
    finish: Annotated[bool, typer.Option("--finish", help="End the old ones.")] = False,  # noqa: FBT002 - a flag
    seal: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--seal", help="Give a secret to a tenant without one: its devices must seal at once.")
    ] = False,
) -> None:
    """Give a tenant a new API key, secret and password beside the old ones; with --finish the old ones end.

    In between both are valid: devices and applications change over one by one, without a pause.
    """

    async def _begin(store: TenantStore, client: Redis) -> list[str]:
        before = await store.get(name)
        if len(before.keys) > 1:
            raise ConfigError(f"tenant {name}: expected no rotation under way, got one; end it with --finish first")
        if (before.secrets or seal) and settings().service_key is None:
            raise ConfigError(f"tenant {name}: expected DSDQ_SERVICE_KEY, to encrypt its new secret with, got none")
        text, key = fresh_key(name)
        fresh = _fresh_secret(name) if before.secrets or seal else ()
        changed = await store.change(
            name, lambda one: one.model_copy(update={"keys": (key, *one.keys), "secrets": (*fresh, *one.secrets)})
        )
        typer.echo(f"API key: {text}")
        return [*await _give_password(client, changed, fresh=False), "the old ones are valid too, until --finish"]

    async def _finish(store: TenantStore, client: Redis) -> list[str]:
        await store.change(name, lambda one: one.model_copy(update={"keys": one.keys[:1], "secrets": one.secrets[:1]}))
        said = [f"tenant {name}: the old API keys and secrets have ended"]
        if await keep_newest_password(client, device_name(name)):
            said.append(f"Redis user {device_name(name)}: the old password has ended")
        return [*said, *await _save(client)]

    _say(redis, _finish if finish else _begin)


@tenant.command()
def disable(name: Name, redis: Url = None) -> None:
    """Shut a tenant out: its sessions end within seconds, its keys are refused, its devices cannot log in."""

    async def _disable(store: TenantStore, client: Redis) -> list[str]:
        await store.change(name, lambda one: one.model_copy(update={"enabled": False}))
        return [f"tenant {name} disabled", *await _switch(client, name, on=False)]

    _say(redis, _disable)


@tenant.command()
def enable(name: Name, redis: Url = None) -> None:
    """Let a tenant in again."""

    async def _enable(store: TenantStore, client: Redis) -> list[str]:
        await store.change(name, lambda one: one.model_copy(update={"enabled": True}))
        return [f"tenant {name} enabled", *await _switch(client, name, on=True)]

    _say(redis, _enable)


# Records


def _limits(*given: int | None) -> dict[str, int | None]:
    """Return the limits that were named, in the order of :class:`Limits`; None where one is to end."""
    named = zip(Limits.model_fields, given, strict=True)
    return {name: value or None for name, value in named if value is not None}


def _limited(limits: Limits, given: dict[str, int | None]) -> Limits:
    return Limits.model_validate({**limits.model_dump(), **given})


def _fresh_secret(name: str) -> tuple[str, ...]:
    """Return a new wrapped secret for a tenant's devices; none where there is no key to wrap it with."""
    service_key = settings().service_key
    if service_key is None:
        return ()
    return (wrap(service_key.get_secret_value(), name, secrets.token_bytes(KEY_BYTES)),)


def _facts(one: Tenant) -> dict[str, object]:
    """Return what may be shown of a tenant."""
    return {
        "name": one.name,
        "created": one.created.isoformat(timespec="seconds"),
        "enabled": one.enabled,
        "weight": one.weight,
        "limits": one.limits.model_dump(exclude_none=True),
        "api_keys": [key.id for key in one.keys],
        "devices_must_seal": bool(one.secrets),
        "rotation_under_way": len(one.keys) > 1,
    }


def _keys(one: Tenant) -> str:
    return ", ".join(key.id for key in one.keys)


# Users of Redis


async def _give_password(redis: Redis, record: Tenant, *, fresh: bool) -> list[str]:
    """Give a tenant's devices a user, or one more password; say what it is."""
    version = await server_version(redis)
    if version < SELECTORS_SINCE:
        return ["note: this Redis is older than 7 and keeps no tenants apart; their devices have no user of their own"]
    password = fresh_password()
    (user,) = (one for one in users([record.name], version) if one.name == device_name(record.name))
    await set_user(redis, user, on=record.enabled, password=password, only=fresh)
    return [f"Redis user: {user.name}", f"Redis password: {password}", *await _save(redis)]


async def _switch(redis: Redis, name: str, *, on: bool) -> list[str]:
    user = device_name(name)
    if await server_version(redis) < SELECTORS_SINCE or await login_of(redis, user) is None:
        return []
    await switch(redis, user, on=on)
    return [f"Redis user {user}: {'on' if on else 'off'}", *await _save(redis)]


async def _save(redis: Redis) -> list[str]:
    error = await save_users(redis)
    return [] if error is None else [f"note: users of Redis are as before when the server restarts: {error}"]


# Running


def _say(url: str | None, work: Callable[[TenantStore, Redis], Awaitable[list[str]]]) -> None:
    for line in _run(url, work):
        typer.echo(line)


def _run(url: str | None, work: Callable[[TenantStore, Redis], Awaitable[T]]) -> T:
    async def _work() -> T:
        client = open_redis(url or settings().redis_url)
        try:
            return await work(TenantStore(client), client)
        finally:
            await client.aclose()

    return asyncio.run(_work())
