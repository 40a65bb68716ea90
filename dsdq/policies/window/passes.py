"""What a verifier's passes take, told apart by a device that sees only how long each of its own took."""

from __future__ import annotations

from collections.abc import Sequence

from dsdq.policies.window.level import Level

SHORTEST_MS = 1e-3
"""No pass is shorter, so that rates are finite."""

_MIDDLE = 4
_SHARES = (1.0, 0.03, 0.06)
"""What is expected before anything was told apart: of a pass over 4 positions, itself, a position, a token drafted."""

_UNSURE = (0.0, 0.03, 0.08)
_MOST = (float("inf"), 0.2, 2.0)
_DRIFTS = (0.02, 0.001, 0.001)
_SINGLE = 0.05


class Passes:
    """What passes take, ``step + n·position + d·own``: a Kalman filter of the three.

    Of ``n`` positions the verifier itself drafted ``d``, which is part of what its pass takes. All modes' passes tell
    of one state, so that what is seen in one says what another would take: while nobody changes windows nothing else
    would show it. The state is what a pass over 4 positions takes, which may drift by 2 % a round, and what a position
    and a drafted token add, by 0.1 % of it; single passes are off by 5 %. What makes all passes so many times as long
    at once (load, another machine) scales all three.
    """

    def __init__(self) -> None:
        self._state = [0.0, 0.0, 0.0]
        self._spread = [[0.0] * 3 for _ in range(3)]  # covariances, as shares of the square of what a pass takes
        self._scale = Level(0.1, 0.25)  # of what came to what was expected

    def add(self, positions: int, verify_ms: float, own: int = 0) -> None:
        """Take in a pass over so many positions, of which the verifier drafted ``own`` itself."""
        verify_ms = max(verify_ms, SHORTEST_MS)
        if not self.known:
            self._begin(_parts(positions, own), verify_ms)
        elif self._scale.add(verify_ms / self.ms(positions, own)):
            if self._scale.count == 2:
                self._state = [self._scale.mean * one for one in self._state]
                self._scale = Level(0.1, 0.25)
                self._scale.add(1.0)
        else:
            self._correct(_parts(positions, own), verify_ms)

    @property
    def known(self) -> bool:
        """Say whether there was any pass."""
        return self._state[0] > 0

    @property
    def position_ms(self) -> float:
        """Return what a position adds."""
        return self._state[1]

    @property
    def own_ms(self) -> float:
        """Return what a token adds that the verifier drafts itself, beside its position."""
        return self._state[2]

    def ms(self, positions: float, own: float = 0) -> float:
        """Return what a pass takes."""
        middle_ms, position_ms, own_ms = self._state
        return max(middle_ms + position_ms * (positions - _MIDDLE), 0.2 * middle_ms) + own_ms * own

    def carried(self) -> Passes:
        """Return the same, for another text's passes: a little less sure."""
        result = Passes()
        result._state = list(self._state)
        result._spread = [
            [one + _SINGLE**2 * (row == column) for column, one in enumerate(line)]
            for row, line in enumerate(self._spread)
        ]
        return result

    def _begin(self, parts: Sequence[float], verify_ms: float) -> None:
        """Divide the first pass by what is expected; where that is wrong of one part, it is of the others too."""
        middle_ms = verify_ms / max(sum(share * part for share, part in zip(_SHARES, parts, strict=True)), 0.5)
        self._state = [share * middle_ms for share in _SHARES]
        _, position, own = (-part * unsure**2 for part, unsure in zip(parts, _UNSURE, strict=True))
        middle = _SINGLE**2 - position * parts[1] - own * parts[2]
        self._spread = [[middle, position, own], [position, _UNSURE[1] ** 2, 0.0], [own, 0.0, _UNSURE[2] ** 2]]

    def _correct(self, parts: Sequence[float], verify_ms: float) -> None:
        for place, drift in enumerate(_DRIFTS):
            self._spread[place][place] += drift**2
        along = [sum(one * part for one, part in zip(row, parts, strict=True)) for row in self._spread]
        whole = sum(one * part for one, part in zip(along, parts, strict=True)) + _SINGLE**2
        late_ms = verify_ms - sum(one * part for one, part in zip(self._state, parts, strict=True))
        moved = [one + gain / whole * late_ms for one, gain in zip(self._state, along, strict=True)]
        middle_ms = max(moved[0], SHORTEST_MS)
        self._state = [min(max(one, 0.0), most * middle_ms) for one, most in zip(moved, _MOST, strict=True)]
        self._state[0] = middle_ms
        self._spread = [
            [one - gain * other / whole for one, other in zip(row, along, strict=True)]
            for row, gain in zip(self._spread, along, strict=True)
        ]


def _parts(positions: int, own: int) -> tuple[float, float, float]:
    return 1.0, float(positions - _MIDDLE), float(own)
