"""What a device believes of its speeds, from what its verdicts showed: running estimates that notice a change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dsdq.policies.window.protocol import Mode, Observation
from dsdq.policies.window.rates import Speeds
from dsdq.policies.window.shares import Accuracy

_POSITION_SHARE = 0.03
"""What a position adds to a pass, as a share of it, before passes of different lengths were seen."""

_MIDDLE = 4
_SHORTEST_MS = 1e-3


class Level:
    """A mean duration. Two values in a row far off on one side make it begin anew from them."""

    def __init__(self, weight: float = 0.08, tolerance: float = 0.05) -> None:
        self.mean, self.count = 0.0, 0
        self._weight, self._tolerance = weight, tolerance
        self._deviation = 0.0
        self._off: float | None = None

    def add(self, value: float) -> bool:
        """Take in a value; say whether it is far off."""
        self.count += 1
        weight = max(self._weight, 1 / self.count)
        off = value - self.mean
        if self.count > 3 and abs(off) > 4 * self._deviation + self._tolerance * abs(self.mean) + 0.05:
            if self._off is not None and (self._off > self.mean) == (off > 0):
                self.mean, self.count, self._off = (self._off + value) / 2, 2, None
                self._deviation /= 2
            else:
                # One that is late says little of the next; nor is it ignored, or rare long waits would not count.
                self._off = value
                self.mean += 0.5 * weight * off
            return True
        self._off = None
        self.mean += weight * off
        if self.count > 1:
            self._deviation += weight * (abs(off) - self._deviation)
        return False


class Pass:
    """What a forward pass takes, ``step + n·position``: a Kalman filter of both, from passes of different lengths.

    The state is what a pass over 4 positions takes, and what a position adds. The first may drift by 2 % a round, the
    second by 0.1 % of the first; single passes are off by 5 %. What makes all passes so many times as long at once
    (load, another machine) scales both. What a position adds may be guessed beforehand.
    """

    def __init__(self, position_ms: float | None = None) -> None:
        self._guess_ms = position_ms
        self._ms, self.position_ms = 0.0, 0.0
        self._own, self._joint, self._slope = 0.0, 0.0, 0.0  # variances, as shares of the square of what a pass takes
        self._scale = Level(0.1, 0.25)  # of what came to what was expected

    def add(self, positions: int, verify_ms: float) -> None:
        """Take in a pass; none is shorter than a microsecond, so that rates are finite."""
        verify_ms = max(verify_ms, _SHORTEST_MS)
        if not self._ms:
            self._begin(positions, verify_ms)
        elif self._scale.add(verify_ms / self.ms(positions)):
            if self._scale.count == 2:
                self._ms, self.position_ms = self._ms * self._scale.mean, self.position_ms * self._scale.mean
                self._scale = Level(0.1, 0.25)
                self._scale.add(1.0)
        else:
            self._correct(positions, verify_ms)

    def ms(self, positions: float) -> float:
        """Return what a pass over so many positions takes."""
        return max(self._ms + self.position_ms * (positions - _MIDDLE), 0.2 * self._ms)

    @property
    def known(self) -> bool:
        """Say whether there was any pass."""
        return self._ms > 0

    def _begin(self, positions: int, verify_ms: float) -> None:
        if self._guess_ms is None:
            self._ms = verify_ms / (1 + _POSITION_SHARE * (positions - _MIDDLE))
            self.position_ms = _POSITION_SHARE * self._ms
        else:
            self._ms = max(verify_ms - self._guess_ms * (positions - _MIDDLE), verify_ms / 2)
            self.position_ms = min(self._guess_ms, 0.2 * self._ms)
        self._own, self._slope = 0.05**2, (0.03 if self._guess_ms is None else 0.08) ** 2

    def _correct(self, positions: int, verify_ms: float) -> None:
        far = positions - _MIDDLE
        self._own += 0.02**2
        self._slope += 0.001**2
        own, slope = self._own + far * self._joint, self._joint + far * self._slope
        whole = own + far * slope + 0.05**2
        late_ms = verify_ms - self._ms - self.position_ms * far
        self._ms = max(self._ms + own / whole * late_ms, _SHORTEST_MS)
        self.position_ms = min(max(self.position_ms + slope / whole * late_ms, 0.0), 0.2 * self._ms)
        self._own -= own * own / whole
        self._joint -= own * slope / whole
        self._slope -= slope * slope / whole


@dataclass(slots=True)
class Estimates:
    """All that a rate follows from.

    ``acceptance_ms``, ``server_ms`` and ``heard_ms`` say when the device's acceptance, the verifier's own and the
    network were last seen; ``seen`` counts verdicts by mode. ``own_pass`` is a pass for which the verifier drafts too,
    ``rows`` are sessions in a pass.
    """

    acceptance: Accuracy = field(default_factory=lambda: Accuracy(0.6, 4.0))
    server_acceptance: Accuracy = field(default_factory=lambda: Accuracy(0.6, 6.0))
    draft_ms: Level = field(default_factory=Level)
    network_ms: Level = field(default_factory=Level)
    queue_ms: Level = field(default_factory=Level)
    stream_ms: Level = field(default_factory=Level)
    forward: Pass = field(default_factory=Pass)
    own_pass: Pass = field(default_factory=Pass)
    rows: Level = field(default_factory=Level)
    acceptance_ms: float = 0.0
    server_ms: float = 0.0
    heard_ms: float = 0.0
    guesses: bool = False
    seen: dict[Mode, int] = field(default_factory=lambda: dict.fromkeys(Mode, 0))
    _off_link: Level = field(default_factory=Level)
    _speeds: Speeds | None = field(default=None, compare=False)

    def observe(self, seen: Observation) -> None:
        """Take in a verdict. A drafter that had nothing more to say is wrong there too: n-grams often have not."""
        self._speeds = None
        self.seen[seen.mode] += 1
        self.rows.add(seen.batch_rows)
        self._hear(seen)
        if seen.mode is not Mode.COLOCATED:
            self.forward.add(seen.drafted + 1, seen.verify_ms)
        self._network(seen)
        if seen.mode is Mode.SPECULATE:
            self._drafted(seen)
        else:
            self._guessed(seen)
            self._streamed(seen)
        if seen.mode is Mode.COLOCATED:
            self._server_drafted(seen)

    def _drafted(self, seen: Observation) -> None:
        # Behind a window that was in flight, a draft goes on with a run of right tokens.
        self.acceptance.add(seen.accepted, max(seen.drafted, seen.wanted), begins=not seen.in_flight)
        self.acceptance.add(seen.guessed_right, seen.guessed, begins=False)
        if seen.drafted:
            self.draft_ms.add(seen.draft_token_ms or seen.draft_ms / seen.drafted)

    def _guessed(self, seen: Observation) -> None:
        if seen.mode is Mode.TARGET_ONLY and seen.wanted:
            self.acceptance.add(0, 1)
        elif seen.guessed:
            self.guesses = True
            self.acceptance.add(seen.guessed_right, seen.guessed)
            if not self.seen[Mode.SPECULATE]:
                # A guess reads all that was committed since the one before: it takes longer than a draft.
                self.draft_ms.add(seen.guess_ms / seen.guessed)

    def _server_drafted(self, seen: Observation) -> None:
        if self.seen[Mode.COLOCATED] == 1:  # what a verifier drafts with is seldom worse than what a device does
            self.server_acceptance = self.acceptance.taken_over(20.0)
        self.server_acceptance.add(seen.accepted, max(seen.drafted, seen.wanted))

    def _streamed(self, seen: Observation) -> None:
        """A stream's verdicts come in bursts over a slow link: what its steps take is what the verifier says."""
        if seen.part and seen.queue_ms < seen.verify_ms:  # longer waits are those of a grant behind the one before it
            self.stream_ms.add(seen.queue_ms)
        if seen.mode is Mode.COLOCATED:
            if not self.own_pass.known:
                self.own_pass = Pass(self.forward.position_ms + self.draft_ms.mean)
            self.own_pass.add(seen.drafted + 1, seen.verify_ms)

    def _hear(self, seen: Observation) -> None:
        if seen.mode is Mode.SPECULATE or seen.guessed:
            self.acceptance_ms = seen.time_ms
        if seen.mode is Mode.COLOCATED:
            self.server_ms = seen.time_ms
        if not seen.part or seen.link_ms is not None:
            self.heard_ms = seen.time_ms

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

    def _found(self) -> Speeds:
        acceptance, first = self.acceptance.parts()
        step_ms, position_ms = self._pass()
        return Speeds(
            acceptance=max(acceptance, 0.005),
            draft_ms=self.draft_ms.mean,
            network_ms=self.network_ms.mean,
            queue_ms=self.queue_ms.mean,
            step_ms=max(step_ms, _SHORTEST_MS),
            position_ms=position_ms,
            stream_ms=self.stream_ms.mean,
            first=first,
        )

    def _pass(self) -> tuple[float, float]:
        """Return what a pass takes, and each position; before one was seen, what those with own drafts make likely."""
        if self.forward.known or not self.own_pass.known:
            return self.forward.ms(0), self.forward.position_ms
        alone_ms = self.own_pass.ms(1)
        return alone_ms, _POSITION_SHARE * alone_ms

    def alone_speeds(self) -> Speeds:
        """Return the speeds where nobody drafts: before that was seen, as a draft of nothing would be."""
        speeds = self.speeds()
        if self.seen[Mode.TARGET_ONLY] or not self.own_pass.known:
            return speeds
        return replace(speeds, step_ms=max(self.forward.ms(1), self.own_pass.ms(1)), position_ms=0.0)

    def own_speeds(self) -> Speeds:
        """Return the speeds where the verifier drafts: for the time being as if it drafted as fast as the device."""
        if self.own_pass.known:
            step_ms, position_ms = self.own_pass.ms(0), self.own_pass.position_ms
        else:
            step_ms, position_ms = self.forward.ms(0), self.forward.position_ms + self.draft_ms.mean
        return replace(self.speeds(), step_ms=max(step_ms, _SHORTEST_MS), position_ms=position_ms)
