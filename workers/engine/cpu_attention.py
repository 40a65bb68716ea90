"""The KV pool and attention of a CPU: pages in plain memory, one compiled call per layer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK
from workers.engine import cpu_kernel
from workers.engine.attention import Scoring
from workers.engine.rows import Packed

QUERIES_PER_TASK = 16
_one_at_a_time = threading.Lock()  # numba's own thread pool, where OpenMP is missing, is not safe to enter twice


@dataclass(frozen=True, slots=True, eq=False)
class CpuStep:
    """One forward as the kernels want it; ``tasks`` int64 ``[n, 4]`` cut it into pieces of work."""

    slots: NDArray[np.int64]
    tables: NDArray[np.int32]
    tasks: NDArray[np.int64]
    padding: int


class CpuAttention:
    """Keys and values of every layer, and attention over them. Whatever the model's dtype, both are float32."""

    def __init__(self, blocks: int, threads: int | None = None) -> None:
        """Reserve nothing yet: shapes are known at a layer's first write.

        ``blocks`` is what each layer will have. ``threads`` share a call, torch's number of them unless told otherwise.
        """
        self.blocks = blocks
        self._layers: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._store, self._attend = cpu_kernel.kernels()
        most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        self._threads = min(threads or torch.get_num_threads(), most)

    @property
    def layers(self) -> int:
        """Return how many layers have written."""
        return len(self._layers)

    @property
    def block_bytes(self) -> Mapping[torch.device, int]:
        """Return the bytes of one block in all layers that have written."""
        bytes_ = sum((keys[0].nbytes + values[0].nbytes) for keys, values in self._layers.values())
        return {torch.device("cpu"): bytes_}

    def resize(self, blocks: int) -> None:
        """Forget everything; each layer will have ``blocks`` blocks."""
        self.blocks = blocks
        self._layers.clear()

    def step(self, packed: Packed, padding: int) -> CpuStep:
        """Return what the kernels need of a forward with ``padding`` tokens behind its own, which nobody looks at."""
        return CpuStep(packed.slots, packed.tables, _balanced(_tasks(packed), self._threads), padding)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        step: CpuStep,
        scoring: Scoring,
    ) -> torch.Tensor:
        """Store ``key`` and ``value`` ``[T, kv_heads, dim]``; attend from ``query`` ``[T, heads, dim]``.

        Returns:
            ``[T, heads, value_dim]`` in the dtype of ``query``.
        """
        arrays = query.float().numpy(), key.float().numpy(), value.float().numpy()
        return torch.from_numpy(self.attend_arrays(layer, *arrays, step, scoring)).to(query.dtype)

    def attend_arrays(
        self,
        layer: int,
        query: NDArray[np.float32],
        key: NDArray[np.float32],
        value: NDArray[np.float32],
        step: CpuStep,
        scoring: Scoring,
    ) -> NDArray[np.float32]:
        """Do as :meth:`attend` with numpy's arrays."""
        keys, values = self._layers.get(layer) or self._reserve(layer, key, value)
        tokens = len(step.slots)
        output = np.empty((tokens + step.padding, query.shape[1], value.shape[2]), np.float32)
        output[tokens:] = 0
        own_sinks = cpu_kernel.no_sinks(query.shape[1])
        if scoring.sinks is not None:
            own_sinks = scoring.sinks.float().numpy()
        with _one_at_a_time:
            numba.set_num_threads(self._threads)
            self._store(key, value, step.slots, keys, values)
            self._attend(
                query,
                keys,
                values,
                step.tables,
                step.tasks,
                own_sinks,
                scoring.scale,
                cpu_kernel.NO_WINDOW if scoring.window is None else scoring.window,
                scoring.softcap or 0.0,
                output,
            )
        return output

    def _reserve(
        self, layer: int, key: NDArray[np.float32], value: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        kv_heads, dim = key.shape[1:]
        if dim % 4:
            msg = f"attention: expected heads of a multiple of 4 dimensions, got {dim}"
            raise ModelError(msg)
        # Zeros take no memory until they are written.
        keys = np.zeros((self.blocks, kv_heads, dim, BLOCK), np.float32)
        values = np.zeros((self.blocks, kv_heads, BLOCK, value.shape[2]), np.float32)
        self._layers[layer] = keys, values
        return keys, values


def _tasks(packed: Packed) -> NDArray[np.int64]:
    """Return pieces of rows as (row, first packed token, its position, number of tokens)."""
    pieces: list[tuple[int, int, int, int]] = []
    token = 0
    for row, (start, count) in enumerate(zip(packed.starts.tolist(), packed.counts.tolist(), strict=True)):
        pieces += [
            (row, token + done, start + done, min(QUERIES_PER_TASK, count - done))
            for done in range(0, count, QUERIES_PER_TASK)
        ]
        token += count
    return np.array(pieces, np.int64)


def _balanced(tasks: NDArray[np.int64], threads: int) -> NDArray[np.int64]:
    """Order tasks so that equal, contiguous shares of them are about equal work: dealt out by falling cost."""
    if len(tasks) <= 1 or threads == 1:
        return tasks
    cost = (tasks[:, 2] + tasks[:, 3]) * tasks[:, 3]
    falling = np.argsort(-cost, kind="stable")
    dealt = np.concatenate([falling[thread::threads] for thread in range(threads)])
    return np.ascontiguousarray(tasks[dealt])
