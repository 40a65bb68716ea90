"""What a device and the service agree on when a session opens, and never change afterwards.

The digest chain starts from the packed contract: sides that disagree about any field notice at the first verdict.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from dsdq.errors import ConfigError
from dsdq.versions import NEWEST

MAX_SEED = (1 << 64) - 1
MAX_STOP_IDS = 16
MAX_WINDOW = 64
MAX_TOKENS = 1 << 20
MAX_BIASES = 300
MAX_BIAS = 100.0
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 128
MAX_LOGPROBS = 20

Biases = tuple[tuple[int, float], ...]


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
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn from the target's logits.

    ``temperature`` 0 is argmax. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch those processors off.
    ``repetition_penalty`` (CTRL, arXiv 1909.05858; 1 is off) looks at prompt and generated tokens, ``presence_penalty``
    and ``frequency_penalty`` (OpenAI's; 0 is off) at generated tokens only. ``logit_bias`` is added to single tokens:
    ids in ascending order, values as float32 holds them (others are rounded to that here, so that equal terms are equal
    bytes).
    Applied in this order: repetition penalty, frequency and presence penalty, logit bias (see :mod:`dsdq.penalties`;
    they move the argmax too), temperature, top-k, top-p, min-p.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Biases = ()

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
        _require(
            0 < self.repetition_penalty <= 10,
            "repetition_penalty",
            "a number above 0 (1 is off), at most 10",
            self.repetition_penalty,
        )
        for field in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, field)
            _require(-2 <= value <= 2, field, "a number from -2 to 2 (0 is off)", value)
        _check_biases(self.logit_bias)
        object.__setattr__(self, "logit_bias", tuple((token, _float32(value)) for token, value in self.logit_bias))

    @property
    def greedy(self) -> bool:
        """Say whether the next token is the argmax."""
        return self.temperature == 0

    @property
    def plain(self) -> bool:
        """Say whether every token stays a candidate."""
        return self.top_k == 0 and self.top_p == 1 and self.min_p == 0

    @property
    def adjusts(self) -> bool:
        """Say whether the text so far or a bias changes the logits before anything else does."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return bool(self.logit_bias) or penalties != (1, 0, 0)


def _check_biases(biases: Biases) -> None:
    _require(len(biases) <= MAX_BIASES, "logit_bias", f"at most {MAX_BIASES} token ids", len(biases))
    for token, value in biases:
        _require(0 <= token < 1 << 31, "logit_bias", "token ids from 0 to 2147483647", token)
        _require(-MAX_BIAS <= value <= MAX_BIAS, "logit_bias", f"values from -{MAX_BIAS:g} to {MAX_BIAS:g}", value)
    for (before, _), (after, _) in pairwise(biases):
        _require(before < after, "logit_bias", f"each token id once, ascending (behind {before})", after)


def _float32(value: float) -> float:
    """Return the nearest float32; its zero has no sign."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded) + 0.0


@dataclass(frozen=True, slots=True)
class Contract:
    """The immutable terms of one session.

    ``target_revision`` and ``numerics`` may be empty: any that the verifier runs. ``seed`` has 64 bits; ``choice``
    tells apart several answers to one prompt. ``draft_fingerprint`` is empty for drafters without their own tokenizer.
    ``max_tokens`` bounds the generated tokens, ``max_window`` the draft tokens of one round. The text also ends with
    the first generated token after which it contains one of ``stop_strings``. ``logprobs`` above 0 asks for the
    log-probability of every committed token and of so many likeliest ones. ``version`` is the protocol's: all messages
    of the session are of it.
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
    stop_strings: tuple[str, ...] = ()
    logprobs: int = 0
    version: int = NEWEST

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
        _require(
            len(self.stop_strings) <= MAX_STOP_STRINGS,
            "stop_strings",
            f"at most {MAX_STOP_STRINGS} strings",
            len(self.stop_strings),
        )
        for string in self.stop_strings:
            expected = f"strings of 1 to {MAX_STOP_CHARACTERS} characters"
            _require(1 <= len(string) <= MAX_STOP_CHARACTERS, "stop_strings", expected, string)
        _require(0 <= self.logprobs <= MAX_LOGPROBS, "logprobs", f"0 (off) to {MAX_LOGPROBS}", self.logprobs)
