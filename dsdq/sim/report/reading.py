"""Results of ``dsdq sim`` as they are read from their JSON: what a report needs of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from dsdq.errors import ConfigError
from dsdq.sim.scenario.model import Scenario

Interval = tuple[float, float]


class Way(BaseModel):
    """What one way of working came to; see :func:`dsdq.sim.replications.way`."""

    set: dict[str, Any]
    about: str = ""
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float | None, float | None] | None]
    windows: dict[str, int]
    quantiles: dict[str, list[float]]
    series: dict[str, list[float]]

    def value(self, name: str) -> float:
        """Return a figure; NaN for none."""
        found = self.figures.get(name)
        return math.nan if found is None else found

    def interval(self, name: str) -> Interval | None:
        """Return a figure's 95 % interval; None for none."""
        low, high = self.intervals.get(name) or (None, None)
        return None if low is None or high is None else (low, high)


class Difference(BaseModel):
    """How one figure differs from the base's; see :func:`dsdq.sim.replications.differences`."""

    difference: float | None
    interval: Interval | None
    ratio: float | None
    ratio_interval: tuple[float | None, float | None] | None
    told_apart: bool


class Tried(BaseModel):
    """What came of a number of verifiers."""

    count: int
    good: float


class Verifiers(BaseModel):
    """How many verifiers a way needs, None where none is enough, and what was tried."""

    count: int | None
    good: float
    utilisation: float | None
    tokens_per_s: float | None
    cost_per_million: float | None
    tried: list[Tried] = []


class End(BaseModel):
    """Where drafting on devices begins or ends to pay, None where it never does, and what tokens cost there."""

    value: float | None
    cost_per_million: dict[str, float | None] | None


class Result(BaseModel):
    """A result's document; what only some kinds have is empty for the others."""

    kind: Literal["run", "compare", "sweep", "plan"]
    version: str
    scenario: Scenario
    seeds: list[int] = Field(min_length=1)
    ways: dict[str, Way] = Field(min_length=1)
    base: str | None = None
    differences: dict[str, dict[str, Difference]] = {}
    vary: dict[str, list[str]] = {}
    objective: str | None = None
    good: float | None = None
    gain: float | None = None
    most_rtt_ms: float | None = None
    verifiers: dict[str, Verifiers] = {}
    break_even: dict[str, dict[str, End]] = {}

    @model_validator(mode="after")
    def _varied(self) -> Self:
        for name, way in self.ways.items():
            for field, values in self.vary.items():
                if str(way.set.get(field)) not in values:
                    msg = f"expected way {name} to set {field} to one of {', '.join(values)}, got {way.set.get(field)}"
                    raise ValueError(msg)
        return self


def read(file: Path) -> Result:
    """Read what ``--json`` of another command wrote.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        return Result.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"report {file}: expected a file that can be read, got: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise ConfigError(
            f"report {file}: expected the JSON of a result of dsdq sim, got at {place}: {first['msg'].lower()}"
        ) from None
