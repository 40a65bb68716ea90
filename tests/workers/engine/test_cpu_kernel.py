"""The compiled attention: what a plain float64 one gives, and for each query the same bits in any company."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dsdq.errors import ModelError
from workers.engine.attention import Scoring
from workers.engine.cpu_attention import CpuAttention
from workers.engine.rows import Row, pack

CLOSE = 1e-5  # of values around 1, in float32


@dataclass(frozen=True)
class Shape:
    heads: int
    kv_heads: int
    dim: int
    value_dim: int


SHAPES = [Shape(4, 4, 16, 16), Shape(6, 2, 32, 32), Shape(5, 1, 64, 64), Shape(4, 2, 12, 20), Shape(7, 1, 100, 36)]
SCORINGS = {
    "plain": Scoring(0.3),
    "window": Scoring(0.3, window=24),
    "wide window": Scoring(0.3, window=100),
    "softcap": Scoring(0.5, softcap=2.0),
    "all": Scoring(0.5, window=70, softcap=5.0),
}


class Text:
    """Queries, keys and values of one text."""

    def __init__(self, seed: int, tokens: int, shape: Shape) -> None:
        source = torch.Generator().manual_seed(seed)
        self.query = torch.randn(tokens, shape.heads, shape.dim, generator=source)
        self.key = torch.randn(tokens, shape.kv_heads, shape.dim, generator=source)
        self.value = torch.randn(tokens, shape.kv_heads, shape.value_dim, generator=source)

    def plain(self, scoring: Scoring) -> NDArray[np.float64]:
        """Return causal attention over the whole text, in float64."""
        group = self.query.shape[1] // self.key.shape[1]
        query, key, value = (part.double().numpy() for part in (self.query, self.key, self.value))
        key, value = key.repeat(group, axis=1), value.repeat(group, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) * scoring.scale
        if scoring.softcap is not None:
            scores = np.tanh(scores / scoring.softcap) * scoring.softcap
        places = np.arange(len(query))
        hidden = places[None] > places[:, None]
        if scoring.window is not None:
            hidden |= places[None] <= places[:, None] - scoring.window
        scores = np.where(hidden, -np.inf, scores)
        most = scores.max(-1, keepdims=True)
        sink = 0.0
        if scoring.sinks is not None:
            extra = scoring.sinks.double().numpy()[:, None, None]
            most = np.maximum(most, extra)
            sink = np.exp(extra - most)
        weights = np.exp(scores - most)
        weights /= weights.sum(-1, keepdims=True) + sink
        out: NDArray[np.float64] = np.einsum("hqk,khd->qhd", weights, value)
        return out


def run(pool: CpuAttention, texts: dict[str, Text], rows: list[Row], scoring: Scoring) -> list[NDArray[np.float32]]:
    parts = [
        [getattr(texts[row.session], name)[row.start : row.end] for row in rows] for name in ("query", "key", "value")
    ]
    query, key, value = (torch.cat(part) for part in parts)
    out = pool.attend(0, query, key, value, pool.step(pack(rows), 0), scoring).numpy()
    return np.split(out, np.cumsum([len(row.tokens) for row in rows])[:-1])


def row(session: str, start: int, end: int, blocks: tuple[int, ...]) -> Row:
    return Row(session, start, [0] * (end - start), 0, blocks)


@pytest.mark.parametrize("scoring", SCORINGS.values(), ids=SCORINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_the_plain_one(shape: Shape, scoring: Scoring) -> None:
    text = Text(1, 150, shape)
    (out,) = run(CpuAttention(5), {"a": text}, [row("a", 0, 150, (3, 0, 4))], scoring)
    np.testing.assert_allclose(out, text.plain(scoring), atol=CLOSE)


def test_sinks_take_their_share() -> None:
    shape = SHAPES[1]
    scoring = Scoring(0.3, sinks=torch.linspace(-2, 3, shape.heads))
    text = Text(2, 100, shape)
    (out,) = run(CpuAttention(2), {"a": text}, [row("a", 0, 100, (1, 0))], scoring)
    np.testing.assert_allclose(out, text.plain(scoring), atol=CLOSE)


def test_scores_far_apart_do_not_overflow() -> None:
    shape = SHAPES[0]
    scoring = Scoring(40.0)
    text = Text(3, 130, shape)
    (out,) = run(CpuAttention(3), {"a": text}, [row("a", 0, 130, (0, 1, 2))], scoring)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, text.plain(scoring), atol=1e-3)


@pytest.mark.parametrize("scoring", SCORINGS.values(), ids=SCORINGS)
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_cuts_and_neighbours_change_no_bit(shape: Shape, scoring: Scoring) -> None:
    source = random.Random(7)
    texts = {name: Text(number, 200, shape) for number, name in enumerate("abc")}
    blocks = {name: tuple(range(4 * number, 4 * number + 4)) for number, name in enumerate("abc")}
    wanted = {name: run(CpuAttention(12), texts, [row(name, 0, 200, blocks[name])], scoring)[0] for name in texts}
    pool, fed = CpuAttention(12), dict.fromkeys(texts, 0)
    while open_ := [name for name in texts if fed[name] < 200]:
        chosen = source.sample(open_, source.randint(1, len(open_)))
        ends = {name: min(200, fed[name] + source.choice((1, 2, 3, 4, 8, 9, 30))) for name in chosen}
        rows = [row(name, fed[name], ends[name], blocks[name]) for name in chosen]
        for name, out in zip(chosen, run(pool, texts, rows, scoring), strict=True):
            assert np.array_equal(out, wanted[name][fed[name] : ends[name]]), (name, fed[name], ends[name])
        fed.update(ends)


def test_heads_of_an_odd_width_are_refused() -> None:
    shape = Shape(2, 2, 10, 10)
    with pytest.raises(ModelError, match="multiple of 4"):
        run(CpuAttention(1), {"a": Text(1, 5, shape)}, [row("a", 0, 5, (0,))], Scoring(1.0))
