"""One table per message: which field travels under which key, and how. The protocol's field tables, executable.

Key 0 is the version, key 1 the type code, key 2 is the session in every message of every version. Keys are never
reused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from dsdq.contract import MAX_WINDOW, FinishReason
from dsdq.errors import WireError
from dsdq.wire import codecs
from dsdq.wire.codecs import Codec
from dsdq.wire.limits import (
    CODE,
    MAX_BUDGET_TOKENS,
    MAX_CONTRACT_BYTES,
    MAX_COUNT,
    MAX_DRAFT_TOKENS,
    MAX_LIMIT,
    MAX_MESSAGE_BYTES,
    MAX_MICROSECONDS,
    MAX_OPEN_BYTES,
    MAX_POSITION,
    MAX_PROMPT_TOKENS,
    MAX_RETRY_MS,
    MAX_VERDICT_TOKENS,
    NAME,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
)
from dsdq.wire.messages import Cancel, Closed, Decode, Draft, Error, Gap, Open, Opened, Verdict

Check = Callable[[Any], None]
_Step = tuple[int, str, Callable[[Any], Any], bool, object]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its key in the map, its attribute (dotted for a nested one), its codec, whether it may be absent.

    An optional field is absent exactly when its value is the default.
    """

    key: int
    name: str
    codec: Codec
    optional: bool = False
    default: object = None


def _nothing_to_check(_: object) -> None:
    """Accept a message whose fields are independent of each other."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of message travels: its type code, its fields, its bound in bytes.

    A reader ignores fields that it does not know, unless the layout is ``closed``: then it refuses them.
    """

    code: int
    title: str
    build: Callable[..., Any]
    fields: tuple[Field, ...]
    max_bytes: int = MAX_MESSAGE_BYTES
    check: Check = _nothing_to_check
    closed: bool = False
    _values: Callable[[Any], tuple[Any, ...]] = field(init=False)
    _encoders: tuple[_Step, ...] = field(init=False)
    _decoders: tuple[_Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Flatten the table once, so that packing a message reads attributes in one call."""
        get = attrgetter(*(each.name for each in self.fields))
        values = get if len(self.fields) > 1 else lambda message: (get(message),)
        object.__setattr__(self, "_values", values)
        encoders = tuple((each.key, each.name, each.codec.encode, each.optional, each.default) for each in self.fields)
        decoders = tuple((each.key, each.name, each.codec.decode, each.optional, each.default) for each in self.fields)
        object.__setattr__(self, "_encoders", encoders)
        object.__setattr__(self, "_decoders", decoders)

    def to_map(self, message: object, version: int) -> dict[int, object]:
        """Return the msgpack map of ``message``, or raise :class:`WireError` naming the field that cannot travel."""
        fields: dict[int, object] = {0: version, 1: self.code}
        name = ""
        try:
            for (key, name, encode, optional, default), value in zip(  # noqa: B007 - an error names it
                self._encoders, self._values(message), strict=True
            ):
                if not (optional and value == default):
                    fields[key] = encode(value)
            name = "fields"
            self.check(message)
        except WireError as error:
            raise self._named(name, error) from None
        return fields

    def from_map(self, fields: Mapping[int, object]) -> Any:  # noqa: ANN401 - the type is the table's
        """Return the message of a msgpack map, or raise :class:`WireError` naming the field at fault."""
        values: list[object] = []
        name = ""
        try:
            for key, name, decode, optional, default in self._decoders:  # noqa: B007 - an error names it
                if key in fields:
                    values.append(decode(fields[key]))
                elif optional:
                    values.append(default)
                else:
                    raise self._missing(key)
            name = "fields"
            if self.closed:
                self._refuse_unknown(fields)
            message = self.build(*values)
            self.check(message)
        except WireError as error:
            raise self._named(name, error) from None
        return message

    def _refuse_unknown(self, fields: Mapping[int, object]) -> None:
        unknown = fields.keys() - {0, 1, *(each.key for each in self.fields)}
        if unknown:
            expected = "only fields that are known here (update the older side)"
            raise codecs.refuse(expected, f"key {min(unknown, key=str)}")

    def _missing(self, key: int) -> WireError:
        return WireError(f"expected field {key}, which is missing")

    def _named(self, name: str, error: WireError) -> WireError:
        return WireError(f"{self.title}.{name}: {error}")


def _check_verdict(verdict: Verdict) -> None:
    if verdict.first_round > verdict.last_round:
        raise codecs.refuse(f"first_round up to last_round {verdict.last_round}", verdict.first_round)
    if verdict.base + len(verdict.tokens) != verdict.length:
        raise codecs.refuse(f"base + tokens = length {verdict.length}", verdict.base + len(verdict.tokens))
    if verdict.accepted > min(verdict.drafted, len(verdict.tokens)):
        raise codecs.refuse("accepted up to drafted and the number of tokens", verdict.accepted)
    if verdict.logprobs is not None and len(verdict.logprobs) != len(verdict.tokens):
        raise codecs.refuse(f"log-probabilities of {len(verdict.tokens)} tokens", len(verdict.logprobs))


def _check_law(draft: Draft | Open) -> None:
    if draft.law is not None and len(draft.law.ids) != len(draft.tokens):
        raise codecs.refuse(f"one row of the law for each of {len(draft.tokens)} tokens", len(draft.law.ids))


_NAME = codecs.matching(NAME)
_DIGEST = codecs.digest()
_POSITION = codecs.integer(0, MAX_POSITION)
_COUNT = codecs.integer(0, MAX_COUNT)
_ROUND = codecs.integer(1, MAX_COUNT)
_MICROSECONDS = codecs.integer(0, MAX_MICROSECONDS)
_WINDOW = codecs.integer(0, MAX_WINDOW)
_SESSION = Field(2, "session", _NAME)
_PLACE = (
    _SESSION,
    Field(3, "branch", _COUNT),
    Field(4, "round", _ROUND),
    Field(5, "base", _POSITION),
    Field(6, "digest", _DIGEST),
)


def open_layout(check: Check) -> Layout:
    """Return the layout of ``open``; ``check`` reads the contract inside, which this module does not know."""

    def _check(message: Open) -> None:
        check(message)
        _check_law(message)
        if message.budget and message.tokens:
            raise codecs.refuse("tokens or a budget, not both", f"{len(message.tokens)} and {message.budget}")

    fields = (
        _SESSION,
        Field(3, "contract", codecs.binary(1, MAX_CONTRACT_BYTES)),
        Field(4, "prompt", codecs.tokens(MAX_PROMPT_TOKENS)),
        Field(5, "tokens", codecs.tokens(MAX_DRAFT_TOKENS), optional=True, default=()),
        Field(6, "law", codecs.law(), optional=True),
        Field(7, "budget", codecs.integer(1, MAX_BUDGET_TOKENS), optional=True, default=0),
        Field(8, "window", _WINDOW, optional=True, default=0),
    )
    return Layout(1, "open", Open, fields, MAX_OPEN_BYTES, _check)


OPENED = Layout(
    2,
    "opened",
    Opened,
    (
        _SESSION,
        Field(3, "worker", _NAME),
        Field(4, "epoch", _COUNT),
        Field(5, "numerics", codecs.text(0)),
        Field(6, "target_revision", codecs.text(0)),
        Field(7, "length", _POSITION),
        Field(8, "digest", _DIGEST),
        Field(9, "max_window", _WINDOW),
        Field(10, "context_tokens", _POSITION),
        Field(11, "with_round", codecs.boolean(), optional=True, default=False),
    ),
)
DRAFT = Layout(
    3,
    "draft",
    Draft,
    (*_PLACE, Field(7, "tokens", codecs.tokens(MAX_DRAFT_TOKENS)), Field(8, "law", codecs.law(), optional=True)),
    check=_check_law,
)
DECODE = Layout(
    4,
    "decode",
    Decode,
    (
        *_PLACE,
        Field(7, "budget", codecs.integer(1, MAX_BUDGET_TOKENS)),
        Field(8, "window", _WINDOW, optional=True, default=0),
    ),
)
CANCEL = Layout(5, "cancel", Cancel, (_SESSION,))
VERDICT = Layout(
    6,
    "verdict",
    Verdict,
    (
        _SESSION,
        Field(3, "first_round", _ROUND),
        Field(4, "last_round", _ROUND),
        Field(5, "branch", _COUNT),
        Field(6, "base", _POSITION),
        Field(7, "drafted", _COUNT),
        Field(8, "accepted", _COUNT),
        Field(9, "tokens", codecs.tokens(MAX_VERDICT_TOKENS)),
        Field(10, "length", _POSITION),
        Field(11, "digest", _DIGEST),
        Field(12, "verified", _COUNT),
        Field(13, "queue_us", _MICROSECONDS),
        Field(14, "verify_us", _MICROSECONDS),
        Field(15, "batch_rows", _COUNT),
        Field(16, "max_window", _WINDOW),
        Field(17, "logprobs", codecs.logprobs(), optional=True),
        Field(18, "prefill", _POSITION, optional=True, default=0),
    ),
    check=_check_verdict,
)
GAP = Layout(7, "gap", Gap, (_SESSION, Field(3, "expected", _POSITION)))
CLOSED = Layout(
    8,
    "closed",
    Closed,
    (
        _SESSION,
        Field(3, "reason", codecs.member(FinishReason)),
        Field(4, "length", _POSITION),
        Field(5, "digest", _DIGEST),
        Field(6, "rounds", _COUNT),
        Field(7, "drafted", _COUNT),
        Field(8, "accepted", _COUNT),
        Field(9, "verified", _COUNT),
        Field(10, "prefill", _POSITION, optional=True, default=0),
        Field(11, "key", codecs.binary(PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES), optional=True, default=b""),
        Field(12, "signature", codecs.binary(SIGNATURE_BYTES, SIGNATURE_BYTES), optional=True, default=b""),
    ),
)
ERROR = Layout(
    9,
    "error",
    Error,
    (
        _SESSION,
        Field(3, "code", codecs.matching(CODE)),
        Field(4, "message", codecs.sentence()),
        Field(5, "limit", codecs.text(0), optional=True, default=""),
        Field(6, "left", codecs.integer(0, MAX_LIMIT), optional=True, default=0),
        Field(7, "retry_after_ms", codecs.integer(-1, MAX_RETRY_MS), optional=True, default=0),
    ),
)
