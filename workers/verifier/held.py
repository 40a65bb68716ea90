"""A session as this verifier holds it: what was agreed and decided, and what waits for the next step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Owned, Place, place_of
from dsdq.policies.steering import Turnaround
from dsdq.policies.window import Acceptance
from dsdq.session import Ahead, Duplicate, SessionState, Stale, liveness
from dsdq.stopping import StopFinder
from dsdq.wire import Decode, Draft, Verdict


@dataclass(frozen=True, slots=True)
class Pending:
    """A round that waits: its inbox entry (to be acknowledged), its message, and when it came (monotonic seconds)."""

    entry: Entry
    message: Draft | Decode
    received_s: float


@dataclass(slots=True)
class Held:
    """One session. ``state`` is what was decided; its log follows as fast as Redis takes it.

    ``entries`` is how many its log will then have. ``stops`` has taken in every decided token. ``pending`` rounds wait
    for a step, those in ``ahead`` for a round before them. What its device has sent on a branch before ``branch``, it
    has given up, or will as soon as it knows the text. Once its prompt is ``fed``, it needs no step without a
    round. ``failures`` counts steps that failed on it alone. Of an ``inherited`` one the ``deaths`` are counted of
    verifiers that fed its text. Since ``opened_s`` it has its place here. Of a session that was ``lost`` nothing may be
    acknowledged any more: it is another worker's. ``acceptance`` is that of its device's drafts, ``own_acceptance``
    that of the verifier's; ``turnaround`` says when its next round is due. ``prefill`` is how many prompt tokens had to
    be fed for it, None before its first row. So many drafts in turn were ``overdrawn``: verified though its tenant had
    no more verified positions left. For its keys and values it has been charged until ``kept_s``.
    """

    state: SessionState
    owned: Owned
    touched_s: float
    stops: StopFinder
    entries: int = 1
    pending: deque[Pending] = field(default_factory=deque)
    ahead: list[Pending] = field(default_factory=list)
    branch: int = 0
    fed: bool = False
    failures: int = 0
    inherited: bool = False
    deaths: int = 0
    lost: bool = False
    opened_s: float = field(default_factory=monotonic)
    acceptance: Acceptance = field(default_factory=Acceptance)
    own_acceptance: Acceptance = field(default_factory=Acceptance)
    turnaround: Turnaround = field(default_factory=Turnaround)
    prefill: int | None = None
    overdrawn: int = 0
    kept_s: float = field(default_factory=monotonic)

    @property
    def session(self) -> str:
        """Return the session's id."""
        return self.state.contract.session

    @property
    def tenant(self) -> str:
        """Return whose it is."""
        return self.state.contract.tenant

    @property
    def key(self) -> str:
        """Return what tells it from the others of a verifier: a session's name is its tenant's to choose."""
        return key_of(self.tenant, self.session)

    @property
    def place(self) -> Place:
        """Return where its keys are."""
        return place_of(self.state.contract)

    @property
    def first_ahead(self) -> Pending | None:
        """Return the round ahead that is nearest to the text."""
        return min(self.ahead, key=_base, default=None)

    def note(self, verdict: Verdict, *, granted: bool) -> None:
        """Take note of how a draft was accepted: the verifier's if it was ``granted``, else the device's."""
        theirs, other = (self.own_acceptance, self.acceptance) if granted else (self.acceptance, self.own_acceptance)
        theirs.add(verdict.drafted, verdict.accepted, len(verdict.tokens))
        other.add(0, 0, len(verdict.tokens))

    def fed_from(self, start: int) -> None:
        """Take note of a row that begins at position ``start``: the first one tells what of the prompt was there."""
        if self.prefill is None:
            self.prefill = max(0, self.state.transcript.prompt_tokens - 1 - start)

    def keep_ms(self, grace_s: float) -> int:
        """Return what its keys and values are to be charged for since they were last, in token-milliseconds.

        At most ``grace_s``: whoever is silent for longer may lose them, and costs nobody anything.
        """
        now_s = monotonic()
        took_s, self.kept_s = min(now_s - self.kept_s, grace_s), now_s
        return round(1000 * took_s * self.state.transcript.length)

    def receive(self, pending: Pending, most: int) -> Sequence[Pending]:
        """Let a round wait if it does not yet, and keep to ``most``; return what does not wait.

        That is what nobody waits for any more, and what is furthest ahead of the text, which its device repeats: what
        comes before it must find room, or nothing would move.
        """
        self.branch = max(self.branch, pending.message.branch)
        moot, left = self._is_moot(pending), self._given_up()
        if moot or any(one.message.round == pending.message.round for one in self.in_flight()):
            return [*left, pending]
        if len(self.in_flight()) >= most:
            furthest = max(self.ahead, key=_base, default=pending)
            if furthest.message.base <= pending.message.base:
                return [*left, pending]
            self.ahead.remove(furthest)
            left.append(furthest)
        self.turnaround.asked(pending.received_s)
        self.pending.append(pending)
        return left

    def go_on(self, now_s: float, *, final: bool) -> None:
        """Take note of a verdict, which may be not the ``final`` one of its grant.

        A stream waits from now on: for the rest of its grant, or for the next one, which came while it was answered.
        """
        first = self.pending[0]
        if not final:
            self.pending[0] = replace(first, entry=replace(first.entry, passed=True))
        if isinstance(first.message, Decode):
            self.pending = deque(
                replace(one, received_s=now_s) if isinstance(one.message, Decode) else one for one in self.pending
            )

    def in_flight(self) -> list[Pending]:
        """Return every round that waits."""
        return [*self.pending, *self.ahead]

    def answer(self, rounds: int) -> list[Entry]:
        """Take out so many rounds, which have their answer; return all entries that nobody waits for any more.

        Rounds are looked at again whose predecessor has been decided. One of a rejected branch must not count as
        waiting for a step.
        """
        done = [self.pending.popleft() for _ in range(rounds)]
        due = [one for one in self.ahead if not isinstance(liveness(self.state, one.message), Ahead)]
        self.ahead = [one for one in self.ahead if one not in due]
        waiting = sorted([*self.pending, *due], key=lambda one: one.message.round)  # one that is stale comes first
        moot = [one for one in waiting if self._is_moot(one)]
        self.pending = deque(one for one in waiting if one not in moot)
        if not self.pending:
            self.turnaround.answered_s = monotonic()
        return [one.entry for one in (*done, *moot, *self._given_up())]

    def _is_moot(self, pending: Pending) -> bool:
        """Say whether nobody waits for a round any more.

        A draft that the text contradicts is so together with all behind it, which are its branch's later ones.
        """
        message, status = pending.message, liveness(self.state, pending.message)
        if isinstance(status, Stale) and isinstance(message, Draft):
            self.branch = max(self.branch, message.branch + 1)
        return isinstance(status, Stale | Duplicate) or (isinstance(status, Ahead) and self.gave_up(pending))

    def gave_up(self, pending: Pending) -> bool:
        """Say whether a round's branch is over."""
        return pending.message.branch < self.branch

    def _given_up(self) -> list[Pending]:
        """Take out what is ahead on branches that were given up, and return it."""
        left = [one for one in self.ahead if self.gave_up(one)]
        self.ahead = [one for one in self.ahead if one not in left]
        return left


def _base(pending: Pending) -> int:
    return pending.message.base


def key_of(tenant: str, session: str) -> str:
    """Return the key of a tenant's session; see :attr:`Held.key`."""
    return f"{tenant}/{session}"
