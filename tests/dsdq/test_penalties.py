"""Penalties and biases: the reference's token by token, in numpy and torch, whatever the draft is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsdq.contract import Sampling
from dsdq.penalties import adjusted
from dsdq.testing.reference import penalised

VOCAB = 12
SEED = 20_261_125
IDS = st.lists(st.integers(0, VOCAB + 3), max_size=10)  # some lie outside the vocabulary
SAMPLINGS = st.builds(
    Sampling,
    repetition_penalty=st.just(1.0) | st.floats(0.1, 10),
    presence_penalty=st.just(0.0) | st.floats(-2, 2),
    frequency_penalty=st.just(0.0) | st.floats(-2, 2),
    logit_bias=st.dictionaries(st.integers(0, VOCAB + 3), st.floats(-100, 100), max_size=4).map(
        lambda biases: tuple(sorted(biases.items()))
    ),
)
MAKERS = pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])


def logits(rows: int) -> np.ndarray:
    values = np.random.default_rng(SEED).normal(scale=3, size=(rows, VOCAB)).astype(np.float32)
    values[:, 0] = 0.0
    values[:, 1] = -np.inf
    return values


def naive(values: np.ndarray, chosen: Sampling, text: list[int], prompt_tokens: int, window: list[int]) -> np.ndarray:
    rows = [
        penalised(torch.from_numpy(row), chosen, [*text, *window[:i]], prompt_tokens) for i, row in enumerate(values)
    ]
    return np.stack(rows)


@MAKERS
@given(chosen=SAMPLINGS, prompt=IDS.filter(bool), generated=IDS, window=IDS, missing=st.integers(0, 1))
def test_every_row_is_what_the_reference_makes_of_the_text_before_it(
    make: Any, chosen: Sampling, prompt: list[int], generated: list[int], window: list[int], missing: int
) -> None:
    values = logits(max(len(window) + 1 - missing, 1))
    text = prompt + generated
    wanted = naive(values, chosen, text, len(prompt), window) if chosen.adjusts else values
    assert np.array_equal(np.asarray(adjusted(make(values), chosen, text, len(prompt), window)), wanted)


@MAKERS
def test_without_penalty_or_bias_the_logits_come_back_as_they_are(make: Any) -> None:
    values = make(logits(2))
    assert adjusted(values, Sampling(0.7, top_k=3), [1, 2], 1, [3]) is values


@MAKERS
def test_what_was_given_is_not_changed(make: Any) -> None:
    values = logits(1).astype(np.float64)
    before = values.copy()
    adjusted(make(values), Sampling(logit_bias=((2, 5.0),)), [1], 1, [])
    assert np.array_equal(values, before)


def by_hand(chosen: Sampling) -> list[float]:
    """Adjust [2, -2, 2, 0] where token 0 was prompted, 1 generated twice, and 2 drafted once."""
    values = np.array([[9, 9, 9, 9], [2, -2, 2, 0]], dtype=np.float32)
    return [float(value) for value in adjusted(values, chosen, [0, 1, 1], 1, [2])[1]]


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (Sampling(repetition_penalty=2.0), [1, -4, 1, 0]),
        (Sampling(presence_penalty=1.0), [2, -3, 1, 0]),
        (Sampling(frequency_penalty=1.0), [2, -4, 1, 0]),
        (Sampling(logit_bias=((0, 1.0), (3, -5.0))), [3, -2, 2, -5]),
        (Sampling(0, 0, 1.0, 0, 2.0, 0.5, 0.25, ((1, 10.0),)), [1, 5, 0.25, 0]),
    ],
    ids=["repetition", "presence", "frequency", "bias", "all, in their order"],
)
def test_the_repetition_penalty_sees_the_prompt_and_the_others_what_was_generated(
    chosen: Sampling, wanted: list[float]
) -> None:
    assert by_hand(chosen) == wanted


@pytest.mark.parametrize("changed", [{"repetition_penalty": 1.2}, {"presence_penalty": 0.1}, {"logit_bias": ((1, 0),)}])
def test_a_contract_says_whether_anything_is_adjusted(changed: dict[str, Any]) -> None:
    assert not Sampling(1.0, top_k=5).adjusts
    assert dataclasses.replace(Sampling(1.0), **changed).adjusts
