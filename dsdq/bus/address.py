"""Where Redis is: one server, a primary that Sentinels know, or a cluster. Pure.

    redis[s]://[user:password@]host[:port][/db]
    unix://[user:password@]/path
    redis[s]+sentinel://[user:password@]host[:port],…/service[/db]
    redis[s]+cluster://[user:password@]host[:port],…

With an ``s`` it goes over TLS. The query is redis-py's: ``?ssl_ca_certs=FILE``, ``&ssl_certfile=FILE&ssl_keyfile=FILE``
and others. User and password are the servers'; ``sentinel_username`` and ``sentinel_password`` are for Sentinels that
want their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio.connection import parse_url

from dsdq.errors import ConfigError

SERVER, SENTINEL, CLUSTER = "server", "sentinel", "cluster"
_KINDS = {"redis": SERVER, "rediss": SERVER, "unix": SERVER}
_KINDS |= {f"{scheme}+{kind}": kind for kind in (SENTINEL, CLUSTER) for scheme in ("redis", "rediss")}
_PORTS = {SENTINEL: 26379, CLUSTER: 6379}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Address:
    """One place of Redis. ``hosts`` are the Sentinels, or some nodes of the cluster; none for a single server.

    ``options`` are redis-py's keywords for a connection to a server, ``sentinel_options`` for one to a Sentinel.
    """

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


def parse_address(url: str) -> Address:
    """Return what a URL says.

    Raises:
        ConfigError: it is not a URL of Redis; the message does not show its password.
    """
    try:
        return _parse(url)
    except ValueError as error:
        schemes = ", ".join(f"{scheme}://" for scheme in _KINDS)
        msg = f"expected a Redis URL that starts with one of {schemes}, got {shown(url)!r}: {error}"
        raise ConfigError(msg) from error


def shown(url: str) -> str:
    """Return a URL without user and password."""
    return re.sub(r"//[^/?#]*@", "//…@", re.sub(r"(password=)[^&#]*", r"\1…", url))


def _parse(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in _KINDS:
        msg = "another scheme"
        raise ValueError(msg)
    kind, tls = _KINDS[parts.scheme], parts.scheme.startswith("rediss")
    hosts: tuple[tuple[str, int], ...] = ()
    service = ""
    if kind != SERVER:
        user, at, places = parts.netloc.rpartition("@")
        hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(","))
        service, path = _service(parts) if kind == SENTINEL else ("", parts.path)
        url = parts._replace(scheme="redis", netloc=f"{user}{at}host", path=path).geturl()
    options: dict[str, Any] = dict(parse_url(url))
    options.pop("connection_class", None)
    if kind != SERVER:
        options.pop("host", None)
    theirs = {name: options.pop(name) for name in ("sentinel_username", "sentinel_password") if name in options}
    if tls and options.get("ssl_cert_reqs") != "none":
        options.setdefault("ssl_check_hostname", True)  # redis-py would take any host's certificate
    sentinel = {name: value for name, value in options.items() if name.startswith("ssl_")}
    sentinel |= {name.removeprefix("sentinel_"): value for name, value in theirs.items()}
    return Address(kind, tls, hosts, service, options, sentinel)


def _host(place: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(place)
    if not found:
        msg = f"expected host or host:port, got {place!r}"
        raise ValueError(msg)
    return found.group(1).strip("[]"), int(found.group(2) or port)


def _service(parts: SplitResult) -> tuple[str, str]:
    service, _, db = parts.path.lstrip("/").partition("/")
    if not service:
        msg = "expected the name of the service that the Sentinels watch, as in redis+sentinel://host:26379/mymaster"
        raise ValueError(msg)
    return service, f"/{db}" if db else ""
