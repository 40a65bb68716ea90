"""What a device and the service agree on when a session opens, and never change afterwards.

The digest chain starts from the packed contract: sides that disagree about any field notice at the first verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dsdq.errors import ConfigError

MAX_SEED = (1 << 64) - 1
MAX_STOP_IDS = 16
MAX_WINDOW = 64
MAX_TOKENS = 1 << 20


def _require(holds: bool, field: str, expected: str, came: object) -> None:  # noqa: FBT001 - a predicate, not a mode
    if not holds:
        msg = f"{field}: expected {expected}, got {came!r}"
        raise ConfigError(msg)


class Rule(StrEnum):
    """How the verifier decides which draft tokens stand.

    ``COUPLED`` (default) shares seeded Gumbel noise and accepts what the target itself would have sampled.
    ``REJECTION`` is the ratio test of Leviathan et al. (arXiv 2211.17192), for trusted drafters only.
    """

    COUPLED = "coupled"
    REJECTION = "rejection"


class FinishReason(StrEnum):
    """Why a session's text ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn from the target's logits.

    ``temperature`` 0 is argmax. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch those processors off.
    Applied in this order: temperature, top-k, top-p, min-p.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        """Raise :class:`ConfigError` naming the field that is out of range."""
        _require(
            math.isfinite(self.temperature) and 0 <= self.temperature <= 100,
            "temperature",
            "a number from 0 (greedy) to 100",
            self.temperature,
        )
        _require(0 <= self.top_k < 1 << 31, "top_k", "0 (off) or a positive count", self.top_k)
        _require(0 < self.top_p <= 1, "top_p", "a number above 0, at most 1 (off)", self.top_p)
        _require(0 <= self.min_p < 1, "min_p", "a number from 0 (off) to below 1", self.min_p)

    @property
    def greedy(self) -> bool:
        """Say whether the next token is the argmax."""
        return self.temperature == 0

    @property
    def plain(self) -> bool:
        """Say whether every token stays a candidate."""
        return self.top_k == 0 and self.top_p == 1 and self.min_p == 0


@dataclass(frozen=True, slots=True)
class Contract:
    """The immutable terms of one session.

    ``target_revision`` and ``numerics`` may be empty: any that the verifier runs. ``seed`` has 64 bits; ``choice``
    tells apart several answers to one prompt. ``draft_fingerprint`` is empty for drafters without their own tokenizer.
    ``max_tokens`` bounds the generated tokens, ``max_window`` the draft tokens of one round.
    """

    tenant: str
    producer: str
    session: str
    target: str
    tokenizer_fingerprint: str
    draft_fingerprint: str = ""
    target_revision: str = ""
    numerics: str = ""
    sampling: Sampling = Sampling()
    rule: Rule = Rule.COUPLED
    seed: int = 0
    choice: int = 0
    stop_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    max_tokens: int = 256
    max_window: int = 16
    trusted: bool = False

    def __post_init__(self) -> None:
        """Raise :class:`ConfigError` naming the field that is out of range."""
        _require(0 <= self.seed <= MAX_SEED, "seed", "an unsigned 64-bit integer", self.seed)
        _require(0 <= self.choice < 1 << 16, "choice", "an index from 0 to 65535", self.choice)
        _require(1 <= self.max_tokens <= MAX_TOKENS, "max_tokens", f"1 to {MAX_TOKENS} tokens", self.max_tokens)
        _require(1 <= self.max_window <= MAX_WINDOW, "max_window", f"1 to {MAX_WINDOW} tokens", self.max_window)
        _require(
            len(self.stop_ids) <= MAX_STOP_IDS,
            "stop_ids",
            f"at most {MAX_STOP_IDS} token ids",
            len(self.stop_ids),
        )
