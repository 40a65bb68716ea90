"""A session's text and what a message means for it: the state machine that both sides share. Pure.

The verifier asks :func:`liveness` of every round and :func:`settle` of every verdict; the device checks every verdict
with :func:`check_verdict`. Nothing here knows Redis, models or clocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from dsdq import digest
from dsdq.contract import Contract, FinishReason
from dsdq.errors import SessionError
from dsdq.wire import Closed, Decode, Draft, ErrorCode, Message, Open, Verdict, unpack_contract


class Transcript:
    """Prompt and committed tokens, with the digest of every prefix."""

    def __init__(self, contract_bytes: bytes, prompt: Sequence[int]) -> None:
        self.prompt_tokens = len(prompt)
        self._tokens = list(prompt)
        self._digests = digest.prefix_digests(contract_bytes, prompt)
        self._tried: tuple[tuple[int, ...], list[bytes]] = ((), [])

    @property
    def length(self) -> int:
        """Return the number of prompt and committed tokens."""
        return len(self._tokens)

    @property
    def generated(self) -> int:
        """Return the number of committed tokens."""
        return len(self._tokens) - self.prompt_tokens

    @property
    def digest(self) -> bytes:
        """Return the digest of the whole."""
        return self._digests[-1]

    @property
    def tokens(self) -> Sequence[int]:
        """Return prompt and committed tokens; not to be changed."""
        return self._tokens

    def digest_at(self, length: int) -> bytes:
        """Return the digest of the first ``length`` tokens, at most all of them."""
        return self._digests[length]

    def began_as(self, contract_bytes: bytes, prompt: Sequence[int]) -> bool:
        """Say whether this is the text of that contract and prompt."""
        return self._digests[0] == digest.start(contract_bytes) and self._tokens[: self.prompt_tokens] == list(prompt)

    def digest_after(self, tokens: Sequence[int]) -> bytes:
        """Return the digest that the text would have with ``tokens`` behind it; kept, should they be committed next."""
        self._tried = tuple(tokens), digest.chain(self.digest, tokens)
        return self._tried[1][-1] if tokens else self.digest

    def truncate(self, length: int) -> None:
        """Forget what is behind the first ``length`` tokens."""
        self._tried = (), []
        del self._tokens[length:]
        del self._digests[length + 1 :]

    def extend(self, tokens: Sequence[int]) -> None:
        """Commit ``tokens``."""
        tried, digests = self._tried
        self._digests.extend(digests if tried == tuple(tokens) else digest.chain(self.digest, tokens))
        self._tokens.extend(tokens)
        self._tried = (), []


@dataclass(slots=True)
class Counts:
    """What a session's verdicts add up to; the receipt."""

    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    verified: int = 0
    prefill: int = 0

    def after(self, verdict: Verdict) -> Counts:
        """Return the counts with one more verdict."""
        return Counts(
            self.rounds + 1,
            self.drafted + verdict.drafted,
            self.accepted + verdict.accepted,
            self.verified + verdict.verified,
            self.prefill + verdict.prefill,
        )

    def receipt(self, session: str, reason: FinishReason, length: int, digest: bytes) -> Closed:
        """Return the receipt of a session whose text has that length and digest."""
        return Closed(
            session, reason, length, digest, self.rounds, self.drafted, self.accepted, self.verified, self.prefill
        )


@dataclass(slots=True)
class SessionState:
    """A session as its owner holds it: equal to what its log says.

    ``answered`` is the last round that has its final verdict. What was drafted on a branch before ``branch`` has been
    rejected, or given up by its device.
    """

    contract: Contract
    transcript: Transcript
    epoch: int
    owner: str
    answered: int = 0
    branch: int = 0
    counts: Counts = field(default_factory=Counts)

    def commit(self, verdict: Verdict, *, final: bool, granted: bool = False) -> None:
        """Take in a verdict that is in the log.

        ``final`` says that it ends its rounds (a grant has several). One that answers what was ``granted`` rejects no
        branch: what it drafted was the worker's own.
        """
        self.transcript.extend(verdict.tokens)
        self.counts = self.counts.after(verdict)
        if final:
            self.answered = verdict.last_round
        self.branch = self.branch_after(verdict, granted=granted)

    def branch_after(self, verdict: Verdict, *, granted: bool) -> int:
        """Return the branch that counts behind a verdict."""
        rejects = verdict.accepted < verdict.drafted and not granted
        return max(self.branch, verdict.branch + rejects)


def replay(opening: Open, messages: Iterable[Message]) -> tuple[Contract, Transcript, Counts]:
    """Return what a session's log says of its text: ``opening`` is the first entry's request, ``messages`` are all.

    Raises:
        SessionError: a verdict does not continue the text before it.
        WireError: the contract cannot be read.
    """
    transcript, counts = Transcript(opening.contract, opening.prompt), Counts()
    for message in messages:
        if isinstance(message, Verdict):
            check_verdict(transcript, message)
            counts = counts.after(message)
    return unpack_contract(opening.contract), transcript, counts


@dataclass(frozen=True, slots=True)
class Live:
    """The round continues the text as it is; ``tokens`` are those of its draft that are not committed yet."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """The round speaks of a text that did not come to be, or is not anybody's turn any more. It gets no answer."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """The round continues a text that is longer than the committed one: a round before it is missing."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The round was answered: its verdict is in the log."""


Status = Live | Stale | Ahead | Duplicate


def liveness(state: SessionState, message: Draft | Decode) -> Status:
    """Return what a round means for the session as it is."""
    if message.round <= state.answered:
        return Duplicate()
    transcript = state.transcript
    if message.base > transcript.length:
        return Stale() if message.branch < state.branch else Ahead()
    if message.base < transcript.prompt_tokens or message.digest != transcript.digest_at(message.base):
        return Stale()
    since = transcript.length - message.base
    if isinstance(message, Decode):
        return Live(()) if since < message.budget else Stale()
    overlap = message.tokens[:since]
    if overlap != tuple(transcript.tokens[message.base : message.base + len(overlap)]):
        return Stale()
    return Live(message.tokens[since:])


def settle(
    contract: Contract,
    generated: int,
    tokens: Sequence[int],
    eos_ids: Collection[int],
    stop_place: int | None = None,
) -> tuple[tuple[int, ...], FinishReason | None]:
    """Return the tokens that are committed, and why the text ends with them if it does.

    Args:
        contract: bounds and stop ids.
        generated: tokens committed before.
        tokens: what the acceptance rule gave.
        eos_ids: the target's own ends of text.
        stop_place: the place in ``tokens`` of the first that completes a stop string, if one does
            (:class:`dsdq.stopping.StopFinder`).
    """
    room = contract.max_tokens - generated
    for place, token in enumerate(tokens[:room]):
        ends = token in contract.stop_ids or (token in eos_ids and not contract.ignore_eos)
        if ends or place == stop_place:
            return tuple(tokens[: place + 1]), FinishReason.STOP
    if len(tokens) >= room:
        return tuple(tokens[:room]), FinishReason.LENGTH
    return tuple(tokens), None


def check_verdict(transcript: Transcript, verdict: Verdict) -> None:
    """Commit a verdict to the device's transcript.

    Raises:
        SessionError: it does not continue this text, or its digest is not this text's: the sides disagree, and no
            further token could be trusted.
    """
    if verdict.base != transcript.length:
        msg = f"expected a verdict at position {transcript.length}, got one at {verdict.base}"
        raise SessionError(ErrorCode.LOG_CORRUPT, msg)
    transcript.extend(verdict.tokens)
    if verdict.digest != transcript.digest:
        msg = (
            f"expected digest {transcript.digest.hex()} at length {transcript.length}, the verdict has "
            f"{verdict.digest.hex()}: device and verifier disagree about contract or text"
        )
        raise SessionError(ErrorCode.DIGEST_MISMATCH, msg)
