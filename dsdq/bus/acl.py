"""Users of the Redis server, and what each may do there: the rules of ``ACL SETUSER``, built from names. Pure.

A script runs with its caller's rights: a device may call ``publish.lua`` because each command in it is allowed on the
keys that it touches, and can do nothing by any other script that it could not do without one. It may not send a script
of its own, since one that loops would hold up the server for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsdq.errors import ConfigError

Version = tuple[int, ...]
"""Major and minor version of a server."""

SELECTORS_SINCE: Version = (7, 0)
_SETINFO_SINCE: Version = (7, 2)

VERIFIER, GATEWAY = "dsdq-verifier", "dsdq-gateway"

# What a client asks of a server itself, not of keys. A transaction that is begun and thrown away tells it its rights.
_CONNECT = ("+ping", "+time", "+multi", "+discard", "+command", "+cluster|slots", "+asking")
_VALUES = "+@stream +@hash +@set +@sortedset +@string +@transaction +exists +del +unlink +type"
_EXPIRY = "+expire +pexpire +persist +ttl +pttl"
_LOADING = ("+script|load", "+script|exists")
_WORKERS_KEYS = ("~{w.*}:*", "~{p.*}:*", "~{m.*}:*", "~{models}:*", "~{dead}:*", "~{t.*}:*", "%R~{tenants}:*")


@dataclass(frozen=True, slots=True)
class AclUser:
    """A user's name and rules; they replace all that it had, but for its password."""

    name: str
    rules: tuple[str, ...]


def version_of(text: str) -> Version:
    """Return major and minor version, of one such as ``7.0.15``."""
    return tuple(int(part) for part in text.split(".")[:2])


def device_name(tenant: str) -> str:
    """Return the user that all devices of a tenant share."""
    return f"dsdq-device-{tenant}"


def users(tenants: Sequence[str], version: Version) -> list[AclUser]:
    """Return the users of a service: one for its verifiers, one for its gateways, one for each tenant's devices.

    Raises:
        ConfigError: the server is too old to keep tenants apart.
    """
    if version < SELECTORS_SINCE:
        raise ConfigError(
            f"redis: expected version {_shown(SELECTORS_SINCE)} or newer, whose users may have different rights for "
            f"different keys, got {_shown(version)}; upgrade the server, or serve one tenant without users"
        )
    connect = (*_CONNECT, *(("+client|setinfo",) if version >= _SETINFO_SINCE else ()))
    return [
        AclUser(VERIFIER, (*_verifier(), *connect)),
        AclUser(GATEWAY, (*connect, "+info", "+dbsize", *_LOADING, *_speak("*", scripts="+eval +evalsha"), *_keep())),
        *(AclUser(device_name(tenant), (*connect, *_speak(tenant))) for tenant in tenants),
    ]


def check_tenancy(version: Version, tenants: Sequence[str], *, allow_unsafe: bool) -> None:
    """Return when a server of this version can keep these tenants apart, or nobody minds that it cannot.

    Raises:
        ConfigError: it cannot.
    """
    if len(set(tenants)) > 1 and version < SELECTORS_SINCE and not allow_unsafe:
        raise ConfigError(
            f"redis: expected version {_shown(SELECTORS_SINCE)} or newer for more than one tenant, got "
            f"{_shown(version)} for {', '.join(tenants)}: any device could read and write every tenant's keys there; "
            f"upgrade the server, or set DSDQ_ALLOW_UNSAFE_REDIS=1 if all devices trust one another"
        )


def _verifier() -> tuple[str, ...]:
    return (
        *_WORKERS_KEYS,
        *_VALUES.split(),
        *_EXPIRY.split(),
        "+eval",
        "+evalsha",
        *_LOADING,
        "+@connection",
        "-@dangerous",
        "+info",
    )


def _speak(tenant: str, scripts: str = "+evalsha") -> tuple[str, ...]:
    """Return the selectors of a side that publishes for ``tenant`` (``*``: for any) and reads what is answered.

    The first allows scripts to name these keys; what they do there, the others allow.
    """
    inbox, size, state = f"{{w.*}}:in:{tenant}", f"{{w.*}}:in:{tenant}:bytes", "{w.*}:state"
    return (
        f"({scripts} ~{inbox} ~{size} ~{state})",
        f"(+xadd +xlen +exists ~{inbox})",
        f"(+get +incrby ~{size})",
        f"(+hmget %R~{state})",
        f"(+xread +xrange +xrevrange +xlen +hmget +hget %R~{{p.*}}:{tenant}:*)",
        "(+zrangebyscore +hvals +hmget %R~{m.*}:workers %R~{m.*}:info)",  # +hmget: devices of the release before
        "(+smembers %R~{models}:served)",
    )


def _keep() -> tuple[str, ...]:
    """Return the selectors for what a gateway keeps itself, for who the tenants are, and for what verifiers do.

    Tenants' files and batches, and the jobs of arq that carry them: each by itself, since no script touches both.
    """
    return (
        f"({_VALUES} {_EXPIRY} +pexpireat +eval +evalsha -@dangerous ~{{b.*}}:* ~{{batches}}:*)",
        f"({_VALUES} {_EXPIRY} +eval +evalsha -@dangerous ~arq:*)",
        "(+get +hget +hgetall +zcard %R~{tenants}:* %R~{t.*}:*)",
        "(+get +pttl %R~{w.*}:figures)",
    )


def _shown(version: Version) -> str:
    return ".".join(map(str, version))
