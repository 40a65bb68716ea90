"""Results of ``dsdq sim`` as they are read from their JSON: what pages, pictures and tables show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dsdq.errors import ConfigError
from dsdq.sim.export import jsonable
from dsdq.sim.files import readable
from dsdq.sim.scenario.mistakes import of_file, plain
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.statistics import Interval

Count = Annotated[int, Field(ge=0)]
Bounds = tuple[float | None, float | None]


class Read(BaseModel):
    """Part of a result: what it does not know is passed over, and all its numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


def known(bounds: Bounds | None) -> Interval | None:
    """Return an interval, from its lower end up, of which both ends are known; None for none."""
    low, high = bounds or (None, None)
    return None if low is None or high is None else (min(low, high), max(low, high))


class Way(Read):
    """What one way of working came to; see :func:`dsdq.sim.replications.way`."""

    set: dict[str, Any]
    about: str = ""
    figures: dict[str, float | None]
    intervals: dict[str, Bounds | None]
    windows: dict[str, Count]
    quantiles: dict[str, list[float]]
    series: dict[str, list[float]]

    def value(self, name: str) -> float:
        """Return a figure; NaN for none."""
        found = self.figures.get(name)
        return math.nan if found is None else found

    def interval(self, name: str) -> Interval | None:
        """Return a figure's 95 % interval; None for none."""
        return known(self.intervals.get(name))

    def reach(self, name: str) -> float:
        """Return half the width of a figure's interval; 0 where one seed gives none."""
        low, high = self.interval(name) or (0.0, 0.0)
        return (high - low) / 2


class Difference(Read):
    """How one figure differs from the base's; see :func:`dsdq.sim.replications.differences`."""

    difference: float | None
    interval: Bounds | None
    ratio: float | None
    ratio_interval: Bounds | None
    told_apart: bool


class Tried(Read):
    """What came of a number of verifiers."""

    count: int
    good: float


class Verifiers(Read):
    """How many verifiers a way needs, None where none is enough, and what was tried."""

    count: int | None
    good: float
    utilisation: float | None
    tokens_per_s: float | None
    cost_per_million: float | None
    tried: list[Tried] = []


class End(Read):
    """Where drafting on devices begins or ends to pay, None where it never does, and what tokens cost there."""

    value: float | None
    cost_per_million: dict[str, float | None] | None


class Result(Read):
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
    with readable("result", file):
        content = file.read_bytes()
    try:
        return Result.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = plain(".".join(map(str, first["loc"])) or "the document", 200)
        why = plain(first["msg"].lower(), 400)
        raise ConfigError(
            f"result {of_file(file)}: expected the JSON of a result of dsdq sim, got at {place}: {why}"
        ) from None


def as_read(document: Mapping[str, Any]) -> Result:
    """Return a result's document as it is read from its file."""
    return Result.model_validate(jsonable(document))
