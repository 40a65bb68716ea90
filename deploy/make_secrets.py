"""Make the secrets of a service that compose runs, in a volume for each role; what is there is kept.

``make_secrets.py FOLDER`` makes what is missing. ``--rotate passwords`` gives Redis's users new passwords beside the
old ones, ``--finish`` ends the old ones: Redis reads its users when it starts. ``--rotate server-secret`` replaces
the secret that verifiers share.

Each role gets a folder, and finds in it files named as settings (``DSDQ_SECRETS_DIR``) that nobody else may read.
Passwords are the files'; the users' file of Redis holds their hashes, and all that `dsdq tenant` has added to it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsdq.bus.acl import GATEWAY, SELECTORS_SINCE, VERIFIER, device_name, users
from dsdq.bus.logins import fresh_password
from dsdq.sealing import KEY_BYTES
from dsdq.tenants import DEFAULT_TENANT

URL = "redis://{user}:{password}@redis:6379/0"
ADMIN, HEALTH = "dsdq-admin", "dsdq-health"
HEALTH_RULES = ("+ping",)
ADMIN_RULES = ("~*", "&*", "+@all")
SERVICE_KEY, SERVER_SECRET, REDIS_URL = "DSDQ_SERVICE_KEY", "DSDQ_SERVER_SECRET", "DSDQ_REDIS_URL"
USERS_FILE = "users.acl"
PASSWORD_FILE = "password"  # noqa: S105 - a file's name


@dataclass(frozen=True, slots=True)
class Role:
    """Who has a folder: its name, the user of Redis that it is, the process that reads it, what else it is told."""

    folder: str
    user: str
    uid: int
    shared: tuple[str, ...] = ()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Make the secrets of a service, in a folder for each role.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="Redis's data, which are given to it: a backup may be another's")
    parser.add_argument("--rotate", choices=("passwords", "server-secret"))
    parser.add_argument("--finish", action="store_true", help="end the passwords before the last")
    asked = parser.parse_args()
    uid, redis_uid, grafana_uid = (int(os.environ[name]) for name in ("DSDQ_UID", "REDIS_UID", "GRAFANA_UID"))
    roles = (
        Role("redis", HEALTH, redis_uid),
        Role("verifier", VERIFIER, uid, (SERVICE_KEY, SERVER_SECRET)),
        Role("gateway", GATEWAY, uid, (SERVICE_KEY,)),
        Role("device", device_name(DEFAULT_TENANT), uid),
        Role("admin", ADMIN, uid, (SERVICE_KEY,)),
    )
    make(asked.folder, roles, rotate=asked.rotate, finish=asked.finish)
    _make_once(asked.folder / "grafana" / PASSWORD_FILE, fresh_password)
    _give(asked.folder / "grafana", grafana_uid)
    if asked.data is not None:
        _give(asked.data, redis_uid)


def make(folder: Path, roles: tuple[Role, ...], *, rotate: str | None = None, finish: bool = False) -> None:
    """Make what is missing of all roles' files, and the users' file of Redis from their passwords."""
    shared = {SERVICE_KEY: secrets.token_hex(KEY_BYTES), SERVER_SECRET: secrets.token_hex(KEY_BYTES)}
    for name in shared:
        kept = [folder / one.folder / name for one in roles if name in one.shared]
        found = [text for text in map(_read, kept) if text is not None]
        if found and not (rotate == "server-secret" and name == SERVER_SECRET):
            shared[name] = found[0]
    for role in roles:
        place = folder / role.folder
        password = place / PASSWORD_FILE
        if rotate == "passwords":
            password.unlink(missing_ok=True)
        _make_once(password, fresh_password)
        _write(place / REDIS_URL, URL.format(user=role.user, password=_read(password)))
        for name in role.shared:
            _write(place / name, shared[name])
    hashes = {one.user: _hash(_read(folder / one.folder / PASSWORD_FILE) or "") for one in roles}
    _write_users(folder / "redis" / USERS_FILE, hashes, finish=finish)
    for role in roles:
        _give(folder / role.folder, role.uid)


def _write_users(file: Path, hashes: Mapping[str, str], *, finish: bool) -> None:
    """Write Redis's users: nobody without a password; other users that are there stay as they are."""
    lines = (_read(file) or "").splitlines()
    there = {line.split()[1]: line.split() for line in lines if line.startswith("user ")}
    rules = {user.name: user.rules for user in users((DEFAULT_TENANT,), SELECTORS_SINCE)}
    rules |= {HEALTH: HEALTH_RULES, ADMIN: ADMIN_RULES}
    for name, hashed in hashes.items():
        line = there.get(name, ["user", name, "on", *rules[name]])
        valid = [] if finish else [word for word in line if word.startswith("#")]
        if f"#{hashed}" not in valid:
            there[name] = [*(word for word in line if not word.startswith("#")), *valid, f"#{hashed}"]
    # Nobody is this user. But Redis reads its append-only file as it, and drops the transactions that it may not do.
    if not {"off", "+@all"} <= set(there.get("default", ())):
        there["default"] = ["user", "default", "off", *ADMIN_RULES]
    _write(file, "\n".join(" ".join(words) for words in there.values()))


def _make_once(file: Path, make_text: Callable[[], str]) -> None:
    if _read(file) is None:
        _write(file, make_text())


def _read(file: Path) -> str | None:
    """Return a file's content, None where there is none.

    A role may write to its own folder, and this reads them all: what is no plain file is not followed to another's.
    """
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SystemExit(f"{file}: expected a plain file, got {error.strerror}; remove it") from error
    with os.fdopen(opened) as text:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise SystemExit(f"{file}: expected a plain file; remove what is there")
        return text.read().strip()


def _write(file: Path, text: str) -> None:
    """Replace a file's content, whole or not at all; leave it alone if it is that already."""
    if _read(file) == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as opened:
        opened.write(f"{text}\n")
    fresh.replace(file)


def _give(folder: Path, uid: int) -> None:
    """Let a role use its folder, and nobody else. Redis writes its users down itself: the folder is its own."""
    for place in (folder, *folder.rglob("*")):
        os.chown(place, uid, uid, follow_symlinks=False)
    folder.chmod(0o700)


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


if __name__ == "__main__":
    main()
