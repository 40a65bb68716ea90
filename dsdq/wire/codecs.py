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

from dsdq.errors import WireError
from dsdq.laws import DraftLaw
from dsdq.wire.limits import DIGEST_BYTES, MAX_DRAFT_TOKENS, MAX_SUPPORT, MAX_TEXT, MAX_TOKEN_ID

_LETTERS = {2: "H", 4: "I"}
_DTYPES = {2: "<u2", 4: "<u4"}
_NARROW = 1 << 16


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
