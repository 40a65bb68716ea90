"""``dsdq acl``: users of the Redis server, so that devices can do no more than they must."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from typing import Annotated

import typer
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dsdq.bus.acl import AclUser, device_name, users, version_of
from dsdq.bus.connection import open_redis, translated
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError
from dsdq.keys import NAME
from dsdq.settings import settings
from dsdq.tenants import DEFAULT_TENANT

PASSWORD_BYTES = 24

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
    once. Servers do not tell one another their users: run this for each, replicas too.
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
        tenants = tenants or list(await TenantStore(client).all()) or [DEFAULT_TENANT]
        wanted = users(tenants, version_of(server["redis_version"]))
        unknown = passwords.keys() - {user.name for user in wanted}
        if unknown:
            names = ", ".join(user.name for user in wanted)
            raise ConfigError(f"DSDQ_ACL_PASSWORDS: expected some of {names}, got {', '.join(sorted(unknown))}")
        with translated():
            lines = [await _set(client, user, passwords.get(user.name)) for user in wanted]
            return [*lines, *await _others(client, wanted), *await _open_door(client), *await _save(client)]
    finally:
        await client.aclose()


async def _set(redis: Redis, user: AclUser, given: str | None) -> str:
    """Give a user its rules and, if need be, a password; say what was done."""
    known = await redis.acl_getuser(user.name)
    if given is None and known and known["passwords"] and "nopass" not in known["flags"]:
        password, said = [], "password kept"
    else:
        chosen = given or secrets.token_hex(PASSWORD_BYTES)
        # Only its hash is sent, so that no monitor and no proxy sees it.
        password = ["resetpass", f"#{hashlib.sha256(chosen.encode()).hexdigest()}"]
        said = "password as given" if given else f"password {chosen}"
    cleared = ("on", "resetkeys", "resetchannels", "clearselectors", "nocommands")
    await redis.execute_command("ACL SETUSER", user.name, *cleared, *password, *user.rules)
    return f"{user.name}: {'updated' if known else 'created'}, {said}"


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
    try:
        await redis.acl_save()
    except ResponseError as error:
        return [f"note: the users are gone when the server restarts, since they could not be saved: {error}"]
    return []
