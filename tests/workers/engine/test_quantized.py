"""Quantised weights are near the model's own, and a row's logits still do not depend on what is beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dsdq.models.target import load_target
from workers.engine.engine import Engine
from workers.engine.memory import KvMemory
from workers.engine.rows import Row

TOKENS = 60
VOCAB = 384


def text(seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(VOCAB) for _ in range(TOKENS)]


@pytest.mark.filterwarnings("default")  # the packages' own
@pytest.mark.parametrize(
    ("kind", "package"), [("torchao-int8", "torchao"), ("bnb-8bit", "bitsandbytes"), ("bnb-4bit", "bitsandbytes")]
)
def test_neighbours_and_cuts_change_no_bit(tiny: Callable[[str], Path], kind: str, package: str) -> None:
    pytest.importorskip(package)
    # Four bits are stored in groups of 64, which the tiny model's layers are no multiples of.
    name = "builtin/target" if kind == "bnb-4bit" else str(tiny("llama"))
    plain, engine = (Engine(load_target(name, quantization=q), KvMemory(tokens=1024)) for q in ("none", kind))
    tokens = text(1)
    whole = engine.forward([Row("alone", 0, tokens, TOKENS, range(8))])
    exact = plain.forward([Row("alone", 0, tokens, TOKENS, range(8))])
    assert torch.nn.functional.cosine_similarity(whole, exact).min() > 0.9
    assert not torch.equal(whole, exact)
    for start in range(0, TOKENS, 5):
        end = start + 5
        rows = [Row("a", start, tokens[start:end], 5, range(8)), Row("b", start, text(2)[start:end], 0, range(8, 16))]
        assert torch.equal(engine.forward(rows), whole[start : start + 5]), start
