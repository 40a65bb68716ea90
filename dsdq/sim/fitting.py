"""What a verifier's steps take, by least squares over steps that ran, under :mod:`dsdq.sim.costs`' model. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsdq.errors import ConfigError

Floats = NDArray[np.float64]

LEAST_STEP_MS = 0.01
"""A step takes something; a fit that says otherwise saw too little."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A step that ran: its rows, the positions of all of them, and what it took."""

    rows: float
    positions: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class StepFit:
    """A verifier's figures, and how far they are off: ``error_ms`` is the root of the mean squared residual.

    ``error_share`` is the mean of the residual's size, of the ``mean_ms`` that the passes took.
    """

    step_ms: float
    row_ms: float
    position_ms: float
    mean_ms: float
    error_ms: float
    error_share: float
    passes: int


def fit_steps(passes: Sequence[Pass]) -> StepFit:
    """Return the figures that fit best of those that are not negative.

    What the passes do not tell apart (all of one row, or rows of one width) is put on the term that comes first: the
    step, then its rows, then their positions.

    Raises:
        ConfigError: there is no pass.
    """
    if not passes:
        raise ConfigError("expected at least one pass to fit a verifier's steps to, got none")
    terms = np.asarray([(1.0, one.rows, one.positions) for one in passes])
    took = np.asarray([one.took_ms for one in passes])
    found = _not_negative(terms, took)
    missed = took - terms @ found
    return StepFit(
        max(float(found[0]), LEAST_STEP_MS),
        float(found[1]),
        float(found[2]),
        float(np.mean(took)),
        float(np.sqrt(np.mean(missed**2))),
        float(np.mean(np.abs(missed)) / max(np.mean(took), LEAST_STEP_MS)),
        len(passes),
    )


def _not_negative(terms: Floats, took: Floats) -> Floats:
    """Return the least squares' weights, with one after the other left out that would be negative."""
    columns = _independent(terms)
    while True:
        weights = np.linalg.lstsq(terms[:, columns], took, rcond=None)[0]
        if (weights >= 0).all() or len(columns) == 1:
            found = np.zeros(terms.shape[1])
            found[columns] = np.maximum(weights, 0.0)
            return found
        columns.pop(int(weights.argmin()))


def _independent(terms: Floats) -> list[int]:
    """Return the columns, from the left, that those before do not make up."""
    columns = list[int]()
    for column in range(terms.shape[1]):
        if np.linalg.matrix_rank(terms[:, [*columns, column]]) > len(columns):
            columns.append(column)
    return columns
