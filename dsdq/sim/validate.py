"""What the simulator says of a live workload that it has not seen, and by how much it is wrong. Pure.

Each variant of the workload is generated in two halves that share neither round trips (where there are several) nor
texts. A simulator that is calibrated from one half predicts the other, and the other way round: so every cell is
predicted, and by nothing that was measured in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from dsdq.sim.calibrate import at_terms, calibrate
from dsdq.sim.observed import Observed
from dsdq.sim.record import FINISHED, Record
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Scenario

BOUNDS = {"tpot_ms": 0.10, "tokens_per_s": 0.10, "acceptance": 0.10, "ttft_ms": 0.15}
"""By how much each figure may be wrong, in the median over all cells."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is generated live: texts of each cell and device, and of each so many tokens and seconds at most.

    Far away a text takes longer for as much luck: it has time for so many ``rounds`` beyond its seconds.
    """

    texts: int
    tokens: int
    limit_s: float
    rounds: int = 20

    def limit_at(self, rtt_ms: float) -> float:
        """Return the seconds that a text may take at a round trip."""
        return self.limit_s + self.rounds * rtt_ms / 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """What ran live under one policy at one round trip: texts of one or several devices at the same time.

    Attributes:
        variant: of models and speeds.
        half: 0 or 1; the cells of one half are predicted from those of the other.
        rtt_ms: mean round trip of the link.
        policy: as ``dsdq generate --policy`` takes it.
        limit_s: texts that take longer end there.
        texts: as their devices met them.
    """

    variant: str
    half: int
    rtt_ms: float
    policy: str
    limit_s: float
    texts: tuple[Observed, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a cell came to, or is predicted to: NaN where there is nothing, as the acceptance of no drafts.

    ``tpot_ms`` is the time between first and last token for each token behind the first, ``tokens_per_s`` of all
    devices from the call to the last token.
    """

    ttft_ms: float
    tpot_ms: float
    tokens_per_s: float
    acceptance: float


def halves(rtts_ms: Sequence[float], texts: int) -> list[tuple[int, float, int]]:
    """Return what is generated: half, round trip, and the number of the first of so many texts, none twice.

    Round trips are dealt out to the halves in turn; a single one is in both.
    """
    dealt = sorted(rtts_ms) if len(rtts_ms) > 1 else [*rtts_ms, *rtts_ms]
    return [(number % 2, rtt_ms, number * texts) for number, rtt_ms in enumerate(dealt)]


def seen(cell: Cell) -> Figures:
    """Return what a cell came to live."""
    texts = cell.texts
    behind_first = sum(one.tokens - 1 for one in texts)
    spent_ms = sum(one.answers[-1].at_ms - one.ttft_ms for one in texts)
    total_ms = sum(one.answers[-1].at_ms for one in texts)
    devices = len({one.device for one in texts})
    return Figures(
        ttft_ms=fmean(one.ttft_ms for one in texts),
        tpot_ms=spent_ms / behind_first if behind_first else math.nan,
        tokens_per_s=1000 * devices * sum(one.tokens for one in texts) / total_ms,
        acceptance=_share(sum(one.accepted for one in texts), sum(one.judged for one in texts)),
    )


def predicted(scenario: Scenario, cell: Cell) -> Figures:
    """Return what a calibrated scenario says of a cell, of which it takes nothing but the terms."""
    terms = at_terms(scenario, cell.texts[0])
    return figures_of(simulate(terms), len({one.device for one in cell.texts}), 1000 * cell.limit_s)


def figures_of(record: Record, devices: int, limit_ms: float) -> Figures:
    """Return a simulation's figures for texts that end after ``limit_ms`` if they have not ended before."""
    ended = [one for one in record.requests if one.outcome == FINISHED]
    ttft_ms = fmean(one.first_ms - one.arrival_ms for one in ended)
    behind_first = sum(one.committed - 1 for one in ended)
    tpot_ms = sum(one.ended_ms - one.first_ms for one in ended) / behind_first if behind_first else math.nan
    whole = fmean(one.committed for one in ended)
    tokens = min(whole, 1 + max(limit_ms - ttft_ms, 0.0) / tpot_ms) if tpot_ms > 0 else whole
    total_ms = ttft_ms + (tokens - 1) * tpot_ms if behind_first else ttft_ms
    acceptance = _share(sum(one.accepted for one in ended), sum(one.judged for one in ended))
    return Figures(ttft_ms, tpot_ms, 1000 * devices * tokens / total_ms, acceptance)


def judge(cells: Iterable[Cell]) -> dict[str, Any]:
    """Return predictions and errors of all cells, the medians of their size, and the two scenarios of each variant.

    Raises:
        ConfigError: a half of the cells does not show what a pass takes.
    """
    rows, scenarios = list[dict[str, Any]](), dict[str, list[dict[str, Any]]]()
    by_variant: dict[str, list[Cell]] = {}
    for cell in cells:
        by_variant.setdefault(cell.variant, []).append(cell)
    for variant, mine in by_variant.items():
        found = [calibrate([text for cell in mine if cell.half == half for text in cell.texts]) for half in (0, 1)]
        scenarios[variant] = [
            {"scenario": one.scenario.model_dump(mode="json", exclude_none=True), "notes": one.notes} for one in found
        ]
        rows += [_row(cell, seen(cell), predicted(found[1 - cell.half].scenario, cell)) for cell in mine]
    return {"medians": medians(rows), "bounds": BOUNDS, "cells": rows, "calibrations": scenarios}


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median over cells of each figure's error, whichever its sign."""
    found = {name: [abs(row["errors"][name]) for row in rows if row["errors"][name] is not None] for name in BOUNDS}
    return {name: median(errors) for name, errors in found.items() if errors}


def errors(live: Figures, ours: Figures) -> dict[str, float | None]:
    """Return how much more than live the simulation says, as a share; None where there is nothing to compare."""
    pairs = {name: (getattr(live, name), getattr(ours, name)) for name in BOUNDS}
    return {
        name: theirs / one - 1 if one and math.isfinite(one) and math.isfinite(theirs) else None
        for name, (one, theirs) in pairs.items()
    }


def _row(cell: Cell, live: Figures, ours: Figures) -> dict[str, Any]:
    wrong = errors(live, ours)
    return {
        "variant": cell.variant,
        "half": cell.half,
        "rtt_ms": cell.rtt_ms,
        "policy": cell.policy,
        "devices": len({one.device for one in cell.texts}),
        "texts": len(cell.texts),
        "tokens": sum(one.tokens for one in cell.texts),
        "live": _plain(live),
        "predicted": _plain(ours),
        "errors": wrong,
        "misses": [name for name, bound in BOUNDS.items() if wrong[name] is not None and abs(wrong[name] or 0) > bound],
    }


def _plain(found: Figures) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(found).items()}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
