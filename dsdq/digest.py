"""The prefix digest chain: 16 bytes that name a contract and every token after it.

``D_0 = H(contract)`` and ``D_n = H(D_{n-1} ‖ token_n)`` over prompt and output, H being BLAKE2b (RFC 7693) with a
16-byte output. Two sides whose digests agree at n agree on the contract and on all n tokens.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

DIGEST_BYTES = 16
_PERSON = b"dsdq.contract"


def start(contract: bytes) -> bytes:
    """Return D_0 of a packed contract; the personalisation keeps it apart from every other use of BLAKE2b."""
    return blake2b(contract, digest_size=DIGEST_BYTES, person=_PERSON).digest()


def chain(digest: bytes, tokens: Sequence[int]) -> list[bytes]:
    """Return the digests after each of ``tokens`` (ids below 2^32), starting from the prefix that ``digest`` names."""
    packed = struct.pack(f"<{len(tokens)}I", *tokens)
    digests = []
    for place in range(0, len(packed), 4):
        digest = blake2b(digest + packed[place : place + 4], digest_size=DIGEST_BYTES).digest()
        digests.append(digest)
    return digests


def extend(digest: bytes, tokens: Sequence[int]) -> bytes:
    """Return the digest after ``tokens``, starting from the prefix that ``digest`` names."""
    return chain(digest, tokens)[-1] if tokens else digest


def prefix_digests(contract: bytes, tokens: Sequence[int]) -> list[bytes]:
    """Return D_0 to D_n of a packed contract and n tokens."""
    first = start(contract)
    return [first, *chain(first, tokens)]
