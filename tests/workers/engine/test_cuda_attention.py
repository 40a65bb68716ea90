from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from dsdq.policies.paging import BLOCK
from workers.engine.cuda_step import Step, Tiling, build_step
from workers.engine.rows import Packed, Row, pack

pytest.importorskip("triton", reason="Triton, which the CUDA kernels are written in, is not installed")

from workers.engine.cuda_attention import attend

# On a GPU the kernels run as they are; elsewhere Triton interprets them on the CPU.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHORT_SPLITS = Tiling(split_blocks=2)
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Span:
    """What one row feeds: ``count`` tokens from position ``start`` on; its text lies in ``blocks``."""

    start: int
    count: int
    blocks: Sequence[int]

    @property
    def end(self) -> int:
        return self.start + self.count


def packed(spans: Sequence[Span]) -> Packed:
    return pack([Row(str(n), span.start, [0] * span.count, 0, span.blocks) for n, span in enumerate(spans)])


@dataclass(frozen=True)
class Case:
    """The shapes and options of one layer; ``windows`` are (start, count) of each row."""

    windows: Sequence[tuple[int, int]] = ((70, 5), (0, 8), (200, 1))
    kv_heads: int = 2
    group: int = 2
    dim: int = 32
    value_dim: int | None = None
    dtype: torch.dtype = torch.float32
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    tiling: Tiling = SHORT_SPLITS


class Layer:
    """One layer's cache, filled for every row up to its window's end, and the packed tokens of the windows."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        print(f"seed {seed}")
        self.case = case
        generator = torch.Generator().manual_seed(seed)
        value_dim = case.value_dim or case.dim

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(DEVICE, case.dtype)

        ends = [start + count for start, count in case.windows]
        tables = [-(-end // BLOCK) for end in ends]
        ids = list(range(sum(tables) + 2))
        random.Random(seed).shuffle(ids)  # blocks in no order, and two that nobody holds
        blocks = [[ids.pop() for _ in range(size)] for size in tables]
        self.spans = [Span(*window, held) for window, held in zip(case.windows, blocks, strict=True)]
        self.rows = [
            (draw(count, case.kv_heads * case.group, case.dim), draw(end, case.kv_heads, case.dim),
             draw(end, case.kv_heads, value_dim))
            for (_, count), end in zip(case.windows, ends, strict=True)
        ]  # fmt: skip
        self.sinks = draw(case.kv_heads * case.group) if case.sinks else None
        self.blocks = sum(tables) + 2

    def attend(self, rows: Sequence[int] | None = None, step: Step | None = None) -> torch.Tensor:
        """Run the kernels for some rows over a fresh pool that holds their past, and NaN wherever nobody wrote."""
        chosen = range(len(self.spans)) if rows is None else rows
        keys, values = self.pools()
        spans = [self.spans[row] for row in chosen]
        step = step or build_step(packed(spans), DEVICE, tiling=self.case.tiling)
        return self.attend_over(keys, values, [(self.spans[row], self.rows[row]) for row in chosen], step)

    def attend_over(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        rows: Sequence[tuple[Span, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]],
        step: Step,
    ) -> torch.Tensor:
        padding = step.slots.shape[0] - sum(span.count for span, _ in rows)
        parts = [
            (query, key[span.start : span.end], value[span.start : span.end]) for span, (query, key, value) in rows
        ]
        joined = [torch.cat([*part, torch.full_like(part[0][:1], torch.nan).repeat(padding, 1, 1)])
                  for part in zip(*parts, strict=True)]  # fmt: skip
        case = self.case
        # as a model gives them: [1, heads, T, dim], transposed
        query, key, value = (part.transpose(0, 1).contiguous().transpose(0, 1) for part in joined)
        return attend(
            query, key, value, keys, values, step,
            scale=case.dim**-0.5, window=case.window, softcap=case.softcap, sinks=self.sinks,
        )  # fmt: skip

    def pools(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cache with every row's past in its blocks, and NaN wherever nobody wrote."""
        _, key, value = self.rows[0]
        keys = key.new_full((self.blocks, BLOCK, *key.shape[1:]), torch.nan)
        values = value.new_full((self.blocks, BLOCK, *value.shape[1:]), torch.nan)
        for span, (_, past_keys, past_values) in zip(self.spans, self.rows, strict=True):
            for position in range(span.start):
                place = span.blocks[position // BLOCK], position % BLOCK
                keys[place], values[place] = past_keys[position], past_values[position]
        return keys, values

    def expected(self) -> torch.Tensor:
        """Attend row by row with plain torch, in float32."""
        return torch.cat([self._row(span, *row) for span, row in zip(self.spans, self.rows, strict=True)])

    def _row(self, span: Span, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        case = self.case
        keys, values = (part.float().repeat_interleave(case.group, 1) for part in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query.float(), keys) * case.dim**-0.5
        if case.softcap is not None:
            scores = torch.tanh(scores / case.softcap) * case.softcap
        places = torch.arange(span.end, device=DEVICE)
        behind = places[span.start :, None] - places
        visible = (behind >= 0) & (behind < (case.window or span.end))
        scores = scores.masked_fill(~visible, -torch.inf)
        if self.sinks is not None:
            sink = self.sinks.float()[:, None, None].expand(-1, span.count, 1)
            scores = torch.cat([scores, sink], dim=-1)
        weights = torch.softmax(scores, dim=-1)[..., : span.end]
        return torch.einsum("hqk,khd->qhd", weights, values).to(case.dtype)


def check(case: Case) -> None:
    layer = Layer(case)
    tolerance = TOLERANCE[case.dtype]
    torch.testing.assert_close(layer.attend(), layer.expected(), atol=tolerance, rtol=tolerance)


def test_windows_of_every_length_share_one_forward() -> None:
    check(Case(windows=((130, 1), (61, 5), (0, 64), (300, 8), (0, 1), (7, 20), (40, 64))))


@pytest.mark.parametrize("group", [1, 2, 3, 4, 7])
def test_query_heads_share_key_heads(group: int) -> None:
    check(Case(group=group))


def test_a_group_too_large_for_one_program_is_cut() -> None:
    check(Case(group=12, kv_heads=1))


@pytest.mark.parametrize("dim", [8, 32, 64, 80, 96, 128])
def test_heads_of_every_size(dim: int) -> None:
    check(Case(dim=dim))


def test_values_narrower_than_keys() -> None:
    check(Case(dim=48, value_dim=32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    check(Case(dtype=dtype, windows=((70, 5), (0, 8), (400, 1)), dim=64))


@pytest.mark.parametrize("window", [1, 4, 64, 100, 1000])
def test_a_sliding_window_hides_what_lies_further_back(window: int) -> None:
    check(Case(window=window, windows=((300, 5), (0, 20), (129, 1))))


def test_scores_are_squashed() -> None:
    check(Case(softcap=0.5))


@pytest.mark.parametrize("windows", [((0, 1),), ((300, 5), (0, 3))])
def test_sinks_take_their_share(windows: Sequence[tuple[int, int]]) -> None:
    check(Case(sinks=True, windows=windows))


def test_everything_at_once() -> None:
    check(Case(dtype=torch.bfloat16, window=90, softcap=5.0, sinks=True, dim=80, group=4, windows=((250, 9), (0, 17))))


def test_larger_tiles_and_splits_compute_the_same() -> None:
    check(Case(tiling=Tiling(tile_tokens=64, split_blocks=3), windows=((100, 70), (450, 5))))


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    layer = Layer(Case())
    layer.rows = [(query * 100, key, value) for query, key, value in layer.rows]
    torch.testing.assert_close(layer.attend(), layer.expected(), atol=1e-4, rtol=1e-4)


def test_new_keys_and_values_lie_in_their_blocks_and_nothing_else_is_touched() -> None:
    layer = Layer(Case())
    keys, values = layer.pools()
    before = keys.clone(), values.clone()
    step = build_step(packed(layer.spans), DEVICE, tokens=20, rows=5, blocks=6, tiling=layer.case.tiling)
    layer.attend_over(keys, values, list(zip(layer.spans, layer.rows, strict=True)), step)
    for pool, old, part in ((keys, before[0], 1), (values, before[1], 2)):
        for span, row in zip(layer.spans, layer.rows, strict=True):
            for position in range(span.start, span.end):
                place = span.blocks[position // BLOCK], position % BLOCK
                assert torch.equal(pool[place], row[part][position])
                pool[place] = old[place]
        assert torch.equal(pool.nan_to_num(), old.nan_to_num())


def test_padding_changes_no_bit_and_yields_zeros() -> None:
    layer = Layer(Case(sinks=True))
    step = build_step(packed(layer.spans), DEVICE, tokens=32, rows=7, blocks=9, tiling=layer.case.tiling)
    padded, plain = layer.attend(step=step), layer.attend()
    assert torch.equal(padded[: len(plain)], plain)
    assert not padded[len(plain) :].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_change_no_bit(dtype: torch.dtype) -> None:
    case = Case(windows=((130, 1), (61, 5), (0, 40), (300, 8)), dtype=dtype, window=200, softcap=20.0)
    layer = Layer(case)
    together = layer.attend().split([count for _, count in case.windows])
    for row, among in enumerate(together):
        assert torch.equal(layer.attend([row]), among)
    backwards = layer.attend([3, 2, 1, 0]).split([count for _, count in reversed(case.windows)])
    assert all(torch.equal(one, other) for one, other in zip(backwards, reversed(together), strict=True))


@pytest.mark.parametrize("width", [1, 5, 16])
def test_the_cut_into_windows_changes_no_bit(width: int) -> None:
    """Needs products that compute a row alike wherever it stands; see the module's promise."""
    layer = Layer(Case(windows=((100, 40),), dim=64))
    whole = layer.attend()
    (span, (query, key, value)), (keys, values) = (layer.spans[0], layer.rows[0]), layer.pools()
    parts = []
    for start in range(span.start, span.end, width):
        part = replace(span, start=start, count=min(width, span.end - start))
        step = build_step(packed([part]), DEVICE, tiling=layer.case.tiling)
        own = query[part.start - span.start : part.end - span.start]
        parts.append(layer.attend_over(keys, values, [(part, (own, key, value))], step))
    assert torch.equal(torch.cat(parts), whole)


def test_tensors_that_do_not_belong_together_are_refused() -> None:
    from dsdq.errors import ModelError

    layer = Layer(Case())
    keys, values = layer.pools()
    step = build_step(packed(layer.spans), DEVICE)
    rows = list(zip(layer.spans, layer.rows, strict=True))
    for wrong in (keys[:, :32], keys.double(), keys.transpose(2, 3), keys[..., :16]):
        with pytest.raises(ModelError, match="contiguous pools of blocks of 64"):
            layer.attend_over(wrong, values, rows, step)


def test_a_forward_of_nothing_is_nothing() -> None:
    layer = Layer(Case(windows=((0, 1),)))
    keys, values = layer.pools()
    nothing = keys.new_empty((0, 4, 32)), keys.new_empty((0, 2, 32)), keys.new_empty((0, 2, 32))
    step = build_step(packed([]), DEVICE)
    assert attend(*nothing, keys, values, step, scale=1.0, window=None, softcap=None, sinks=None).shape == (0, 4, 32)


@pytest.mark.cuda
@pytest.mark.skipif(DEVICE != "cuda", reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replayed_graph_computes_the_bits_of_an_eager_call(dtype: torch.dtype) -> None:
    from workers.engine.cuda_graphs import Bucket, Graphs

    layer = Layer(Case(windows=((130, 1), (61, 5), (300, 8)), dtype=dtype, sinks=True))
    (keys, values), tiling = layer.pools(), layer.case.tiling
    bucket = Bucket(tokens=32, rows=4, kept=1, blocks=6)

    def run(shape: Bucket, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        step = Step.over(inputs["step"], shape.tokens, shape.rows, shape.blocks, tiling)
        parts = (inputs[name] for name in ("query", "key", "value"))
        return attend(*parts, keys, values, step, scale=0.1, window=None, softcap=None, sinks=layer.sinks)

    def make(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        spans = [layer.spans[row] for row in rows]
        shape = {"tokens": bucket.tokens, "rows": bucket.rows, "blocks": bucket.blocks}
        step = build_step(packed(spans), "cpu", **shape, tiling=tiling)
        lists = {"query": [], "key": [], "value": []}
        for span, (query, key, value) in ((layer.spans[row], layer.rows[row]) for row in rows):
            for name, part in (("query", query), ("key", key[span.start :]), ("value", value[span.start :])):
                lists[name].append(part)
        inputs = {name: torch.cat(parts) for name, parts in lists.items()}
        padding = bucket.tokens - sum(span.count for span in spans)
        return {"step": step.packed} | {
            name: torch.cat([part, part.new_zeros((padding, *part.shape[1:]))]) for name, part in inputs.items()
        }

    graphs = Graphs(run, [bucket], DEVICE)
    for rows in ([0, 1, 2], [2], [1, 0], [0, 1, 2]):
        inputs = make(rows)
        eager = run(bucket, {name: part.to(DEVICE) for name, part in inputs.items()})
        assert torch.equal(graphs(bucket, lambda _, inputs=inputs: inputs), eager)
