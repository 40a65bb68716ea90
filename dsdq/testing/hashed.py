"""The hash model: a target without weights, whose next token is a hash of all the tokens before it.

Any program that knows prompt and terms knows the text, and one wrong token in what an engine has kept of a text changes
everything behind it. It takes microseconds and neither torch nor numpy, so that verifiers can be started and killed at
will. It never ends a text by itself. Its law has all probability on one token, so both acceptance rules come to the
same; penalties, biases and log-probabilities mean nothing to it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from dsdq.contract import Sampling

VOCAB_SIZE = 2048
"""Those of the built-in target, whose tokenizer it borrows."""
CONTEXT_TOKENS = 4096

_GREEDY = Sampling()
_HASH_BYTES = 8


class HashedText:
    """A text as the hash model sees it; begins empty.

    Above temperature 0 the next token also depends on ``seed`` and ``choice``.
    """

    def __init__(self, chosen: Sampling = _GREEDY, seed: int = 0, choice: int = 0) -> None:
        drawn = b"" if chosen.greedy else struct.pack("<QH", seed, choice)
        self._hash = blake2b(digest_size=_HASH_BYTES, salt=drawn)

    def extend(self, tokens: Iterable[int]) -> None:
        """Put ``tokens`` behind the text."""
        self._hash.update(array("q", tokens).tobytes())

    def next(self) -> int:
        """Return the model's next token; the text stays as it is."""
        return int.from_bytes(self._hash.digest(), "little") % VOCAB_SIZE


def decode(
    prompt: Sequence[int], max_tokens: int, chosen: Sampling = _GREEDY, seed: int = 0, choice: int = 0
) -> list[int]:
    """Return the ``max_tokens`` ids that follow ``prompt``: the text that a service has to give."""
    text, ids = HashedText(chosen, seed, choice), list[int]()
    text.extend(prompt)
    for _ in range(max_tokens):
        ids.append(text.next())
        text.extend(ids[-1:])
    return ids
