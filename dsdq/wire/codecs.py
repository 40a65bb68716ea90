"""How single values travel: each codec checks what it is given, on the way out and on the way in.

A codec raises :class:`WireError` that says what was expected and what came; the layout adds the field's name.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsdq.contract import MAX_BIASES, MAX_LOGPROBS, Biases
from dsdq.errors import WireError
from dsdq.laws import DraftLaw
from dsdq.logprobs import TokenLogprobs
from dsdq.wire.limits import (
    DIGEST_BYTES,
    MAX_DRAFT_TOKENS,
    MAX_SUPPORT,
    MAX_TEXT,
    MAX_TOKEN_ID,
    MAX_VERDICT_TOKENS,
)

_LETTERS = {2: "H", 4: "I"}
_DTYPES = {2: "<u2", 4: "<u4"}
_NARROW = 1 << 16
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Codec:
    """A pair of functions between a field's value and what msgpack carries."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def refuse(expected: str, came: object) -> WireError:
    """Return the error for a value that is not as expected; long values are shortened."""
    seen = repr(came) if isinstance(came, int | float | str | None) else type(came).__name__
    return WireError(f"expected {expected}, got {seen[:60]}")


def integer(least: int, most: int) -> Codec:
    """Return the codec of an integer from ``least`` to ``most``; a bool is not an integer."""

    def _check(value: object) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise refuse(f"an integer from {least} to {most}", value)

    return Codec(_check, _check)


def boolean() -> Codec:
    """Return the codec of true and false."""

    def _check(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise refuse("true or false", value)

    return Codec(_check, _check)


def real() -> Codec:
    """Return the codec of a finite float64."""

    def _encode(value: object) -> float:
        return _decode(float(value)) if isinstance(value, int) else _decode(value)

    def _decode(value: object) -> float:
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise refuse("a finite float", value)

    return Codec(_encode, _decode)


def text(least: int, most: int = MAX_TEXT) -> Codec:
    """Return the codec of ``least`` to ``most`` printable characters (so that they are safe to log)."""

    def _check(value: object) -> str:
        if isinstance(value, str) and least <= len(value) <= most and value.isprintable():
            return value
        raise refuse(f"{least} to {most} printable characters", value)

    return Codec(_check, _check)


def strings(most: int, longest: int) -> Codec:
    """Return the codec of up to ``most`` strings of 1 to ``longest`` characters, of any kind that UTF-8 can hold."""

    def _decode(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise refuse(f"at most {most} strings", value)
        return tuple(_check(item) for item in value)

    def _check(value: object) -> str:
        if isinstance(value, str) and 1 <= len(value) <= longest and not _LONE_SURROGATE.search(value):
            return value
        raise refuse(f"1 to {longest} Unicode characters", value)

    return Codec(lambda value: list(_decode(list(value))), _decode)


def sentence() -> Codec:
    """Return the codec of a message for people: cleaned and cut on the way out, since it must never fail to leave."""
    strict = text(0).decode

    def _encode(value: object) -> str:
        return "".join(letter if letter.isprintable() else " " for letter in str(value)[:MAX_TEXT])

    return Codec(_encode, strict)


def matching(pattern: re.Pattern[str]) -> Codec:
    """Return the codec of a string that matches ``pattern`` whole."""

    def _check(value: object) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return str(value)
        raise refuse(f"a string like {pattern.pattern}", value)

    return Codec(_check, _check)


def member(kind: type[StrEnum]) -> Codec:
    """Return the codec of one of an enumeration's strings."""

    def _decode(value: object) -> StrEnum:
        if isinstance(value, str) and value in kind.__members__.values():
            return kind(value)
        raise refuse("one of " + ", ".join(kind), value)

    return Codec(lambda value: str(_decode(value)), _decode)


def binary(least: int, most: int) -> Codec:
    """Return the codec of ``least`` to ``most`` bytes."""
    size = f"{least}" if least == most else f"{least} to {most}"

    def _check(value: object) -> bytes:
        if isinstance(value, bytes) and least <= len(value) <= most:
            return value
        raise refuse(f"{size} bytes", f"{len(value)} bytes" if isinstance(value, bytes) else value)

    return Codec(_check, _check)


def digest() -> Codec:
    """Return the codec of a prefix digest."""
    return binary(DIGEST_BYTES, DIGEST_BYTES)


def tokens(most: int) -> Codec:
    """Return the codec of up to ``most`` token ids.

    They travel as bytes: the width of an id (2 or 4), then each id in little-endian order. Only the narrowest width
    that fits all ids is valid, and no ids at all are no bytes, so that equal lists are equal bytes.
    """

    def _encode(value: object) -> bytes:
        ids = value if isinstance(value, tuple) else ()
        if ids is not value or len(ids) > most:
            raise refuse(f"a tuple of at most {most} token ids", value if ids is not value else len(ids))
        try:
            return _pack_ids(ids)
        except (struct.error, TypeError) as error:
            expected = f"token ids from 0 to {MAX_TOKEN_ID}"
            raise refuse(expected, str(error)) from None

    def _decode(value: object) -> tuple[int, ...]:
        width, count = _shape(value, most)
        if not count:
            return ()
        ids: tuple[int, ...] = struct.unpack_from(f"<{count}{_LETTERS[width]}", value, 1)  # type: ignore[arg-type]
        _check_width(width, max(ids))
        return ids

    return Codec(_encode, _decode)


def _pack_ids(ids: tuple[int, ...]) -> bytes:
    if not ids:
        return b""
    most = max(ids)
    if most > MAX_TOKEN_ID:
        raise refuse(f"token ids from 0 to {MAX_TOKEN_ID}", int(most))
    width = 2 if most < _NARROW else 4
    return struct.pack(f"<B{len(ids)}{_LETTERS[width]}", width, *ids)


def _shape(value: object, most: int) -> tuple[int, int]:
    """Return (width, count) of packed ids, before anything is allocated for them."""
    if not isinstance(value, bytes):
        raise refuse("token ids as bytes", value)
    if not value:
        return 2, 0
    width, size = value[0], len(value) - 1
    if width not in _LETTERS or size % width or not size:
        raise refuse("a width of 2 or 4 and whole token ids", f"width {width} and {size} bytes")
    if size // width > most:
        raise refuse(f"at most {most} token ids", size // width)
    return width, size // width


def _check_width(width: int, largest: int) -> None:
    if largest > MAX_TOKEN_ID:
        raise refuse(f"token ids from 0 to {MAX_TOKEN_ID}", largest)
    if width > 2 and largest < _NARROW:
        raise refuse("the narrowest width that fits (2)", width)


def law() -> Codec:
    """Return the codec of a draft law: an array of support, packed ids, and weights as little-endian u16.

    Ids and weights are laid out window by window (row-major). Every row must have a positive weight.
    """
    return Codec(_encode_law, _decode_law)


def _encode_law(value: object) -> list[object]:
    if not isinstance(value, DraftLaw) or value.ids.ndim != 2 or value.ids.shape != value.weights.shape:
        raise refuse("a draft law with ids and weights of shape [window, support]", value)
    flat = tuple(value.ids.ravel().tolist())
    weights = _check_weights(np.asarray(value.weights, dtype="<u2"))
    packed = [value.ids.shape[1], _pack_ids(flat), weights.tobytes()]
    _decode_law(packed)
    return packed


def _decode_law(value: object) -> DraftLaw:
    if not isinstance(value, list) or len(value) < 3:
        raise refuse("a law as [support, ids, weights]", value)
    support, ids, weights = value[:3]
    if type(support) is not int or not 1 <= support <= MAX_SUPPORT:
        raise refuse(f"a support of 1 to {MAX_SUPPORT} ids", support)
    width, count = _shape(ids, MAX_DRAFT_TOKENS * MAX_SUPPORT)
    if not count or count % support or not isinstance(weights, bytes) or len(weights) != 2 * count:
        raise refuse(f"whole rows of {support} ids, each with a 16-bit weight", f"{count} ids")
    flat = np.frombuffer(ids, dtype=_DTYPES[width], offset=1)
    _check_width(width, int(flat.max()))
    rows = np.frombuffer(weights, dtype="<u2").reshape(-1, support)
    return DraftLaw(ids=flat.astype(np.uint32).reshape(-1, support), weights=_check_weights(rows).astype(np.uint16))


def _check_weights(weights: NDArray[np.uint16]) -> NDArray[np.uint16]:
    if not weights.any(axis=1).all():
        raise refuse("a positive weight in every row of the law", "a row of zeros")
    return weights


def biases() -> Codec:
    """Return the codec of logit biases, (token id, value) in ascending order of the ids.

    They travel as an array of packed ids and as many little-endian float32: the values are those that float32 holds.
    """
    return Codec(_encode_biases, _decode_biases)


def _encode_biases(value: Biases) -> list[object]:
    values = np.array([one for _, one in value], dtype="<f4")
    packed: list[object] = [_pack_ids(tuple(token for token, _ in value)), values.tobytes()]
    _decode_biases(packed)
    return packed


def _decode_biases(value: object) -> Biases:
    if not isinstance(value, list) or len(value) != 2:
        raise refuse("biases as [ids, values]", value)
    ids = tokens(MAX_BIASES).decode(value[0])
    values = _floats(value[1], len(ids))
    return tuple(zip(ids, values.tolist(), strict=True))


def _floats(value: object, count: int) -> NDArray[np.float32]:
    """Return ``count`` finite float32, which travel as little-endian bytes."""
    if not isinstance(value, bytes) or len(value) != 4 * count:
        raise refuse(f"{count} values of 4 bytes", f"{len(value)} bytes" if isinstance(value, bytes) else value)
    values = np.frombuffer(value, dtype="<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise refuse("finite values", "one that is not")
    return values


def logprobs() -> Codec:
    """Return the codec of a verdict's log-probabilities: an array of count, packed top ids, and values.

    ``count`` top ids for each token, token by token; the values are little-endian float32, first one for each token,
    then one for each top id. All are at most 0.
    """
    return Codec(_encode_logprobs, _decode_logprobs)


def _encode_logprobs(value: object) -> list[object]:
    if not isinstance(value, TokenLogprobs) or value.top_ids.ndim != 2 or value.top_ids.shape != value.top.shape:
        raise refuse("log-probabilities with top ids and values of shape [tokens, count]", value)
    if len(value) != len(value.top_ids):
        raise refuse(f"top ids for each of {len(value)} tokens", len(value.top_ids))
    values = np.concatenate([value.chosen, value.top.ravel()]).astype("<f4")
    packed: list[object] = [value.top.shape[1], _pack_ids(tuple(value.top_ids.ravel().tolist())), values.tobytes()]
    _decode_logprobs(packed)
    return packed


def _decode_logprobs(value: object) -> TokenLogprobs:
    if not isinstance(value, list) or len(value) != 3:
        raise refuse("log-probabilities as [count, ids, values]", value)
    count, ids, values = value
    if type(count) is not int or not 1 <= count <= MAX_LOGPROBS:
        raise refuse(f"1 to {MAX_LOGPROBS} top ids", count)
    flat = tokens(MAX_VERDICT_TOKENS * MAX_LOGPROBS).decode(ids)
    if not flat or len(flat) % count:
        raise refuse(f"whole rows of {count} ids", f"{len(flat)} ids")
    rows = len(flat) // count
    both = _floats(values, rows + len(flat))
    if (both > 0).any():
        raise refuse("log-probabilities of at most 0", float(both.max()))
    top_ids = np.array(flat, dtype=np.uint32).reshape(rows, count)
    return TokenLogprobs(both[:rows], top_ids, both[rows:].reshape(rows, count))
