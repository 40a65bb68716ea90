"""Log-probabilities: log-softmax of the raw logits, the likeliest first, the same in numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workers.engine.logprobs import top_logprobs

MAKERS = pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 30)),
    elements=st.sampled_from([0.0, 1.0, -1.5]) | st.floats(-80, 80, width=32),
)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    values: np.ndarray = torch.log_softmax(torch.from_numpy(logits).double(), dim=-1).numpy()
    return values


@MAKERS
@given(logits=LOGITS, count=st.integers(1, 20), data=st.data())
def test_they_are_log_softmax_of_the_chosen_and_of_the_likeliest_tokens(
    make: Any, logits: np.ndarray, count: int, data: st.DataObject
) -> None:
    rows, vocab = logits.shape
    chosen = data.draw(st.lists(st.integers(0, vocab - 1), min_size=rows, max_size=rows))
    found, wanted = top_logprobs(make(logits), chosen, count), log_softmax(logits)
    likeliest = np.argsort(-logits, axis=-1, kind="stable")[:, :count]
    assert found.top_ids.tolist() == likeliest.tolist()
    assert found.chosen == pytest.approx(wanted[np.arange(rows), chosen], abs=1e-5)
    assert found.top == pytest.approx(np.take_along_axis(wanted, likeliest, axis=-1), abs=1e-5)
    assert (found.chosen <= 0).all()
    assert (found.top_ids.dtype, found.top.dtype, found.chosen.dtype) == (np.uint32, np.float32, np.float32)


@MAKERS
def test_a_token_that_the_model_excludes_has_a_finite_value_so_that_it_can_travel(make: Any) -> None:
    logits = np.array([[0.0, -np.inf, -np.inf]], dtype=np.float32)
    found = top_logprobs(make(logits), [1], 3)
    assert found.top_ids.tolist() == [[0, 1, 2]]
    assert found.chosen[0] == found.top[0, 2] == np.finfo(np.float32).min


def test_numpy_and_torch_give_the_same_for_a_large_vocabulary() -> None:
    logits = np.random.default_rng(20_261_126).normal(scale=4, size=(9, 50_000)).astype(np.float32)
    ours, theirs = top_logprobs(logits, [7] * 9, 20), top_logprobs(torch.from_numpy(logits), [7] * 9, 20)
    assert np.array_equal(ours.top_ids, theirs.top_ids)
    assert ours.top == pytest.approx(theirs.top, abs=1e-5)


def test_those_of_the_first_tokens_and_of_one_place_can_be_taken_out() -> None:
    found = top_logprobs(np.log(np.array([[1, 2, 1], [1, 1, 6]], dtype=np.float32)), [0, 2], 2)
    assert len(found) == 2
    assert found.head(1) == top_logprobs(np.log(np.array([[1, 2, 1]], dtype=np.float32)), [0], 2)
    assert found.alternatives(1) == ((2, pytest.approx(np.log(0.75))), (0, pytest.approx(np.log(0.125))))
