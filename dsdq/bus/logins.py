"""Users of Redis as they are set on servers: their rights, their passwords, whether they may log in.

Servers do not tell one another their users: what is set here is set on every primary. Only hashes of passwords are
sent, so that no monitor and no proxy sees one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dsdq.bus.acl import AclUser
from dsdq.bus.connection import primaries, translated

PASSWORD_BYTES = 24
_CLEARED = ("resetkeys", "resetchannels", "clearselectors", "nocommands")


@dataclass(frozen=True, slots=True)
class Login:
    """A user as one server has it: hashes of its passwords, oldest first, and flags such as ``on`` and ``nopass``."""

    passwords: Sequence[str] = field(repr=False)
    flags: Sequence[str]

    @property
    def is_guarded(self) -> bool:
        """Say whether it needs a password and has one."""
        return bool(self.passwords) and "nopass" not in self.flags


def fresh_password() -> str:
    """Return a password that nobody guesses."""
    return secrets.token_hex(PASSWORD_BYTES)


async def login_of(redis: Redis, name: str) -> Login | None:
    """Return a user as the first server has it, None where there is none of that name."""
    with translated():
        async with primaries(redis) as servers:
            found = await servers[0].acl_getuser(name)
    return None if found is None else Login(found["passwords"], found["flags"])


async def set_user(redis: Redis, user: AclUser, *, on: bool, password: str | None = None, only: bool = False) -> None:
    """Give a user its rules, whatever it had, and a password beside those that it has; ``only`` that if so wished."""
    added = [] if password is None else [f"#{hashlib.sha256(password.encode()).hexdigest()}"]
    passwords = ["resetpass", *added] if only else added
    await _everywhere(redis, "ACL SETUSER", user.name, "on" if on else "off", *_CLEARED, *passwords, *user.rules)


async def switch(redis: Redis, name: str, *, on: bool) -> None:
    """Let a user log in, or end its connections and let it do so no more."""
    await _everywhere(redis, "ACL SETUSER", name, "on" if on else "off")
    if not on:
        await _everywhere(redis, "CLIENT KILL USER", name)


async def keep_newest_password(redis: Redis, name: str) -> bool:
    """End all passwords of a user but its newest one, and who logged in with them; say whether there was another."""
    login = await login_of(redis, name)
    if login is None or len(login.passwords) < 2:
        return False
    await _everywhere(redis, "ACL SETUSER", name, "resetpass", f"#{login.passwords[-1]}")
    await _everywhere(redis, "CLIENT KILL USER", name)
    return True


async def save_users(redis: Redis) -> str | None:
    """Let servers write their users down; return why one could not: then they are gone when it restarts."""
    with translated():
        async with primaries(redis) as servers:
            try:
                for server in servers:
                    await server.acl_save()
            except ResponseError as error:
                return str(error)
    return None


async def _everywhere(redis: Redis, *command: str) -> None:
    with translated():
        async with primaries(redis) as servers:
            for server in servers:
                await server.execute_command(*command)
