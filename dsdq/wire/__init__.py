"""Messages as values, messages as bytes; every limit of PROTOCOL.md is kept here and nowhere else.

Bytes in, values out: this package knows nothing of Redis, sessions or models. ``unpack`` raises
:class:`dsdq.errors.WireError` and nothing else, whatever the bytes are.
"""

from __future__ import annotations

from dsdq.errors import WireError
from dsdq.laws import DraftLaw
from dsdq.versions import NEWEST, SPOKEN
from dsdq.wire.envelope import from_bytes, read_map, to_bytes
from dsdq.wire.layout import CANCEL, CLOSED, DECODE, DRAFT, ERROR, GAP, OPENED, VERDICT, open_layout
from dsdq.wire.limits import MAX_MESSAGE_BYTES, MAX_OPEN_BYTES, NAME
from dsdq.wire.messages import (
    Cancel,
    Closed,
    Decode,
    Draft,
    Error,
    ErrorCode,
    Gap,
    Message,
    Open,
    Opened,
    Verdict,
)
from dsdq.wire.terms import pack_contract, unpack_contract

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_OPEN_BYTES",
    "Cancel",
    "Closed",
    "Decode",
    "Draft",
    "DraftLaw",
    "Error",
    "ErrorCode",
    "Gap",
    "Message",
    "Open",
    "Opened",
    "Verdict",
    "answer_to",
    "pack",
    "pack_contract",
    "unpack",
    "unpack_contract",
]


def _check_open(message: Open) -> None:
    # Terms that are not known here are the worker's to refuse: it must be able to say so to the device.
    session = unpack_contract(message.contract, with_unknown=True).session
    if session != message.session:
        msg = f"expected the contract's session {session}, got {message.session}"
        raise WireError(msg)


_LAYOUTS = (open_layout(_check_open), OPENED, DRAFT, DECODE, CANCEL, VERDICT, GAP, CLOSED, ERROR)
_BY_CODE = {layout.code: layout for layout in _LAYOUTS}
_BY_TYPE = {layout.build: layout for layout in _LAYOUTS}


def pack(message: Message, version: int = NEWEST) -> bytes:
    """Return the message as bytes of its session's version.

    Raises:
        WireError: the wire cannot carry a field; the message names it.
    """
    return to_bytes(_BY_TYPE[type(message)], message, version)


def unpack(data: bytes) -> Message:
    """Return the message that ``data`` holds.

    Unknown fields are ignored. An unknown version or type, and a missing, wrong-typed or out-of-range field, raise
    :class:`WireError` that names it; so does every broken limit. Nothing else is ever raised.
    """
    message: Message = from_bytes(_BY_CODE, data, MAX_OPEN_BYTES, SPOKEN)
    return message


def answer_to(data: bytes, reason: WireError) -> Error | None:
    """Return the ``error`` that answers bytes refused by :func:`unpack`, or None where they name no session.

    The session has key 2 in every version, so a message from the future can be answered too.
    """
    try:
        fields = read_map(data, MAX_OPEN_BYTES)
    except WireError:
        return None
    session, version = fields.get(2), fields.get(0)
    if not isinstance(session, str) or not NAME.fullmatch(session):
        return None
    foreign = type(version) is int and version not in SPOKEN
    code = ErrorCode.UNSUPPORTED_VERSION if foreign else ErrorCode.MALFORMED
    return Error(session, code, str(reason))
