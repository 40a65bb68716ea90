"""``dsdq acl``: users of the Redis server, so that devices can do no more than they must."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer
from redis.asyncio import Redis

from dsdq.bus.acl import AclUser, device_name, users, version_of
from dsdq.bus.connection import open_redis, translated
from dsdq.bus.logins import fresh_password, login_of, save_users, set_user
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError
from dsdq.keys import NAME
from dsdq.settings import settings
from dsdq.tenants import DEFAULT_TENANT

acl = typer.Typer(no_args_is_help=True, help="Users of the Redis server, and what they may do there.")


@acl.callback()
def _group() -> None:
    """Users of the Redis server, and what they may do there."""


@acl.command()
def setup(
    redis: Annotated[
        str | None, typer.Option(help="URL of the server, with an administrator's user.", show_default="DSDQ_REDIS_URL")
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(help="Whose devices get a user; repeatable.", show_default="DSDQ_TENANTS, or all that were added"),
    ] = None,
) -> None:
    """Create or correct the users of a service: verifiers, gateways, and each tenant's devices.

    Passwords come from DSDQ_ACL_PASSWORDS. A user without one there keeps its own; a new one gets a random one, printed
    once. They are set on every primary; servers do not tell their replicas: run this for those too.
    """
    tenants = tenant or list(settings().tenants)
    wrong = [name for name in tenants if not NAME.fullmatch(name)]
    if wrong:
        raise ConfigError(f"--tenant: expected names of 1 to 64 of a-z, 0-9 and -, got {', '.join(wrong)}")
    passwords = {name: given.get_secret_value() for name, given in settings().acl_passwords.items()}
    for line in asyncio.run(_set_up(redis or settings().redis_url, tenants, passwords)):
        typer.echo(line)


async def _set_up(url: str, tenants: list[str], passwords: Mapping[str, str]) -> list[str]:
    client = open_redis(url)
    try:
        with translated():
            server = await client.info("server")
        recorded = await TenantStore(client).all()
        tenants = tenants or list(recorded) or [DEFAULT_TENANT]
        off = {device_name(name) for name, one in recorded.items() if not one.enabled}
        wanted = users(tenants, version_of(server["redis_version"]))
        unknown = passwords.keys() - {user.name for user in wanted}
        if unknown:
            names = ", ".join(user.name for user in wanted)
            raise ConfigError(f"DSDQ_ACL_PASSWORDS: expected some of {names}, got {', '.join(sorted(unknown))}")
        with translated():
            lines = [await _set(client, user, passwords.get(user.name), on=user.name not in off) for user in wanted]
            return [*lines, *await _others(client, wanted), *await _open_door(client), *await _save(client)]
    finally:
        await client.aclose()


async def _set(redis: Redis, user: AclUser, given: str | None, *, on: bool) -> str:
    """Give a user its rules and, if need be, a password; say what was done."""
    known = await login_of(redis, user.name)
    if given is None and known is not None and known.is_guarded:
        chosen, said = None, "password kept"
    else:
        chosen = given or fresh_password()
        said = "password as given" if given else f"password {chosen}"
    await set_user(redis, user, on=on, password=chosen, only=chosen is not None)
    return f"{user.name}: {'updated' if known else 'created'}, {said}{'' if on else ', off: its tenant is disabled'}"


async def _others(redis: Redis, wanted: list[AclUser]) -> list[str]:
    """Name users of tenants that are not served any more: they can still log in."""
    names = set(await redis.acl_users()) - {user.name for user in wanted}
    left = sorted(name for name in names if name.startswith(device_name("")))
    return [f"note: {name} is left as it was; remove it with ACL DELUSER {name} if nobody needs it" for name in left]


async def _open_door(redis: Redis) -> list[str]:
    default = await redis.acl_getuser("default")
    if "on" not in default["flags"] or "nopass" not in default["flags"]:
        return []
    return ["note: user default still needs no password; when everybody has their own user, ACL SETUSER default off"]


async def _save(redis: Redis) -> list[str]:
    error = await save_users(redis)
    return [] if error is None else [f"note: the users are gone when the server restarts: {error}"]
