"""One forward of the target for the rows of many sessions, over a paged KV cache of its own.

Rows of any length are packed into one sequence ``[1, T]``; only attention knows which token belongs to whom. No model
code is touched: attention is replaced through transformers' registry, linear layers by packed ones. Which session holds
which block is decided elsewhere: a row names its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsdq.errors import ModelError
from dsdq.models.target import Target
from dsdq.policies.paging import BLOCK, blocks_for
from workers.engine import attention, linears
from workers.engine.loose_linears import LooseLinears
from workers.engine.memory import KvMemory, blocks_within
from workers.engine.rows import Packed, Row, pack

_PROBE = (0, 1)  # the blocks of a probe, which is one token longer than a block


class Engine:
    """Runs a target for many sessions. Not thread-safe: one thread owns it.

    ``memory`` bounds the KV cache. The model inside ``target`` is changed in place and belongs to the engine from here
    on.
    """

    def __init__(self, target: Target, memory: KvMemory) -> None:
        """Prepare the model, prove with a few tokens that its attention can be served, and size the KV cache.

        Raises:
            ModelError: it cannot, or the memory is less than two blocks.
        """
        self.target = target
        self._model = target.model
        self._device = target.device
        self._output_device = target.output_device
        self._padding, loose = _prepare(self._model)
        self._around: AbstractContextManager[object] = loose or nullcontext()
        self._pool = _pool(self._device, blocks=len(_PROBE))
        self.kv_blocks = self._pool.blocks
        self._probe()
        if loose is not None and not loose.used:
            self._around = nullcontext()
        self.block_bytes = self._pool.block_bytes
        self.resize(blocks_within(memory, self.block_bytes, self.context_tokens, self._device))

    def resize(self, blocks: int) -> None:
        """Forget the KV cache; it has ``blocks`` blocks from now on."""
        self.kv_blocks = blocks
        self._pool.resize(blocks)

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        return self.target.context_tokens

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens the KV cache can hold."""
        return self.kv_blocks * BLOCK

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> torch.Tensor:
        """Feed all rows in one pass and return ``[sum of keep, vocab]`` float32 logits, in the order of the rows.

        Raises:
            ModelError: a session appears twice, or a row's positions, tokens, blocks or ``keep`` are out of range;
                nothing was changed then.
        """
        self._check(rows)
        return self._run(pack(rows))

    def _run(self, packed: Packed) -> torch.Tensor:
        padding = self._padding.rows(packed.tokens) - packed.tokens
        # A prefill that wants no logits still runs; the model needs one position for its head.
        keep = packed.keep if len(packed.keep) else np.array([packed.tokens - 1])
        with self._around:
            output = self._model(
                input_ids=self._index(_padded(packed.ids, padding))[None],
                position_ids=self._index(_padded(packed.positions, padding))[None],
                use_cache=False,
                logits_to_keep=self._index(_padded(keep, self._padding.fewest - len(keep))).to(self._output_device),
                pool=self._pool,
                step=self._pool.step(packed, padding),
            )
        logits: torch.Tensor = output.logits[0, : len(packed.keep)].float()
        return logits

    def _index(self, values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)

    def _check(self, rows: Sequence[Row]) -> None:
        if not rows or len({row.session for row in rows}) != len(rows):
            msg = f"forward: expected at least one row and one row per session, got {[row.session for row in rows]}"
            raise ModelError(msg)
        for row in rows:
            self._check_row(row)

    def _check_row(self, row: Row) -> None:
        count, room = len(row.tokens), min(len(row.blocks) * BLOCK, self.context_tokens)
        if row.start < 0 or count < 1 or row.end > room or not 0 <= row.keep <= count:
            msg = (
                f"session {row.session!r}: expected at least one token, all within its {room} positions, and at most "
                f"all of them kept; got {count} from position {row.start}, {row.keep} kept"
            )
            raise ModelError(msg)
        if not 0 <= min(row.tokens) <= max(row.tokens) < self.target.vocab_size:
            msg = f"session {row.session!r}: expected token ids below {self.target.vocab_size}, got {max(row.tokens)}"
            raise ModelError(msg)
        if not 0 <= min(row.blocks) <= max(row.blocks) < self.kv_blocks:
            msg = f"session {row.session!r}: expected blocks below {self.kv_blocks}, got {list(row.blocks)}"
            raise ModelError(msg)

    @torch.inference_mode()
    def _probe(self) -> None:
        tokens = min(BLOCK + 1, self.context_tokens)
        row = Row("probe", 0, [0] * tokens, 1, _PROBE[: blocks_for(tokens)])
        try:
            logits = self._run(pack([row]))
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            msg = f"model {self.target.name!r}: its forward does not work with replaced attention: {error}"
            raise ModelError(msg) from error
        config = self._model.config.get_text_config(decoder=True)
        layers, served = int(config.num_hidden_layers), self._pool.layers
        if layers != served or logits.shape != (1, self.target.vocab_size):
            msg = (
                f"model {self.target.name!r}: expected attention in {layers} layers and logits [1, "
                f"{self.target.vocab_size}], got {served} layers and {list(logits.shape)}: not an architecture to serve"
            )
            raise ModelError(msg)


def _pool(device: torch.device, blocks: int) -> attention.Attention:
    """Return the KV pool of a kind of device."""
    if device.type == "cuda":
        msg = "cuda: not yet"
        raise ModelError(msg)
    from workers.engine.cpu_attention import CpuAttention  # noqa: PLC0415 - a machine with a GPU needs no numba

    return CpuAttention(blocks)


def _prepare(model: Any) -> tuple[linears.Padding, LooseLinears | None]:  # noqa: ANN401
    """Replace attention and, on the CPU in float32, linear layers.

    Returns how rows must be padded, and what forwards run in if the model takes products outside of its layers.
    """
    model.set_attn_implementation(attention.NAME)
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype is not torch.float32:
        return linears.Padding.of((), fewest=1), None
    widths = linears.activation_widths(model)
    if not (_packing_works() and linears.pack(model)):
        return linears.Padding.of(widths, fewest=linears.fewest_rows()), None
    if getattr(model.config, "_experts_implementation", None) not in {None, "eager"}:
        model.set_experts_implementation("eager")  # the others batch experts in shapes that depend on neighbours
    return linears.Padding.of(widths, fewest=1), LooseLinears()


_packing_works = lru_cache(maxsize=1)(linears.packing_works)


def _padded(values: NDArray[np.int64], padding: int) -> NDArray[np.int64]:
    """Repeat the last value."""
    return np.concatenate([values, np.repeat(values[-1:], padding)]) if padding > 0 else values
