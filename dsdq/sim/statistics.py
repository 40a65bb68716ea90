"""What several replications say of a figure: its mean, and between which values it lies with 95 % confidence. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

CONFIDENCE = 0.95
_HALVINGS = 80

Interval = tuple[float, float]


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers; NaN if none is."""
    numbers = _numbers(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def interval(values: Sequence[float]) -> Interval | None:
    """Return the interval that holds the mean with 95 % confidence (Student's t), of the values that are numbers.

    None for fewer than two: nothing is known of how they scatter.
    """
    numbers = _numbers(values)
    count = len(numbers)
    if count < 2:
        return None
    middle = math.fsum(numbers) / count
    deviation = math.sqrt(math.fsum((value - middle) ** 2 for value in numbers) / (count - 1))
    reach = t_quantile(count - 1) * deviation / math.sqrt(count)
    return middle - reach, middle + reach


@lru_cache(maxsize=256)
def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return the t that Student's law of so many degrees of freedom stays within, both sides, with this probability."""
    low, high = 0.0, 1e6
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return how likely T is within ±t, for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for number in range(freedom // 2):
        total += term
        step = 2 * number + (2 if odd else 1)
        term *= cosine * cosine * step / (step + 1)
    found = math.sin(angle) * total
    return 2 / math.pi * (angle + found) if odd else found


def _numbers(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
