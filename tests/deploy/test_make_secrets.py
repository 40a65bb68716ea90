"""Secrets are made once, for each role its own; Redis takes the users that come of them."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from deploy.make_secrets import ADMIN, HEALTH, SERVER_SECRET, SERVICE_KEY, Role, make
from deploy.requirements import requirements
from dsdq.bus.acl import GATEWAY, VERIFIER, device_name
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.embedded import EmbeddedRedis, free_port
from dsdq.bus.rights import Role as Asking
from dsdq.processes import spawn
from dsdq.testing.servers import until
from tests.conftest import newest_server

UID = os.getuid()
ROLES = (
    Role("redis", HEALTH, UID),
    Role("verifier", VERIFIER, UID, (SERVICE_KEY, SERVER_SECRET)),
    Role("gateway", GATEWAY, UID, (SERVICE_KEY,)),
    Role("device", device_name("default"), UID),
    Role("admin", ADMIN, UID, (SERVICE_KEY,)),
)


def files_of(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}


def users_of(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "redis/users.acl").read_text().splitlines()
    return {line.split()[1]: line.split()[2:] for line in lines}


@pytest.fixture
async def admin() -> AsyncIterator[Redis]:
    """Give a client of a server that is new enough for the users."""
    async with EmbeddedRedis(port=0, program=newest_server()) as server:
        client = open_redis(server.url)
        yield client
        await client.aclose()


@pytest.mark.parametrize("name", ["password", "users.acl", "DSDQ_REDIS_URL"])
def test_a_role_that_puts_a_link_into_its_folder_gets_nothing_by_it(tmp_path: Path, name: str) -> None:
    make(tmp_path, ROLES)
    before = files_of(tmp_path / "admin")
    (tmp_path / "redis" / name).unlink()
    (tmp_path / "redis" / name).symlink_to(tmp_path / "admin" / SERVICE_KEY)
    with pytest.raises(SystemExit, match=f"redis/{name}: expected a plain file"):
        make(tmp_path, ROLES)
    assert files_of(tmp_path / "admin") == before


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    before = files_of(tmp_path)
    make(tmp_path, ROLES)
    assert files_of(tmp_path) == before


def test_what_is_missing_is_made_and_the_rest_kept(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    before = files_of(tmp_path)
    for name in ("gateway/DSDQ_SERVICE_KEY", "verifier/DSDQ_REDIS_URL", "redis/users.acl"):
        (tmp_path / name).unlink()
    make(tmp_path, ROLES)
    assert files_of(tmp_path) == before


def test_roles_share_keys_but_no_password(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    found = files_of(tmp_path)
    assert len({found[f"{role.folder}/password"] for role in ROLES}) == len(ROLES)
    assert len({found[f"{name}/DSDQ_SERVICE_KEY"] for name in ("verifier", "gateway", "admin")}) == 1
    assert not [name for name in found if name.startswith("device/") and ("KEY" in name or "SECRET" in name)]


def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    for role in ROLES:
        assert stat.S_IMODE((tmp_path / role.folder).stat().st_mode) == 0o700
        assert {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / role.folder).iterdir()} == {0o400}


def test_passwords_are_in_no_file_of_redis(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    written = (tmp_path / "redis/users.acl").read_text()
    assert not [role for role in ROLES if (tmp_path / role.folder / "password").read_text().strip() in written]


async def test_redis_takes_them_and_each_may_do_what_its_role_does(tmp_path: Path, admin: Redis) -> None:
    make(tmp_path, ROLES)
    for name, rules in users_of(tmp_path).items():
        await admin.execute_command("ACL SETUSER", name, *rules)
    port = admin.connection_pool.connection_kwargs["port"]

    def url(role: str) -> str:
        return (tmp_path / role / "DSDQ_REDIS_URL").read_text().strip().replace("redis:6379", f"127.0.0.1:{port}")

    for role, asking in (("verifier", Asking.WORKER), ("gateway", Asking.GATEWAY), ("device", Asking.DEVICE)):
        async with open_redis(url(role)) as client:
            await check_server(client, role=asking)
    async with open_redis(url("redis")) as health:
        assert await health.ping()
        with pytest.raises(NoPermissionError):
            await health.get("x")
    async with open_redis(f"redis://127.0.0.1:{port}/0") as nobody:
        with pytest.raises(AuthenticationError):
            await nobody.ping()


async def test_a_server_with_these_users_reads_back_all_that_it_wrote(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    users = ["--aclfile", str(tmp_path / "redis/users.acl")]
    kept = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", str(data)]
    command = [newest_server(), "--port", str(port), "--bind", "127.0.0.1", *users, *kept]
    url = (tmp_path / "verifier/DSDQ_REDIS_URL").read_text().strip().replace("redis:6379", f"127.0.0.1:{port}")

    async def answers() -> bool:
        with suppress(RedisError):
            async with open_redis(url) as client:
                return bool(await client.ping())
        return False

    first = await spawn(command)
    await until(answers, "a server")
    async with open_redis(url) as client:
        write = "redis.call('hset', KEYS[1], 'a', 1) redis.call('set', KEYS[2], 1)"
        await client.eval(
            write, 2, "{w.x}:state", "{w.x}:tries"
        )  # two writes of a script are a transaction in the file
    first.send_signal(signal.SIGKILL)
    await first.wait()
    second = await spawn(command)
    await until(answers, "the server again")
    async with open_redis(url) as client:
        assert await client.exists("{w.x}:state", "{w.x}:tries") == 2
    await second.stop()


def test_new_passwords_are_valid_beside_the_old_ones_until_these_are_ended(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    old, before = users_of(tmp_path), files_of(tmp_path)
    make(tmp_path, ROLES, rotate="passwords")
    both = users_of(tmp_path)
    make(tmp_path, ROLES)
    assert users_of(tmp_path) == both
    assert not {name for name, text in files_of(tmp_path).items() if "KEY" in name and text != before[name]}
    make(tmp_path, ROLES, finish=True)
    new = users_of(tmp_path)

    def hashes(users: dict[str, list[str]], name: str) -> set[str]:
        return {word for word in users[name] if word.startswith("#")}

    for role in ROLES:
        assert len(hashes(old, role.user)) == len(hashes(new, role.user)) == 1
        assert hashes(both, role.user) == hashes(old, role.user) | hashes(new, role.user)
        assert hashes(old, role.user) != hashes(new, role.user)
        rules = [[word for word in users[role.user] if not word.startswith("#")] for users in (old, both, new)]
        assert rules[0] == rules[1] == rules[2]
    assert files_of(tmp_path)["verifier/DSDQ_REDIS_URL"] != before["verifier/DSDQ_REDIS_URL"]


def test_a_new_server_secret_is_all_that_changes(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    before = files_of(tmp_path)
    make(tmp_path, ROLES, rotate="server-secret")
    after = files_of(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"verifier/DSDQ_SERVER_SECRET"}


def test_users_that_others_have_added_stay_as_redis_wrote_them_down(tmp_path: Path) -> None:
    make(tmp_path, ROLES)
    file = tmp_path / "redis/users.acl"
    line = "user dsdq-device-acme on sanitize-payload #00 resetchannels -@all +ping (~{p.*}:acme:* -@all +xread)"
    written = file.read_text() + line + "\n"
    file.chmod(0o600)
    file.write_text(written.replace("user default off", "user default off sanitize-payload"))
    kept = file.read_text()
    make(tmp_path, ROLES)
    assert file.read_text() == kept
    make(tmp_path, ROLES, rotate="passwords")
    assert line in file.read_text()


def test_an_image_installs_what_extras_name_and_what_they_share(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\nname = "dsdq"\ndependencies = ["numpy>=2"]\n[project.optional-dependencies]\n'
        'metrics = ["prometheus-client"]\ngateway = ["uvicorn", "dsdq[metrics]"]\nother = ["never"]\n'
    )
    assert requirements(project, ["gateway"]) == ["numpy>=2", "prometheus-client", "uvicorn"]
