"""What an error of Redis, or of the way to it, means for whoever asked: try again, give up, or it is gone. Pure."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

from redis import exceptions

from dsdq.errors import BusError, DeniedError, GoneError, RedisUnavailableError

# By the first word of a server's refusal. What stands here passes by itself, or when an operator does what it says.
PASSING = {
    "OOM": "it is over its maxmemory and takes no writes: raise maxmemory, or wait until closed sessions have expired",
    "READONLY": "it is a replica and takes no writes: connect to the primary (redis+sentinel:// follows it)",
    "LOADING": "it was started and is still loading its data",
    "MISCONF": "it cannot save its data and takes no writes: look at its disk and its log",
    "NOREPLICAS": "too few replicas follow it and it takes no writes: look at them, or at min-replicas-to-write",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "CLUSTERDOWN": "its cluster is down, or part of the slots has no primary: look at CLUSTER INFO",
    "TRYAGAIN": "its cluster is moving the keys that were asked for",
    "BUSY": "it is busy with somebody's script",
    "NOSCRIPT": "it has no scripts since it was restarted: a verifier brings them at its next heartbeat",
}
# What stands here does not pass, however often it is asked.
DENIED = {
    "NOAUTH": "it wants a password: put user and password into the URL",
    "WRONGPASS": "it does not know user and password of the URL, or the user is off",
    "NOPERM": "its ACL does not allow this user what dsdq needs: see ACL LOG and ACL GETUSER",
    "WRONGTYPE": "a key of dsdq holds something else: is the database shared with another program?",
    "MOVED": "it is one node of a cluster: use redis+cluster://",
    "CROSSSLOT": "keys of one call lie in different slots",
    "ERR": "it does not do what was asked",
}
_CERTIFICATE = "its certificate is not one for this host by a known authority: name that with ?ssl_ca_certs=FILE"
_CLASSES = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.NoScriptError, "NOSCRIPT"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.AuthorizationError, "NOPERM"),
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
)
_SCRIPT = re.compile(r"Error running script .*?: -([A-Z]+) ", re.DOTALL)  # how Redis 6.2 hands on a command's refusal
_ANNOTATED = re.compile(r"Command # .* of pipeline caused error: \(['\"]", re.DOTALL)  # shows the whole command
_SHOWN = 300
_FIRST = re.compile(r"([A-Z]{3,})\b")


def fault_of(error: BaseException) -> BusError:
    """Return the project's own error for one of the client library or of the socket below it.

    Returns:
        :class:`DeniedError` for what will never work, :class:`GoneError` for an inbox without its group,
        :class:`RedisUnavailableError` for everything that may pass.
    """
    for one in _chain(error):
        text = _text(one)
        if isinstance(one, ssl.SSLCertVerificationError):
            return DeniedError(f"redis: {_CERTIFICATE}; got {text}")
        code = code_of(one)
        if code in PASSING:
            return RedisUnavailableError(f"redis: {PASSING[code]}; got {code}: {text}")
        if code in DENIED:
            return DeniedError(f"redis: {DENIED[code]}; got {code}: {text}")
        if code == "NOGROUP":
            return GoneError(f"redis: expected an inbox with its group, the server has lost it; got {text}")
        if code is not None:  # a refusal that a newer server may have
            return RedisUnavailableError(f"redis: expected an answer, got {text}")
    return RedisUnavailableError(f"redis: expected an answer, got {type(error).__name__}: {error}")


def code_of(error: BaseException) -> str | None:
    """Return the word by which the server refused, such as ``OOM``; None when it is not the server's refusal."""
    text = _text(error)
    if isinstance(error, exceptions.AuthenticationError) and "required" in text:
        return "NOAUTH"
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    if not isinstance(error, exceptions.ResponseError):
        return None
    if "The user executing the script can't" in text:
        return "NOPERM"
    found = _SCRIPT.search(text) or _FIRST.match(text)
    return found.group(1) if found else "ERR"


def _text(error: BaseException) -> str:
    return _ANNOTATED.sub("", str(error)).removesuffix("',)")[:_SHOWN]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised for: the library wraps refusals that meet it while it connects."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__
