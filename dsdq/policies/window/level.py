"""A running mean that notices a change."""

from __future__ import annotations


class Level:
    """A mean duration. Two values in a row far off on one side make it begin anew from them."""

    def __init__(self, weight: float = 0.08, tolerance: float = 0.05) -> None:
        self.mean, self.count = 0.0, 0
        self._weight, self._tolerance = weight, tolerance
        self._deviation = 0.0
        self._off: float | None = None

    def carried(self, count: int) -> Level:
        """Return the same mean, as if it were known from so many values at most."""
        result = Level(self._weight, self._tolerance)
        result.mean, result.count, result._deviation = self.mean, min(self.count, count), self._deviation
        return result

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
