"""The hash model: a target without weights, whose next token is a hash of all the tokens before it.

Any program that knows prompt and terms knows the text, and one wrong token in what an engine has kept of a text changes
everything behind it. It takes microseconds and neither torch nor numpy, so that verifiers can be started and killed at
will. It never ends a text by itself. Its law has all probability on one token, so both acceptance rules come to the
same; penalties, biases and log-probabilities mean nothing to it.
"""

from __future__ import annotations

import math
import struct
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from dsdq.contract import Sampling
from dsdq.drafting import TO_THE_END, GoOn
from dsdq.errors import ConfigError

VOCAB_SIZE = 2048
"""Those of the built-in target, whose tokenizer it borrows."""
CONTEXT_TOKENS = 4096

HASHED = "hash:"
"""What the name of a drafter for it begins with."""

_GREEDY = Sampling()
_HASH_BYTES = 8
_COINS = 8  # in the 64 bytes of one hash
_EIGHT, _PLACE = struct.Struct("<8Q"), struct.Struct("<QQ")


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


@dataclass(frozen=True, slots=True)
class Guesser:
    """Drafts the hash model's text: each token is right with probability ``acceptance`` and takes ``ms_per_token``."""

    acceptance: float
    ms_per_token: float = 0.0

    def __post_init__(self) -> None:
        """Raise :class:`ConfigError` naming the number that is out of range."""
        if not 0 <= self.acceptance <= 1:
            msg = f"draft acceptance: expected a number from 0 to 1, got {self.acceptance}"
            raise ConfigError(msg)
        if not (math.isfinite(self.ms_per_token) and self.ms_per_token >= 0):
            msg = f"draft milliseconds per token: expected a number from 0, got {self.ms_per_token}"
            raise ConfigError(msg)

    @classmethod
    def named(cls, name: str) -> Self:
        """Return what ``hash:ACCEPTANCE`` or ``hash:ACCEPTANCE:MS_PER_TOKEN`` stands for.

        Raises:
            ConfigError: the name is neither, or a number is out of range.
        """
        try:
            acceptance, *ms_per_token = map(float, name.removeprefix(HASHED).split(":"))
            return cls(acceptance, *ms_per_token)
        except (ValueError, TypeError) as error:
            msg = f"draft {name!r}: expected {HASHED}ACCEPTANCE or {HASHED}ACCEPTANCE:MS_PER_TOKEN, such as hash:0.8:2"
            raise ConfigError(msg) from error

    def guess(
        self,
        text: Sequence[int],
        window: int,
        chosen: Sampling,
        seed: int,
        choice: int,
        go_on: GoOn = TO_THE_END,
    ) -> tuple[int, ...]:
        """Return ``window`` tokens of the target's own text behind ``text``, wrong ones among them.

        What is guessed for a text is the same however often it is asked for. ``go_on``: after each but the last.
        """
        known, tokens, began_s = HashedText(chosen, seed, choice), list[int](), time.perf_counter()
        known.extend(text)
        for coin in _coins(seed, len(text), window):
            right = known.next()
            known.extend((right,))
            tokens.append(right if coin < self.acceptance * 2**64 else (right + 1) % VOCAB_SIZE)
            if self.ms_per_token:
                due_s = began_s + len(tokens) * self.ms_per_token / 1000
                time.sleep(max(0.0, due_s - time.perf_counter()))
            if len(tokens) < window and not go_on(tokens, None):
                break
        return tuple(tokens)


def _coins(seed: int, start: int, window: int) -> Sequence[int]:
    """Draw 64 bits for each position from seed and position alone."""
    first, end = start // _COINS, -(-(start + window) // _COINS)
    drawn = [coin for block in range(first, end) for coin in _EIGHT.unpack(blake2b(_PLACE.pack(seed, block)).digest())]
    return drawn[start - first * _COINS :][:window]
