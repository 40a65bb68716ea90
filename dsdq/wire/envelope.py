"""Bytes to a checked map and back: msgpack with every limit set, the version, the type code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgpack

from dsdq.errors import WireError
from dsdq.wire.codecs import refuse
from dsdq.wire.layout import Layout
from dsdq.wire.limits import MAX_ARRAY, MAX_FIELDS, MAX_MESSAGE_BYTES, MAX_OPEN_BYTES, MAX_TEXT

_LIMITS = {
    "max_array_len": MAX_ARRAY,
    "max_map_len": MAX_FIELDS,
    "max_str_len": 4 * MAX_TEXT,
    "max_bin_len": MAX_OPEN_BYTES,
    "max_ext_len": 0,
}
_COUNT_IN_FIRST_BYTE = range(0x80, 0x90)
_MAP_16, _MAP_32 = 0xDE, 0xDF


def to_bytes(layout: Layout, message: object, version: int) -> bytes:
    """Return ``message`` as bytes, or raise :class:`WireError` if a field or the whole cannot travel."""
    data: bytes = msgpack.packb(layout.to_map(message, version))
    if len(data) > layout.max_bytes:
        raise _too_long(layout, len(data))
    return data


def from_bytes(layouts: Mapping[int, Layout], data: bytes, max_bytes: int, spoken: Collection[int]) -> Any:  # noqa: ANN401 - the layout's type
    """Return the message that ``data`` holds, of a given kind and version, or raise :class:`WireError`."""
    fields = read_map(data, max_bytes)
    version, code = fields.get(0), fields.get(1)
    if type(version) is not int:
        raise _prefixed("version", refuse("an integer under key 0", version))
    if version not in spoken:
        msg = f"version {version} is not spoken here, only {', '.join(map(str, spoken))}; update the older side"
        raise WireError(msg)
    layout = layouts.get(code) if type(code) is int else None
    if layout is None:
        raise _prefixed("type", refuse("a known type code under key 1", code))
    if len(data) > layout.max_bytes:
        raise _too_long(layout, len(data))
    return layout.from_map(fields)


def read_map(data: bytes, max_bytes: int) -> dict[int, object]:
    """Return the fields of one msgpack map that fills ``data``, or raise :class:`WireError`.

    A key may not repeat (readers differ in which one wins), and a field's value is a scalar or a flat array or map.
    """
    if len(data) > max_bytes:
        msg = f"expected at most {max_bytes} bytes, got {len(data)}"
        raise WireError(msg)
    # Small messages are looked at once decoded; in a large one, nesting must be refused before it fills the memory.
    hooks = {} if len(data) <= MAX_MESSAGE_BYTES else {"list_hook": _flat_list, "object_hook": _flat_map}
    try:
        fields = msgpack.unpackb(data, strict_map_key=False, **_LIMITS, **hooks)
    except WireError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        msg = f"expected one msgpack map, got {type(error).__name__}: {str(error)[:100]}"
        raise WireError(msg) from None
    if type(fields) is not dict or len(fields) != _declared_fields(data):
        msg = "expected one msgpack map without repeated keys"
        raise WireError(msg)
    return _flat_map(fields)


def _declared_fields(data: bytes) -> int:
    """Return how many pairs the map's header announces."""
    first = data[0]
    if first in _COUNT_IN_FIRST_BYTE:
        return first & 0x0F
    return int.from_bytes(data[1 : {_MAP_16: 3, _MAP_32: 5}[first]], "big")


def _flat_map(fields: dict[int, object]) -> dict[int, object]:
    for value in fields.values():
        if type(value) is list:
            _flat_list(value)
        elif type(value) is dict:
            _flat_list(list(value.values()))
    return fields


def _flat_list(items: list[object]) -> list[object]:
    if any(type(item) is list or type(item) is dict for item in items):
        msg = "expected scalars in a field's array or map, got deeper nesting"
        raise WireError(msg)
    return items


def _too_long(layout: Layout, size: int) -> WireError:
    return WireError(f"{layout.title}: expected at most {layout.max_bytes} bytes, got {size}")


def _prefixed(name: str, error: WireError) -> WireError:
    return WireError(f"{name}: {error}")
