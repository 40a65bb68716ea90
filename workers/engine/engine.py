"""One forward of the target for the rows of many sessions, over a KV cache of its own.

Rows of any length are packed into one sequence ``[1, T]``; only attention knows which token belongs to whom. No model
code is touched: attention is replaced through transformers' registry, linear layers by packed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch

from dsdq.errors import ModelError
from dsdq.models.target import TILE, Target
from workers.engine import attention, linears
from workers.engine.kv import BLOCK, EngineFullError, Extent, Extents, Pool

_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Row:
    """What one session feeds in one forward.

    ``tokens`` go to the absolute positions ``start, start + 1, …``; what was there is overwritten. The logits of the
    last ``keep`` of them are wanted. Positions below ``start`` must have been fed before.
    """

    session: str
    start: int
    tokens: Sequence[int]
    keep: int


class Engine:
    """Runs a target for many sessions. Not thread-safe: one thread owns it.

    ``kv_tokens`` bounds the tokens of all sessions together, each rounded up to whole blocks. The model inside
    ``target`` is changed in place and belongs to the engine from here on.
    """

    def __init__(self, target: Target, kv_tokens: int) -> None:
        """Prepare the model and prove with one token that its attention can be served.

        Raises:
            ModelError: it cannot, or ``kv_tokens`` is less than one block.
        """
        if kv_tokens < BLOCK:
            msg = f"KV budget: expected at least {BLOCK} tokens, got {kv_tokens}"
            raise ModelError(msg)
        self.target = target
        self._model = target.model
        self._device = target.device
        self._output_device = target.output_device
        self._extents = Extents(kv_tokens)
        self._pool = Pool(self._extents.budget_tokens)
        self._masks = attention.Masks()
        self._padding = _prepare(self._model)
        self._probe()

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        return self.target.context_tokens

    @property
    def kv_tokens(self) -> int:
        """Return the KV budget in tokens."""
        return self._extents.budget_tokens

    @property
    def used_kv_tokens(self) -> int:
        """Return how much of the KV budget admitted sessions hold."""
        return self._extents.used_tokens

    @torch.inference_mode()
    def admit(self, session: str, capacity_tokens: int) -> None:
        """Reserve room for a session that will use positions below ``capacity_tokens``.

        Raises:
            EngineFullError: there is no room now, or could never be; the message has the numbers.
            ModelError: the session is already admitted, or the model cannot take that many tokens.
        """
        if capacity_tokens > self.context_tokens:
            msg = f"session {session!r}: needs {capacity_tokens} tokens, the model takes {self.context_tokens}"
            raise EngineFullError(msg)
        self._pool.clear(self._extents.take(session, capacity_tokens))

    def release(self, session: str) -> None:
        """Free a session's room; releasing one that holds none is no error."""
        self._extents.give_back(session)

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> torch.Tensor:
        """Feed all rows in one pass and return ``[sum of keep, vocab]`` float32 logits, in the order of the rows.

        Raises:
            ModelError: a row's session is not admitted or appears twice, or its positions, tokens or ``keep`` are out
                of range; nothing was changed then.
        """
        extents = self._checked(rows)
        total = sum(len(row.tokens) for row in rows)
        kept = sum(row.keep for row in rows)
        # A prefill that wants no logits still runs; the model needs one position for its head.
        kept_index = list(chain.from_iterable(_last(rows))) or [total - 1]
        padding = self._padding.rows(total) - total
        step = self._step(rows, extents, padding)
        ids = [*chain.from_iterable(row.tokens for row in rows)]
        positions = [*chain.from_iterable(range(row.start, row.start + len(row.tokens)) for row in rows)]
        output = self._model(
            input_ids=self._index(_padded(ids, padding))[None],
            position_ids=self._index(_padded(positions, padding))[None],
            use_cache=False,
            logits_to_keep=self._index(_padded(kept_index, self._padding.fewest - len(kept_index))).to(
                self._output_device
            ),
            spec=step,
        )
        logits: torch.Tensor = output.logits[0, :kept].float()
        return logits

    def _step(self, rows: Sequence[Row], extents: Sequence[Extent], padding: int) -> attention.Step:
        write: list[int] = []
        tile: list[int] = []
        runs: list[attention.Run] = []
        slots = 0
        for row, extent in zip(rows, extents, strict=True):
            end = row.start + len(row.tokens)
            write.extend(range(extent.start + row.start, extent.start + end))
            offset = slots + row.start % TILE
            tile.extend(range(offset, offset + len(row.tokens)))
            runs.extend(_runs(row.start, end, extent.start, slots))
            slots = runs[-1].slot + runs[-1].tiles * TILE
        return attention.Step(
            pool=self._pool,
            masks=self._masks,
            write_index=self._index(_padded(write, padding)),
            tile_index=self._index(_padded(tile, padding)),
            slots=slots,
            runs=runs,
        )

    def _index(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _checked(self, rows: Sequence[Row]) -> list[Extent]:
        if not rows or len({row.session for row in rows}) != len(rows):
            msg = f"forward: expected at least one row and one row per session, got {[row.session for row in rows]}"
            raise ModelError(msg)
        extents = [self._extents[row.session] for row in rows]
        for row, extent in zip(rows, extents, strict=True):
            self._check_row(row, extent)
        return extents

    def _check_row(self, row: Row, extent: Extent) -> None:
        count = len(row.tokens)
        if row.start < 0 or count < 1 or row.start + count > extent.tokens or not 0 <= row.keep <= count:
            msg = (
                f"session {row.session!r}: expected at least one token, all within its {extent.tokens} positions, and "
                f"at most all of them kept; got {count} from position {row.start}, {row.keep} kept"
            )
            raise ModelError(msg)
        if min(row.tokens) < 0 or max(row.tokens) >= self.target.vocab_size:
            msg = f"session {row.session!r}: expected token ids below {self.target.vocab_size}, got {max(row.tokens)}"
            raise ModelError(msg)

    def _probe(self) -> None:
        self._extents.take(_PROBE, 1)
        try:
            logits = self.forward([Row(_PROBE, 0, [0], 1)])
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            msg = f"model {self.target.name!r}: its forward does not work with replaced attention: {error}"
            raise ModelError(msg) from error
        finally:
            self._extents.give_back(_PROBE)
        config = self._model.config.get_text_config(decoder=True)
        layers, served = int(config.num_hidden_layers), self._pool.layers
        if layers != served or logits.shape != (1, self.target.vocab_size):
            msg = (
                f"model {self.target.name!r}: expected attention in {layers} layers and logits [1, "
                f"{self.target.vocab_size}], got {served} layers and {list(logits.shape)}: not an architecture to serve"
            )
            raise ModelError(msg)


def _prepare(model: Any) -> linears.Padding:  # noqa: ANN401 - transformers is not fully typed
    """Replace attention and, on the CPU in float32, linear layers; return how rows must be padded."""
    model.set_attn_implementation(attention.NAME)
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype is not torch.float32:
        return linears.Padding.of((), fewest=1)
    widths = linears.activation_widths(model)
    packed = _packing_works() and linears.pack(model)
    return linears.Padding.of(widths, fewest=1 if packed else linears.fewest_rows())


_packing_works = lru_cache(maxsize=1)(linears.packing_works)


def _runs(start: int, end: int, base: int, slot: int) -> list[attention.Run]:
    """Cut the tiles of positions ``[start, end)`` into runs that read equally many keys, from ``slot`` on."""
    runs = []
    for block in range(start // BLOCK, (end - 1) // BLOCK + 1):
        first = max(start - block * BLOCK, 0) // TILE
        last = (min(end - block * BLOCK, BLOCK) - 1) // TILE
        tiles = last - first + 1
        runs.append(attention.Run(slot, tiles, first, base, (block + 1) * BLOCK))
        slot += tiles * TILE
    return runs


def _last(rows: Sequence[Row]) -> list[range]:
    """Return, for each row, the packed places of the tokens whose logits are kept."""
    kept, end = [], 0
    for row in rows:
        end += len(row.tokens)
        kept.append(range(end - row.keep, end))
    return kept


def _padded(values: list[int], padding: int) -> list[int]:
    """Repeat the last value: a padding token is a copy of the last one and writes what that one writes."""
    return values + values[-1:] * padding
