"""A device without a model, for tests and benchmarks: drafts the hash model's text, as well and as fast as it is told.

The text that the verifier will give is known (:mod:`dsdq.testing.hashed`); so many of its tokens are proposed wrong.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Sequence
from hashlib import blake2b

from dsdq.contract import Contract, Rule
from dsdq.drafting import Proposal
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import VOCAB_SIZE, HashedText
from producers.drafters.ngram import point_masses

PREFIX = "hash:"

_COINS = 8  # in the 64 bytes of one hash
_EIGHT, _PLACE = struct.Struct("<8Q"), struct.Struct("<QQ")


class RecordedDrafter:
    """Drafts for the target ``testing/hash``.

    Each token is right with probability ``acceptance``, from 0 to 1, and takes ``ms_per_token``.
    """

    fingerprint = ""

    def __init__(self, acceptance: float, ms_per_token: float = 0.0) -> None:
        if not 0 <= acceptance <= 1:
            msg = f"draft acceptance: expected a number from 0 to 1, got {acceptance}"
            raise ConfigError(msg)
        if not (math.isfinite(ms_per_token) and ms_per_token >= 0):
            msg = f"draft milliseconds per token: expected a number from 0, got {ms_per_token}"
            raise ConfigError(msg)
        self._acceptance = acceptance
        self._ms_per_token = ms_per_token
        self.brief = not ms_per_token

    @classmethod
    def named(cls, name: str) -> RecordedDrafter:
        """Return what ``hash:ACCEPTANCE`` or ``hash:ACCEPTANCE:MS_PER_TOKEN`` stands for.

        Raises:
            ConfigError: the name is neither, or a number is out of range.
        """
        try:
            acceptance, *ms_per_token = map(float, name.removeprefix(PREFIX).split(":"))
            return cls(acceptance, *ms_per_token)
        except (ValueError, TypeError) as error:
            msg = f"draft {name!r}: expected {PREFIX}ACCEPTANCE or {PREFIX}ACCEPTANCE:MS_PER_TOKEN, such as hash:0.8:2"
            raise ConfigError(msg) from error

    def start(self, contract: Contract, tokenizer: Tokenizer) -> RecordedSession:
        """Begin a session; its drafts are a function of the contract's terms and the text."""
        del tokenizer
        return RecordedSession(contract, self._acceptance, self._ms_per_token)


class RecordedSession:
    """Keeps nothing between rounds: what is proposed for a text is the same however often it is asked for."""

    def __init__(self, contract: Contract, acceptance: float, ms_per_token: float) -> None:
        self._contract = contract
        self._acceptance = acceptance
        self._ms_per_token = ms_per_token

    def propose(self, text: Sequence[int], window: int) -> Proposal:
        """Return ``window`` tokens of the target's own text, wrong ones among them."""
        terms, tokens = self._contract, list[int]()
        known = HashedText(terms.sampling, terms.seed, terms.choice)
        known.extend(text)
        for coin in self._coins(len(text), window):
            right = known.next()
            known.extend((right,))
            tokens.append(right if coin < self._acceptance * 2**64 else (right + 1) % VOCAB_SIZE)
        if self._ms_per_token:
            time.sleep(len(tokens) * self._ms_per_token / 1000)
        law = point_masses(tokens) if terms.rule is Rule.REJECTION and tokens else None
        return Proposal(tuple(tokens), law)

    def _coins(self, start: int, window: int) -> Sequence[int]:
        """Draw 64 bits for each position from seed and position alone, so that a repeated round repeats its draft."""
        first, end = start // _COINS, -(-(start + window) // _COINS)
        drawn = [
            coin
            for block in range(first, end)
            for coin in _EIGHT.unpack(blake2b(_PLACE.pack(self._contract.seed, block)).digest())
        ]
        return drawn[start - first * _COINS :][:window]
