"""What the simulated device meets: times, and which of its guesses are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWN_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class World:
    """Speeds at one moment; durations in milliseconds.

    Attributes:
        acceptance: probability that the device's guess of the next token is right, given the text before it; behind a
            wrong guess it is ``first``, if that is not None.
        draft_ms: what the device takes to draft a token.
        rtt_ms: round trip of messages, without the verifier.
        step_ms: what a forward pass takes, without
        position_ms: what each of its positions takes.
        jitter_ms: mean of what a message may take longer, exponentially distributed, in each direction.
        busy: probability that a pass of others runs when a round arrives; then it waits for the rest of that pass.
        server_acceptance: the same as ``acceptance`` for what the verifier drafts itself.
        server_draft_ms: what it takes to draft a token.
        spread: how much the drafter's confidence tells: 0 nothing, 1 everything.
        ready_tokens: the widest window that the verifier asks for.
    """

    acceptance: float
    draft_ms: float
    rtt_ms: float
    step_ms: float
    position_ms: float = 0.0
    jitter_ms: float = 0.0
    busy: float = 0.0
    server_acceptance: float = 0.0
    server_draft_ms: float = 0.0
    spread: float = 0.0
    ready_tokens: int = 64
    first: float | None = None

    def pass_ms(self, positions: int) -> float:
        """Return the time of a forward pass over so many positions of this session."""
        return self.step_ms + self.position_ms * positions


class Draws:
    """Seeded luck, the same for every policy: whether the guess of a position is right depends on nothing else.

    Where that is ``known``, by position, it takes no luck.
    """

    def __init__(self, seed: int, known: Mapping[int, bool] | None = None) -> None:
        self._known = known or {}
        places, delays = np.random.SeedSequence(seed).spawn(2)
        self._places = np.random.default_rng(places)
        self._delays = np.random.default_rng(delays)
        self._table: NDArray[np.float64] = np.empty((0, 3))

    def right(self, world: World, position: int) -> bool:
        """Say whether the device's guess of the token at ``position`` is right."""
        return self._known[position] if position in self._known else self._by_luck(world, position)

    def _by_luck(self, world: World, position: int) -> bool:
        luck = float(self._at(position)[0])
        behind_right = self.confidence(world, position)
        behind_wrong = behind_right if world.first is None else world.first
        if luck < min(behind_right, behind_wrong):
            return True
        if luck >= max(behind_right, behind_wrong):
            return False
        right_before = not position or self.right(world, position - 1)
        return luck < (behind_right if right_before else behind_wrong)

    def server_right(self, world: World, position: int) -> bool:
        """Say whether the verifier's own drafter's guess is right."""
        return bool(self._at(position)[1] < world.server_acceptance)

    def confidence(self, world: World, position: int) -> float:
        """Return the drafter's probability of its guess: calibrated, its mean is the acceptance.

        With spread s it is uniform within ``acceptance ± s·min(acceptance, 1 - acceptance)``.
        """
        reach = world.spread * min(world.acceptance, 1 - world.acceptance)
        return world.acceptance + reach * (2 * float(self._at(position)[2]) - 1)

    def delay_ms(self, world: World) -> float:
        """Return the time of one message in one direction."""
        late = self._delays.exponential(world.jitter_ms) if world.jitter_ms else 0.0
        return world.rtt_ms / 2 + float(late)

    def wait_ms(self, world: World, positions: int) -> float:
        """Return how long a round that arrives waits for a pass that runs."""
        if not world.busy or self._delays.random() >= world.busy:
            return 0.0
        return float(self._delays.random()) * world.pass_ms(positions)

    def _at(self, position: int) -> NDArray[np.float64]:
        while position >= len(self._table):
            self._table = np.concatenate([self._table, self._places.random((_DRAWN_AT_ONCE, 3))])
        row: NDArray[np.float64] = self._table[position]
        return row
