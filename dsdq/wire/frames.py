"""What a device and a gateway say to each other over a WebSocket: the frames of PROTOCOL.md, as values and as bytes.

A frame is a msgpack map like a message, with the same limits, and carries messages unopened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from dsdq.keys import NAME
from dsdq.sealing import MAC_BYTES
from dsdq.wire import codecs
from dsdq.wire.codecs import Codec
from dsdq.wire.envelope import from_bytes, to_bytes
from dsdq.wire.layout import Field, Layout
from dsdq.wire.limits import CODE, MAX_ARRAY, MAX_COUNT, MAX_MESSAGE_BYTES, MAX_OPEN_BYTES, MAX_RETRY_MS

VERSION = 1
"""Of frames; those of the messages that they carry are agreed on with the workers."""

SUBPROTOCOL = "dsdq.1"
PATH = "/v1/socket"
MAX_FRAME_BYTES = MAX_OPEN_BYTES + 1024
"""Bound of every frame: of one that carries an ``open``."""

MAX_WORKER_BYTES = 4096
"""Bound of a registry entry."""

NONCE_BYTES = PROOF_BYTES = 16
SECRET_BYTES = 32


class Close(IntEnum):
    """Why a gateway closes a connection: the WebSocket's close code."""

    KEY = 4001
    FRAME = 4002
    FORBIDDEN = 4003
    SLOW = 4008
    MANY = 4029
    RESTART = 1012
    LATER = 1013


FINAL = frozenset({Close.KEY, Close.FRAME, Close.FORBIDDEN})
"""After these a device does not come back."""


class RefusedCode(StrEnum):
    """Why a gateway did not do what a frame asked."""

    BUSY = "busy"
    GONE = "gone"
    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    MALFORMED = "malformed"
    FORBIDDEN = "forbidden"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The gateway's first frame: what a device with a key is to make its proof of."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The device's first frame: who it is.

    ``key`` is the API key, if no header carried it. Either ``secret`` shows a name that is made of it, or ``proof``
    that the device has the key of its name.
    """

    producer: str
    key: str = ""
    secret: bytes = b""
    proof: bytes = b""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The device is let in, for ``tenant``: with at most so many sessions, unanswered requests, bytes of a message."""

    tenant: str
    sessions: int
    requests: int
    message_bytes: int


@dataclass(frozen=True, slots=True)
class AskWorkers:
    """Asks who serves ``model``, or any."""

    id: int
    model: str = ""


@dataclass(frozen=True, slots=True)
class Workers:
    """Registry entries, as they lie in Redis."""

    id: int
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Asks to put a message into a worker's inbox; ``mac`` seals it."""

    id: int
    worker: str
    message: bytes
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class Done:
    """It is published."""

    id: int


@dataclass(frozen=True, slots=True)
class Follow:
    """Asks for a session's log from behind entry ``number``, which is of ``epoch``; 0 and 0 from its beginning."""

    id: int
    session: str
    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Followed:
    """What was there, or the first of it, is sent; the rest and what comes will be.

    The head's epoch, 0 without one, and who owns the session, if any.
    """

    id: int
    epoch: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Unfollow:
    """The device wants no more of a session."""

    session: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log that the device follows."""

    session: str
    number: int
    epoch: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was not done, and why; ``busy`` says when to come back."""

    id: int
    code: str
    sentence: str
    retry_after_ms: int = 0


Request = AskWorkers | Publish | Follow
Answer = Workers | Done | Followed | Refused
Frame = Challenge | Hello | Welcome | Request | Answer | Unfollow | Entry


def _entries() -> Codec:
    one = codecs.binary(1, MAX_WORKER_BYTES)

    def _decode(value: object) -> tuple[bytes, ...]:
        if not isinstance(value, list) or len(value) > MAX_ARRAY:
            raise codecs.refuse(f"at most {MAX_ARRAY} registry entries", value)
        return tuple(one.decode(item) for item in value)

    return Codec(lambda value: list(_decode(list(value))), _decode)


def _optional(key: int, name: str, codec: Codec, default: object) -> Field:
    return Field(key, name, codec, optional=True, default=default)


_NAME = codecs.matching(NAME)
_COUNT = codecs.integer(0, MAX_COUNT)
_ID = Field(2, "id", codecs.integer(1, MAX_COUNT))
_SESSION = Field(2, "session", _NAME)
_MODEL = codecs.text(1)
_API_KEY = codecs.text(1, 256)
_MAC = codecs.binary(MAC_BYTES, MAC_BYTES)


def _check_hello(hello: Hello) -> None:
    if bool(hello.secret) == bool(hello.proof):
        raise codecs.refuse("a secret or a proof", "both" if hello.proof else "neither")


_LAYOUTS = (
    Layout(64, "challenge", Challenge, (Field(2, "nonce", codecs.binary(NONCE_BYTES, NONCE_BYTES)),)),
    Layout(
        65,
        "hello",
        Hello,
        (
            Field(2, "producer", _NAME),
            _optional(3, "key", _API_KEY, ""),
            _optional(4, "secret", codecs.binary(SECRET_BYTES, SECRET_BYTES), b""),
            _optional(5, "proof", codecs.binary(PROOF_BYTES, PROOF_BYTES), b""),
        ),
        check=_check_hello,
    ),
    Layout(
        66,
        "welcome",
        Welcome,
        (
            Field(2, "tenant", _NAME),
            Field(3, "sessions", _COUNT),
            Field(4, "requests", _COUNT),
            Field(5, "message_bytes", _COUNT),
        ),
    ),
    Layout(67, "askworkers", AskWorkers, (_ID, _optional(3, "model", _MODEL, ""))),
    Layout(68, "workers", Workers, (_ID, Field(3, "entries", _entries())), MAX_FRAME_BYTES),
    Layout(
        69,
        "publish",
        Publish,
        (
            _ID,
            Field(3, "worker", _NAME),
            Field(4, "message", codecs.binary(1, MAX_OPEN_BYTES)),
            _optional(5, "mac", _MAC, b""),
        ),
        MAX_FRAME_BYTES,
    ),
    Layout(70, "done", Done, (_ID,)),
    Layout(
        71,
        "follow",
        Follow,
        (_ID, Field(3, "session", _NAME), Field(4, "number", _COUNT), Field(5, "epoch", _COUNT)),
    ),
    Layout(72, "followed", Followed, (_ID, Field(3, "epoch", _COUNT), _optional(4, "owner", _NAME, ""))),
    Layout(73, "unfollow", Unfollow, (_SESSION,)),
    Layout(
        74,
        "entry",
        Entry,
        (
            _SESSION,
            Field(3, "number", _COUNT),
            Field(4, "epoch", _COUNT),
            Field(5, "message", codecs.binary(1, MAX_MESSAGE_BYTES)),
        ),
        MAX_MESSAGE_BYTES + 1024,
    ),
    Layout(
        75,
        "refused",
        Refused,
        (
            _ID,
            Field(3, "code", codecs.matching(CODE)),
            Field(4, "sentence", codecs.sentence()),
            _optional(5, "retry_after_ms", codecs.integer(0, MAX_RETRY_MS), 0),
        ),
    ),
)
_BY_CODE = {layout.code: layout for layout in _LAYOUTS}
_BY_TYPE = {layout.build: layout for layout in _LAYOUTS}


def pack_frame(frame: Frame) -> bytes:
    """Return a frame as bytes.

    Raises:
        WireError: a field cannot travel.
    """
    return to_bytes(_BY_TYPE[type(frame)], frame, VERSION)


def unpack_frame(data: bytes) -> Frame:
    """Return the frame that ``data`` holds.

    Raises:
        WireError: it holds none, or one that breaks a limit. Nothing else is ever raised.
    """
    frame: Frame = from_bytes(_BY_CODE, data, MAX_FRAME_BYTES, (VERSION,))
    return frame
