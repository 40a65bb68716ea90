"""Forwards of a few fixed shapes, captured once as CUDA graphs and replayed: no Python and no launches in between.

Memory: each captured shape keeps its inputs and its output. What is computed in between lives in one memory pool that
all graphs share, as large as the largest of them needs; it is not given back while the graphs live. So graphs must be
replayed one after the other on one stream, as an engine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch

from dsdq.errors import ModelError

_WARM_RUNS = 2  # kernels are compiled and workspaces allocated in the first; the second runs as all others will

# Tokens of a captured forward. From where products are bound by arithmetic, padding to a power of two costs too much;
# above the largest, computing takes longer than launching, and a shape comes hardly twice.
_SMALL, _STRIDE, _MOST_TOKENS = (1, 2, 4, 8, 16, 32), 64, 1024
_WIDTHS = 8, 32, 128, 512  # KV blocks of the longest row: texts of up to 512, 2,048, 8,192 and 32,768 tokens
# Attention keeps a partial result for each token and split of the table: 270 MB with 32 heads of 128.
_MOST_PARTIALS = 16_384

Inputs = Mapping[str, torch.Tensor]
Replay = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Bucket:
    """The padded shape of a forward: packed tokens, rows, logits kept, and KV blocks of the longest row."""

    tokens: int
    rows: int
    kept: int
    blocks: int

    def holds(self, need: Bucket) -> bool:
        """Say whether a forward of the shape ``need`` fits."""
        return all(mine >= wanted for mine, wanted in zip(astuple(self), astuple(need), strict=True))


def bucket_of(need: Bucket, buckets: Iterable[Bucket]) -> Bucket | None:
    """Return the bucket that holds ``need`` with the fewest tokens, then blocks, rows and logits; None if none does."""
    return min((bucket for bucket in buckets if bucket.holds(need)), key=_cost, default=None)


def _cost(bucket: Bucket) -> tuple[int, int, int, int]:
    return bucket.tokens, bucket.blocks, bucket.rows, bucket.kept


def buckets(step_tokens: int, context_blocks: int, split_blocks: int, tile: int) -> list[Bucket]:
    """Return the shapes to capture for steps of up to ``step_tokens`` tokens, each at its first use.

    For each number of tokens: rows of any length that keep all logits (decoding, short windows), rows of four tokens
    and more that do (windows), and such that keep a quarter (windows beside a prompt). Tokens and kept logits are
    multiples of ``tile``; attention cuts tables of up to ``context_blocks`` into splits of ``split_blocks``.
    """
    most = min(_MOST_TOKENS, whole(step_tokens, _STRIDE))
    sizes = [size for size in _SMALL if size % tile == 0] + list(range(_STRIDE, most + 1, _STRIDE))
    found = {
        Bucket(tokens, rows, whole(kept, tile), blocks)
        for tokens in sizes
        for few in [max(1, tokens // 4)]
        for rows, kept in [(tokens, tokens), (few, tokens), (few, few)]
        for blocks in {min(width, context_blocks) for width in _WIDTHS}
        if tokens * -(-blocks // split_blocks) <= _MOST_PARTIALS
    }
    return sorted(found, key=_cost)


def whole(count: int, tile: int) -> int:
    """Return ``count`` rounded up to a multiple of ``tile``."""
    return -(-count // tile) * tile


@dataclass(frozen=True, slots=True)
class _Held:
    inputs: dict[str, torch.Tensor]
    replay: Replay
    output: torch.Tensor

    def feed(self, fresh: Inputs) -> None:
        """Write over the inputs that the graph reads.

        Raises:
            ModelError: they have not the names and shapes that were captured; nothing was written then.
        """
        held_shapes, shapes = ({name: part.shape for name, part in parts.items()} for parts in (self.inputs, fresh))
        if held_shapes != shapes:
            msg = f"graph: expected inputs {held_shapes}, as when it was captured, got {shapes}"
            raise ModelError(msg)
        for name, held in self.inputs.items():
            held.copy_(fresh[name], non_blocking=True)


class Graphs:
    """Runs forwards in the smallest bucket that holds them, eagerly where none does. Not thread-safe.

    ``run`` computes one tensor from inputs of a shape. It must wait for nothing, do the same work for every content,
    and bear being run several times on the same inputs, as writing to a KV cache does. ``capture`` records a call, by
    default as a CUDA graph, and returns what replays it and the output that each replay writes over.
    """

    def __init__(
        self,
        run: Callable[[Bucket, Inputs], torch.Tensor],
        buckets: Iterable[Bucket],
        device: torch.device | str,
        capture: Callable[[Callable[[], torch.Tensor]], tuple[Replay, torch.Tensor]] | None = None,
    ) -> None:
        """Capture nothing yet; a bucket is captured at its first use, or by :meth:`prepare`."""
        self._run = run
        self._buckets = tuple(buckets)
        self._device = device
        self._capture = capture or _Capture()
        self._held: dict[Bucket, _Held] = {}

    def __call__(self, need: Bucket, make: Callable[[Bucket], Inputs]) -> torch.Tensor:
        """Run a forward of the shape ``need`` whose inputs ``make`` lays out, padded to the shape that it is given.

        Returns:
            What ``run`` returns for the padded shape. It is written over by the next call: copy what must last.

        Raises:
            ModelError: ``make`` gave inputs of other names or shapes than when the bucket was captured.
        """
        bucket = bucket_of(need, self._buckets)
        if bucket is None:
            return self._run(need, self._on_device(make(need)))
        held = self._held.get(bucket)
        if held is None:
            held = self._held[bucket] = self._record(bucket, make(bucket))
        else:
            held.feed(make(bucket))
        held.replay()
        return held.output

    def prepare(self, make: Callable[[Bucket], Inputs]) -> None:
        """Capture every bucket ahead of its first use, largest first, so that the smaller find room in the pool.

        ``make`` lays out inputs that are harmless to run, such as padding alone.
        """
        for bucket in sorted(self._buckets, key=_cost, reverse=True):
            if bucket not in self._held:
                self._held[bucket] = self._record(bucket, make(bucket))

    def _record(self, bucket: Bucket, inputs: Inputs) -> _Held:
        # Copies even where the inputs are on the device already: their owner may write over them.
        held = {name: part.to(self._device, copy=True) for name, part in inputs.items()}
        replay, output = self._capture(lambda: self._run(bucket, held))
        return _Held(held, replay, output)

    def _on_device(self, inputs: Inputs) -> Inputs:
        return {name: part.to(self._device, non_blocking=True) for name, part in inputs.items()}


class _Capture:
    """Records calls as CUDA graphs that share one memory pool."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, call: Callable[[], torch.Tensor]) -> tuple[Replay, torch.Tensor]:
        """Record ``call``.

        Raises:
            ModelError: it waits for the device, or memory runs out.
        """
        try:
            return self._record(call)
        except RuntimeError as error:
            msg = f"graph: this forward cannot be captured: {error}; start the verifier with --eager"
            raise ModelError(msg) from error

    def _record(self, call: Callable[[], torch.Tensor]) -> tuple[Replay, torch.Tensor]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_RUNS):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = call()
        return graph.replay, output
