from __future__ import annotations

import pytest
from redis.asyncio import Redis, RedisCluster

from dsdq.bus.address import parse_address, shown
from dsdq.bus.connection import open_redis
from dsdq.errors import ConfigError


def test_one_server_has_what_redis_py_reads_from_its_url() -> None:
    address = parse_address("redis://bob:secret@h:7000/3?socket_timeout=2.5")
    assert (address.kind, address.tls, address.hosts) == ("server", False, ())
    assert address.options == {
        "username": "bob", "password": "secret", "host": "h", "port": 7000, "db": 3, "socket_timeout": 2.5,
    }  # fmt: skip
    assert parse_address("unix:///run/redis.sock?db=1").options == {"path": "/run/redis.sock", "db": 1}


def test_sentinels_stand_between_commas_and_the_service_is_the_path() -> None:
    address = parse_address("redis+sentinel://bob:p%40ss@one,two:5000,[::1]:6000/main/2")
    assert address.hosts == (("one", 26379), ("two", 5000), ("::1", 6000))
    assert address.service == "main"
    assert address.options == {"username": "bob", "password": "p@ss", "db": 2}
    assert address.sentinel_options == {}


def test_sentinels_may_have_a_user_of_their_own_and_share_the_authority() -> None:
    address = parse_address("rediss+sentinel://one/main?sentinel_username=eve&sentinel_password=x&ssl_ca_certs=/ca")
    tls = {"ssl_ca_certs": "/ca", "ssl_check_hostname": True}
    assert address.tls
    assert address.options == tls
    assert address.sentinel_options == tls | {"username": "eve", "password": "x"}


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    address = parse_address("redis+cluster://:secret@one:7000,two")
    assert address.hosts == (("one", 7000), ("two", 6379))
    assert address.options == {"password": "secret"}


def test_the_name_in_a_certificate_is_checked_unless_nothing_is() -> None:
    assert parse_address("rediss://h").options["ssl_check_hostname"]
    assert not parse_address("rediss://h?ssl_check_hostname=no").options["ssl_check_hostname"]
    assert "ssl_check_hostname" not in parse_address("rediss://h?ssl_cert_reqs=none").options


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://h:7000/1",
        "unix:///run/redis.sock",
        "redis+sentinel://h/main",
        "rediss+sentinel://h:5000,i/main/1?ssl_certfile=/c&ssl_keyfile=/k",
        "redis+cluster://h,i:7000",
        "rediss+cluster://bob:secret@h",
    ],
)
async def test_every_shape_opens_without_asking_anybody(url: str) -> None:
    client = open_redis(url)
    await client.aclose()
    assert isinstance(client, Redis | RedisCluster)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "starts with one of redis://"),
        ("redis+sentinel://one", "the name of the service"),
        ("redis+sentinel://one:port/main", "host or host:port, got 'one:port'"),
        ("redis+cluster://one,,two", "host or host:port, got ''"),
        ("redis+cluster://one/3", "db"),
        ("redis://h?no_such_option=1", "no_such_option"),
        ("redis+cluster://h?no_such_option=1", "no_such_option"),
        ("redis+sentinel://h/main?no_such_option=1", "no_such_option"),
        ("rediss://h?ssl_cert_reqs=some", "some"),
    ],
)
def test_what_is_no_place_of_redis_is_refused_with_what_was_expected(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match="expected a Redis URL") as refused:
        open_redis(url)
    assert why in str(refused.value)


def test_no_password_is_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        open_redis("redis://bob:secret@h:port")
    assert "secret" not in str(refused.value)
    assert shown("redis+sentinel://a:b@h/main?sentinel_password=c&db=1") == (
        "redis+sentinel://…@h/main?sentinel_password=…&db=1"
    )
