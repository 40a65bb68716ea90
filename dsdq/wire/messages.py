"""The nine messages, as values.

From device to worker: :class:`Open`, :class:`Draft`, :class:`Decode`, :class:`Cancel`. From worker to session log:
:class:`Opened`, :class:`Verdict`, :class:`Gap`, :class:`Closed`, :class:`Error`. Positions count from the first prompt
token, ``length`` is the number of prompt and committed tokens, ``digest`` is 16 bytes of :mod:`dsdq.digest`, rounds
count from 1, branches from 0. This module does not know how a message is packed, nor what carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from dsdq.contract import FinishReason
from dsdq.laws import DraftLaw
from dsdq.logprobs import TokenLogprobs


class ErrorCode(StrEnum):
    """Why a session was refused or ended early; PROTOCOL.md has a sentence for each."""

    MALFORMED = "malformed"
    UNSUPPORTED_VERSION = "unsupported_version"
    WRONG_TARGET = "wrong_target"
    WRONG_NUMERICS = "wrong_numerics"
    FINGERPRINT_MISMATCH = "fingerprint_mismatch"
    CONTEXT_TOO_LONG = "context_too_long"
    PROMPT_INVALID = "prompt_invalid"
    TERMS_INVALID = "terms_invalid"
    UNTRUSTED = "untrusted"
    TENANT_DISABLED = "tenant_disabled"
    QUOTA = "quota"
    NAME_TAKEN = "name_taken"
    WINDOW_TOO_LARGE = "window_too_large"
    RULE_LAW_MISSING = "rule_law_missing"
    RULE_LAW_FORBIDDEN = "rule_law_forbidden"
    DIGEST_MISMATCH = "digest_mismatch"
    LOG_CORRUPT = "log_corrupt"
    EXPIRED = "expired"
    NO_ANSWER = "no_answer"
    DEADLINE = "deadline"
    RECEIPT_INVALID = "receipt_invalid"
    LOG_LOST = "log_lost"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Open:
    """Ask for a session: ``contract`` is ``pack_contract(...)``, the very bytes from which the digest chain starts.

    The first round may come with it: ``tokens`` (and their ``law``) are those of a :class:`Draft` behind the prompt,
    ``budget`` and ``window`` those of a :class:`Decode`. Without tokens and budget there is none.
    """

    session: str
    contract: bytes
    prompt: tuple[int, ...]
    tokens: tuple[int, ...] = ()
    law: DraftLaw | None = None
    budget: int = 0
    window: int = 0

    def with_round(self, first: Draft | Decode) -> Open:
        """Return it with the session's first round, which is behind the prompt."""
        if isinstance(first, Decode):
            return replace(self, budget=first.budget, window=first.window)
        return replace(self, tokens=first.tokens, law=first.law)

    def first_round(self, digest: bytes) -> Draft | Decode | None:
        """Return the round that came with it, if one did; ``digest`` names the prompt."""
        place = self.session, 0, 1, len(self.prompt), digest
        if self.budget:
            return Decode(*place, self.budget, self.window)
        return Draft(*place, self.tokens, self.law) if self.tokens else None


@dataclass(frozen=True, slots=True)
class Opened:
    """The worker took the session (first entry of a log), or took it over (``epoch`` above the last one's).

    ``max_window`` bounds the next draft in tokens, ``context_tokens`` the target's whole context. ``with_round`` says
    that the round that came with the :class:`Open` waits for its verdict.
    """

    session: str
    worker: str
    epoch: int
    numerics: str
    target_revision: str
    length: int
    digest: bytes
    max_window: int
    context_tokens: int
    with_round: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """Propose ``tokens`` for positions ``base``, ``base + 1``, … after the prefix that ``digest`` names.

    ``law`` is what they were sampled from: required under the rejection rule, forbidden otherwise.
    """

    session: str
    branch: int
    round: int
    base: int
    digest: bytes
    tokens: tuple[int, ...]
    law: DraftLaw | None = None


@dataclass(frozen=True, slots=True)
class Decode:
    """Grant the worker positions ``base`` to ``base + budget - 1`` to decode alone, streamed as verdicts.

    With a ``window`` it may draft up to so many tokens for each of its steps itself (co-located); 0 is target-only. It
    takes the place of a grant before it that does not reach further.
    """

    session: str
    branch: int
    round: int
    base: int
    digest: bytes
    budget: int
    window: int = 0

    @property
    def end(self) -> int:
        """Return the position behind the last one that is granted."""
        return self.base + self.budget


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the session now."""

    session: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``tokens`` are committed at positions ``base`` to ``length - 1``; ``digest`` names the prefix of ``length``.

    It answers rounds ``first_round`` to ``last_round`` (windows that waited together are verified together). The first
    ``accepted`` tokens were drafted; ``drafted`` draft tokens were looked at, so ``accepted < drafted`` rejects
    ``branch`` (not where it answers a :class:`Decode`: then the worker drafted, and nobody's guess was wrong).
    ``verified`` counts target positions computed. ``queue_us`` and ``verify_us`` are microseconds; the second includes
    what the worker drafted for this session itself. ``batch_rows`` are the sessions of the same forward pass.
    ``max_window`` bounds the next draft; 0 asks for a :class:`Decode` instead of one. ``logprobs`` are those of
    ``tokens`` where the contract asks for them.
    """

    session: str
    first_round: int
    last_round: int
    branch: int
    base: int
    drafted: int
    accepted: int
    tokens: tuple[int, ...]
    length: int
    digest: bytes
    verified: int
    queue_us: int
    verify_us: int
    batch_rows: int
    max_window: int
    logprobs: TokenLogprobs | None = None
    prefill: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """The worker holds later rounds and waits for the one that starts at ``expected``."""

    session: str
    expected: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The text is complete, was cancelled, or nobody went on with it: the receipt, and the last entry of a log.

    Counts are those of all verdicts together. ``signature`` is that of the service's ``key`` (:mod:`dsdq.receipts`).
    """

    session: str
    reason: FinishReason
    length: int
    digest: bytes
    rounds: int
    drafted: int
    accepted: int
    verified: int
    prefill: int = 0
    key: bytes = b""
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class Error:
    """The session was refused or ended early: the last entry of a log. ``code`` is an :class:`ErrorCode` or newer.

    Where a limit of the tenant is why, ``limit`` names it; see :class:`dsdq.errors.QuotaError`.
    """

    session: str
    code: str
    message: str
    limit: str = ""
    left: int = 0
    retry_after_ms: int = 0


Message = Open | Opened | Draft | Decode | Cancel | Verdict | Gap | Closed | Error
