"""What a device believes of its speeds, from what its verdicts showed: running estimates that notice a change."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from dsdq.policies.window.protocol import Mode, Observation
from dsdq.policies.window.rates import Speeds

_MEMORY_TRIALS = 250.0
_SURPRISE = 3.5
"""Standard deviations between what came lately and what was expected, from which on the world has changed."""

_POSITION_SHARE = 0.03
"""What a position adds to a pass, as a share of it, before passes of different lengths were seen (engine: 12 + 0.7·n)."""

_HIGHEST = 0.98
"""A higher acceptance is not believed: windows would grow without bound."""


class Share:
    """A probability from trials. A run of results that it does not explain makes it begin anew from them."""

    def __init__(self, prior: float, weight: float) -> None:
        self.hits, self.trials = prior * weight, weight
        self._lately: deque[tuple[int, int]] = deque(maxlen=12)

    @property
    def mean(self) -> float:
        """Return the estimate."""
        return min(self.hits / self.trials, _HIGHEST)

    @property
    def deviation(self) -> float:
        """Return its standard error."""
        mean = min(max(self.mean, 0.02), 0.98)
        return math.sqrt(mean * (1 - mean) / self.trials)

    def add(self, hits: int, trials: int) -> None:
        """Take in trials, and how many of them hit."""
        if not trials:
            return
        self._lately.append((hits, trials))
        kept = max(0.0, 1 - trials / _MEMORY_TRIALS)
        self.hits, self.trials = kept * self.hits + hits, kept * self.trials + trials
        mean = min(max(self.mean, 0.03), 0.97)
        for length in (3, 6, 12):
            recent = list(self._lately)[-length:]
            came, tried = sum(one[0] for one in recent), sum(one[1] for one in recent)
            if tried + 1 < self.trials and self._surprising(came, tried, mean):
                self.hits, self.trials = came + mean, tried + 1.0
                self._lately = deque(recent, maxlen=12)
                return

    def fade(self, share: float) -> None:
        """Believe less in what was seen long ago."""
        self.hits, self.trials = self.hits * share, self.trials * share

    @staticmethod
    def _surprising(came: int, tried: int, mean: float) -> bool:
        off = max(0.0, abs(came - tried * mean) - 0.5)
        return off > _SURPRISE * math.sqrt(tried * mean * (1 - mean))


class Level:
    """A mean duration. Three values in a row far off on one side make it begin anew from them."""

    def __init__(self, weight: float = 0.08) -> None:
        self.mean, self.count = 0.0, 0
        self._weight = weight
        self._deviation = 0.0
        self._off: list[float] = []

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        weight = max(self._weight, 1 / self.count)
        off = value - self.mean
        far = self.count > 3 and abs(off) > 4 * self._deviation + 0.05 * abs(self.mean) + 0.05
        self._off = [*self._off, value] if far and self._same_side(off) else ([value] if far else [])
        if len(self._off) == 3:
            self.mean, self.count, self._off = sum(self._off) / 3, 3, []
            return
        if not far:
            self.mean += weight * off
            self._deviation += weight * (abs(off) - self._deviation) if self.count > 1 else 0.0
        else:
            # One that is late says little of the next; it is not ignored either, or rare long waits would not count.
            self.mean += 0.5 * weight * off

    def _same_side(self, off: float) -> bool:
        return not self._off or (self._off[-1] > self.mean) == (off > 0)


class Pass:
    """What a forward pass takes, ``step + n·position``, from passes over different numbers of positions."""

    def __init__(self) -> None:
        self._level = Level(0.1)
        self._positions, self._ms, self._spread, self._joint = 0.0, 0.0, 0.0, 0.0

    def add(self, positions: int, verify_ms: float) -> None:
        """Take in a pass."""
        expected = self.ms(positions) if self._level.count else verify_ms
        self._level.add(verify_ms / max(expected, 1e-3))
        if self._level.count == 1:
            self._positions, self._ms = float(positions), verify_ms
        if self._changed:  # everything takes so many times as long as before
            scale = self._level.mean
            self._ms, self._joint = self._ms * scale, self._joint * scale
            self._level = Level(0.1)
            self._level.add(1.0)
        off, weight = positions - self._positions, 0.05
        self._positions += weight * off
        late = verify_ms - self._ms
        self._ms += weight * late
        self._spread += weight * (off * off - self._spread)
        self._joint += weight * (off * late - self._joint)

    @property
    def _changed(self) -> bool:
        return self._level.count >= 3 and abs(self._level.mean - 1) > 0.15

    @property
    def position_ms(self) -> float:
        """Return what a position adds."""
        slope = (self._joint + 0.5 * _POSITION_SHARE * self._ms) / (self._spread + 0.5)
        return min(max(slope, 0.0), self._ms / max(self._positions, 1.0))

    def ms(self, positions: float) -> float:
        """Return what a pass over so many positions takes."""
        return max(self._ms + self.position_ms * (positions - self._positions), 0.0)


@dataclass(slots=True)
class Estimates:
    """All that a rate follows from. ``seen`` counts verdicts by mode."""

    acceptance: Share = field(default_factory=lambda: Share(0.7, 3.0))
    server_acceptance: Share = field(default_factory=lambda: Share(0.7, 2.0))
    draft_ms: Level = field(default_factory=Level)
    server_draft_ms: Level = field(default_factory=Level)
    network_ms: Level = field(default_factory=Level)
    queue_ms: Level = field(default_factory=Level)
    stream_ms: Level = field(default_factory=Level)
    forward: Pass = field(default_factory=Pass)
    seen: dict[Mode, int] = field(default_factory=lambda: dict.fromkeys(Mode, 0))
    _link_ms: float | None = None
    _off_link: Level = field(default_factory=Level)

    def observe(self, seen: Observation) -> None:
        """Take in a verdict."""
        self.seen[seen.mode] += 1
        self.forward.add(seen.drafted + 1, seen.verify_ms)
        self._network(seen)
        if seen.mode is Mode.SPECULATE:
            self.acceptance.add(seen.accepted, seen.accepted + (seen.accepted < seen.drafted))
            if seen.drafted:
                self.draft_ms.add(seen.draft_token_ms or seen.draft_ms / seen.drafted)
        elif seen.guessed:
            self.acceptance.add(seen.guessed_right, seen.guessed)
            self.draft_ms.add(seen.guess_ms / seen.guessed)
        if seen.part:
            beside_ms = max(0.0, seen.round_trip_ms - seen.verify_ms)
            if seen.mode is Mode.COLOCATED and seen.drafted:
                self.server_draft_ms.add(beside_ms / seen.drafted)
            elif seen.mode is Mode.TARGET_ONLY:
                self.stream_ms.add(beside_ms)
        if seen.mode is Mode.COLOCATED:
            self.server_acceptance.add(seen.accepted, seen.accepted + (seen.accepted < seen.drafted))

    def _network(self, seen: Observation) -> None:
        """A request shows network and queue; what its device measured of the link tells of the network in between."""
        if not seen.part:
            network_ms = max(0.0, seen.round_trip_ms - seen.queue_ms - seen.verify_ms)
            if seen.mode is Mode.COLOCATED:
                network_ms = max(0.0, network_ms - seen.drafted * self.server_draft_ms.mean)
            self.network_ms.add(network_ms)
            if seen.link_ms is not None:
                self._off_link.add(network_ms - seen.link_ms)
            if not seen.in_flight:
                self.queue_ms.add(seen.queue_ms)
        elif seen.link_ms is not None and seen.link_ms != self._link_ms and self._off_link.count:
            self.network_ms.add(max(0.0, seen.link_ms + self._off_link.mean))
        self._link_ms = seen.link_ms

    def speeds(self, bonus: float = 0.0) -> Speeds:
        """Return the speeds, with the device's acceptance higher by so many standard errors."""
        return Speeds(
            acceptance=min(max(self.acceptance.mean + bonus * self.acceptance.deviation, 0.005), _HIGHEST),
            draft_ms=self.draft_ms.mean,
            network_ms=self.network_ms.mean,
            queue_ms=self.queue_ms.mean,
            step_ms=self.forward.ms(0),
            position_ms=self.forward.position_ms,
            stream_ms=self.stream_ms.mean,
        )
