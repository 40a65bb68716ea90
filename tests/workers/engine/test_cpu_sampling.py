"""The pruned choice of many rows is exactly the plain one."""

from __future__ import annotations

import numpy as np
import pytest

from dsdq import sampling
from dsdq.contract import Sampling
from workers.engine.cpu_sampling import choose_rows

ROWS = 200
CASES = [
    (4096, 1.0, 1.0),
    (2048, 5.0, 0.7),
    (385, 0.01, 1.0),
    (1000, 8.0, 0.05),
    (50, 1.0, 2.0),
    (1, 1.0, 1.0),
    (999, 300.0, 3.0),
]


@pytest.mark.parametrize(("vocab", "spread", "temperature"), CASES)
def test_each_row_gets_the_token_that_all_noise_would_give_it(vocab: int, spread: float, temperature: float) -> None:
    source = np.random.default_rng(20_261_125)
    logits = (source.standard_normal((ROWS, vocab)) * spread).astype(np.float32)
    seeds = [int(seed) for seed in source.integers(0, 2**64, ROWS, dtype=np.uint64)]
    positions, choices = source.integers(0, 2**31, ROWS), source.integers(0, 2**16, ROWS).tolist()
    for chosen in (Sampling(temperature), Sampling(temperature, top_k=20, top_p=0.9)):
        wanted = [
            sampling.choose(logits[row : row + 1], chosen, seeds[row], int(positions[row]), choices[row])[0]
            for row in range(ROWS)
        ]
        if chosen.plain:
            got = choose_rows(logits, temperature, seeds, positions, choices)
        else:
            got = choose_rows(sampling.scores(logits, chosen), 1.0, seeds, positions, choices)
        assert got.tolist() == wanted


def test_equal_sums_go_to_the_lower_id() -> None:
    scores = np.full((1, 500), -np.inf)
    scores[0, [3, 450]] = 0.0
    got = choose_rows(scores, 1.0, [5], np.array([9]), [0])
    assert got.tolist() == [int(sampling.choose(np.where(np.isinf(scores), -1e9, scores), Sampling(1.0), 5, 9, 0)[0])]
