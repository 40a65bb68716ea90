"""The bytes that a token stands for in the middle of a text, from how vocabularies write them down."""

from __future__ import annotations

import re
from functools import cache

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def byte_level(token: str) -> bytes:
    """Return what a token of a byte-level vocabulary spells, which writes a character for each byte, as GPT-2's."""
    table = _bytes_of()
    return bytes(table[char] for char in token) if all(char in table for char in token) else token.encode()


def sentence_piece(token: str) -> bytes:
    """Return what a token of a SentencePiece vocabulary spells: ``▁`` is a space, ``<0x0A>`` a byte."""
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()


@cache
def _bytes_of() -> dict[str, int]:
    """Return GPT-2's table: printable bytes of Latin-1 stand for themselves, the others for U+0100 and on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
