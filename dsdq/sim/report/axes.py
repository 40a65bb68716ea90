"""From values to pixels: where a value lies on an axis, linear or logarithmic, and which values are written. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_TICKS = 4
"""About so many are written on an axis."""

_MOST_LOG_TICKS = 6
_NARROW = 5.0
"""Less than so many times is written in even steps even if it is drawn logarithmically."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from ``low`` at pixel ``begin`` to ``high`` at pixel ``end``."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return a value's pixel; what lies outside is put at the nearer end."""
        inside = min(max(value, self.low), self.high)
        share = (self._scaled(inside) - self._scaled(self.low)) / (self._scaled(self.high) - self._scaled(self.low))
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return the values to write: round ones, within the axis."""
        found = _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high)
        return [value for value in found if self.low <= value <= self.high * (1 + 1e-9)]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def linear(values: Iterable[float], begin: float, end: float) -> Axis:
    """Return a linear axis over 0 and all values; its ends are round."""
    numbers = [0.0, *_finite(values)]
    low, high = min(numbers), max(numbers)
    if low == high:
        high = 1.0
    step = _step(high - low)
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, begin, end)


def spread(values: Iterable[float], begin: float, end: float, *, wide: float = 20.0) -> Axis:
    """Return a logarithmic axis where positive values lie apart by more than a factor ``wide``, else a linear one.

    It ends where the values do; a linear one has 0, too.
    """
    numbers = _finite(values)
    positive = [value for value in numbers if value > 0]
    if len(positive) == len(numbers) and positive and max(positive) / min(positive) > wide:
        return Axis(min(positive), max(positive), begin, end, log=True)
    low, high = min([0.0, *numbers]), max(numbers, default=1.0)
    return Axis(low, high if high > low else low + 1, begin, end)


def written(value: float) -> str:
    """Return a tick's text, short."""
    size = abs(value)
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= least:
            return f"{value / (1e3 if unit == 'k' else least):.4g}{unit}"
    return f"{value:.4g}"


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _step(span: float) -> float:
    """Return 1, 2 or 5 times a power of ten, of which about ``_TICKS`` are in a span."""
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    return next(power * by for by in (1, 2, 5, 10) if span / (power * by) <= _TICKS + 1)


def _even_ticks(low: float, high: float) -> Sequence[float]:
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> Sequence[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if high < _NARROW * low:
        return _even_ticks(low, high)
    within: list[float] = []
    for parts in ((1, 2, 5), (1, 3), (1,)):
        within = [part * 10.0**power for power in decades for part in parts if low <= part * 10.0**power <= high]
        if len(within) <= _MOST_LOG_TICKS:
            return within
    return within[:: math.ceil(len(within) / _MOST_LOG_TICKS)]
