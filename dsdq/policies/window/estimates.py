"""What a device believes of its speeds, from what its verdicts showed: running estimates that notice a change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dsdq.policies.window.level import Level
from dsdq.policies.window.passes import SHORTEST_MS, Passes
from dsdq.policies.window.protocol import Mode, Observation
from dsdq.policies.window.rates import Speeds
from dsdq.policies.window.shares import Accuracy

_CARRIED_TRIALS = 24.0
"""A drafter's acceptance differs between texts by 0.05 to 0.1, as if that many trials had shown it."""

_CARRIED_TIMES = 4

_SHARED, _ALONE = 1.5, 1.2
"""Rows of a pass, on average, from which on passes are taken to be shared, and below which not to be any more."""


@dataclass(slots=True)
class Estimates:
    """All that a rate follows from.

    ``acceptance_ms``, ``server_ms`` and ``heard_ms`` say when the device's acceptance, the verifier's own and the
    network were last seen; ``seen`` counts verdicts by mode, ``rows`` are sessions in a pass, ``shared_draft`` the
    tokens that the verifier drafts where others share its passes, ``shared`` whether they do by and large.
    """

    acceptance: Accuracy = field(default_factory=lambda: Accuracy(0.6, 4.0))
    server_acceptance: Accuracy = field(default_factory=lambda: Accuracy(0.6, 6.0))
    draft_ms: Level = field(default_factory=Level)
    network_ms: Level = field(default_factory=Level)
    queue_ms: Level = field(default_factory=Level)
    stream_ms: Level = field(default_factory=Level)
    passes: Passes = field(default_factory=Passes)
    rows: Level = field(default_factory=Level)
    shared_draft: Level = field(default_factory=Level)
    acceptance_ms: float = 0.0
    server_ms: float = 0.0
    heard_ms: float = 0.0
    guesses: bool = False
    shared: bool = False
    seen: dict[Mode, int] = field(default_factory=lambda: dict.fromkeys(Mode, 0))
    _off_link: Level = field(default_factory=Level)
    _begun: bool = False
    _by_prompt: bool = False
    _speeds: Speeds | None = field(default=None, compare=False)
    _drafters: tuple[Accuracy, Accuracy] | None = field(default=None, compare=False)

    def observe(self, seen: Observation) -> None:
        """Take in a verdict. A drafter that had nothing more to say is wrong there too: n-grams often have not."""
        self._speeds = self._drafters = None
        self.seen[seen.mode] += 1
        self.seen[Mode.SPECULATE] += seen.silent
        self.rows.add(seen.batch_rows)
        self.shared = self.rows.mean >= (_ALONE if self.shared else _SHARED)
        self._hear(seen)
        self._passed(seen)
        self._network(seen)
        if seen.mode is Mode.SPECULATE:
            self._drafted(seen)
        else:
            self._guessed(seen)
            self._streamed(seen)
        if seen.mode is Mode.COLOCATED:
            self._server_drafted(seen)

    def carried(self) -> Estimates:
        """Return what of it holds for this device's next text, which may be another: it is believed less firmly."""
        return Estimates(
            acceptance=self.acceptance.carried(_CARRIED_TRIALS),
            server_acceptance=self.server_acceptance.carried(_CARRIED_TRIALS),
            draft_ms=self.draft_ms.carried(_CARRIED_TIMES),
            network_ms=self.network_ms.carried(_CARRIED_TIMES),
            queue_ms=self.queue_ms.carried(_CARRIED_TIMES),
            stream_ms=self.stream_ms.carried(_CARRIED_TIMES),
            passes=self.passes.carried(),
            rows=self.rows.carried(_CARRIED_TIMES),
            shared_draft=self.shared_draft.carried(_CARRIED_TIMES),
            acceptance_ms=self.acceptance_ms,
            server_ms=self.server_ms,
            heard_ms=self.heard_ms,
            guesses=self.guesses,
            shared=self.shared,
            seen=dict(self.seen),
            _by_prompt=self._by_prompt,
            _off_link=self._off_link.carried(_CARRIED_TIMES),
        )

    def _passed(self, seen: Observation) -> None:
        """Take in a pass. A text's first fed its prompt, and says nothing of others: it serves until there is one."""
        first, self._begun = not self._begun, True
        if first and self.passes.known:
            return
        if self._by_prompt:
            self.passes = Passes()
        self._by_prompt = first
        self.passes.add(seen.drafted + 1, seen.verify_ms, seen.drafted if seen.mode is Mode.COLOCATED else 0)

    def _drafted(self, seen: Observation) -> None:
        # Behind a window that was in flight, a draft goes on with a run of right tokens.
        self.acceptance.add(seen.accepted, max(seen.drafted, seen.wanted), begins=not seen.in_flight)
        self.acceptance.add(seen.guessed_right, seen.guessed, begins=False)
        if seen.drafted:
            self.draft_ms.add(seen.draft_token_ms or seen.draft_ms / seen.drafted)

    def _guessed(self, seen: Observation) -> None:
        if seen.silent:
            self.acceptance.add(0, 1)
        elif seen.guessed:
            self.guesses = True
            self.acceptance.add(seen.guessed_right, seen.guessed)
            if not self.seen[Mode.SPECULATE]:
                # A guess reads all that was committed since the one before: it takes longer than a draft.
                self.draft_ms.add(seen.guess_ms / seen.guessed)

    def _server_drafted(self, seen: Observation) -> None:
        """Take in a draft of the verifier's; of one that nobody made the first token was wrong.

        In a pass that others share it may be as short as pays for all: where it ends says nothing of the drafter then.
        """
        wanted = seen.wanted
        if seen.batch_rows > 1 and wanted:
            wanted = 1
            self.shared_draft.add(seen.drafted)
        self.server_acceptance.add(seen.accepted, max(seen.drafted, wanted))

    def _streamed(self, seen: Observation) -> None:
        """A stream's verdicts come in bursts over a slow link: what its steps take is what the verifier says."""
        if seen.part and seen.queue_ms < seen.verify_ms:  # longer waits are those of a grant behind the one before it
            self.stream_ms.add(seen.queue_ms)

    def _hear(self, seen: Observation) -> None:
        """Take note of when it was that something showed; what nothing has shown yet is silent from the beginning."""
        now_ms = seen.time_ms
        if seen.mode is Mode.SPECULATE or seen.guessed or seen.silent or not self.acceptance_ms:
            self.acceptance_ms = now_ms
        if seen.mode is Mode.COLOCATED or not self.server_ms:
            self.server_ms = now_ms
        if not seen.part or seen.link_ms is not None or not self.heard_ms:
            self.heard_ms = now_ms

    def _network(self, seen: Observation) -> None:
        """A request shows network and queue; what its device measured of the link tells of the network in between."""
        if not seen.part:
            network_ms = max(0.0, seen.round_trip_ms - seen.queue_ms - seen.verify_ms)
            self.network_ms.add(network_ms)
            if seen.link_ms is not None:
                self._off_link.add(network_ms - seen.link_ms)
            if not seen.in_flight:
                self.queue_ms.add(seen.queue_ms)
        elif seen.link_ms is not None and self._off_link.count:
            self.network_ms.add(max(0.0, seen.link_ms + self._off_link.mean))

    def speeds(self) -> Speeds:
        """Return the speeds, which are the same until the next verdict."""
        if self._speeds is None:
            self._speeds = self._found()
        return self._speeds

    def drafters(self) -> tuple[Accuracy, Accuracy]:
        """Return how often the device's drafter is right, and the verifier's: often both are the same model.

        Either is known from few tokens, and a choice between the two would otherwise be one by luck.
        """
        if self._drafters is None:
            ours, theirs = self.acceptance, self.server_acceptance
            known = self.seen[Mode.COLOCATED] > 0
            self._drafters = (ours.leaning_on(theirs), theirs.leaning_on(ours)) if known else (ours, theirs)
        return self._drafters

    def _found(self) -> Speeds:
        acceptance, first = self.drafters()[0].parts()
        return Speeds(
            acceptance=max(acceptance, 0.005),
            draft_ms=self.draft_ms.mean,
            network_ms=self.network_ms.mean,
            queue_ms=self.queue_ms.mean,
            step_ms=max(self.passes.ms(0), SHORTEST_MS),
            position_ms=self.passes.position_ms,
            stream_ms=self.stream_ms.mean,
            first=first,
        )

    def shared_window(self, wanted: int) -> float:
        """Return how far the verifier drafts where others share its passes; as is ``wanted`` until it has shown."""
        return max(self.shared_draft.mean, 1.0) if self.shared_draft.count else float(wanted)

    def own_speeds(self) -> Speeds:
        """Return the speeds where the verifier drafts: a position takes its drafting too, but for the target's own."""
        speeds, own_ms = self.speeds(), self.passes.own_ms
        step_ms = max(speeds.step_ms - own_ms, SHORTEST_MS)
        return replace(speeds, step_ms=step_ms, position_ms=speeds.position_ms + own_ms)
