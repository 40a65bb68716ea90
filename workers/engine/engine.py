"""One forward of the target for the rows of many sessions, over a paged KV cache of its own.

Rows of any length are packed into one sequence ``[1, T]``; only attention knows which token belongs to whom. No model
code is touched: attention is replaced through transformers' registry, linear layers where that keeps bits equal. Which
session holds which block is decided elsewhere: a row names its blocks. How a kind of device computes is elsewhere too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dsdq.errors import ModelError
from dsdq.models.target import Target
from dsdq.policies.paging import BLOCK, blocks_for
from workers.engine.forward import Forward, Options, forward_on_its_device
from workers.engine.memory import KvMemory, blocks_within
from workers.engine.rows import Row, check, pack

_PROBE = (0, 1)  # the blocks of a probe, which is one token longer than a block
_DEFAULT = Options()


class Engine:
    """Runs a target for many sessions. Not thread-safe: one thread owns it.

    ``memory`` bounds the KV cache. The model inside ``target`` is changed in place and belongs to the engine from here
    on. ``target`` as the engine has it names in its ``numerics`` what ``options`` change in the bits.
    """

    def __init__(
        self, target: Target, memory: KvMemory, options: Options = _DEFAULT, *, forward: Forward | None = None
    ) -> None:
        """Prepare the model, prove with a few tokens that its attention can be served, and size the KV cache.

        ``forward`` runs the model; by default what suits the device of its weights, as ``options`` say.

        Raises:
            ModelError: it cannot, or the memory is less than two blocks.
        """
        self._forward = forward or forward_on_its_device(target, options)
        self.target = replace(target, numerics="/".join((target.numerics, *self._forward.numerics)))
        self.resize(len(_PROBE))
        self._probe()
        block_bytes = self._forward.pool.block_bytes
        self.block_bytes = sum(block_bytes.values())
        self.resize(blocks_within(memory, block_bytes, self.context_tokens))

    def resize(self, blocks: int) -> None:
        """Forget the KV cache; it has ``blocks`` blocks from now on.

        Raises:
            ModelError: the device has not the memory.
        """
        self.kv_blocks = blocks
        self._forward.resize(blocks)

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

        The next forward may write over them: copy what must last.

        Raises:
            ModelError: a session appears twice, or a row's positions, tokens, blocks or ``keep`` are out of range;
                nothing was changed then.
        """
        check(rows, vocab_size=self.target.vocab_size, context_tokens=self.context_tokens, kv_blocks=self.kv_blocks)
        return self._forward.run(pack(rows))

    @torch.inference_mode()
    def _probe(self) -> None:
        tokens = min(BLOCK + 1, self.context_tokens)
        row = Row("probe", 0, [0] * tokens, 1, _PROBE[: blocks_for(tokens)])
        try:
            logits = self._forward.run(pack([row]))
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            msg = f"model {self.target.name!r}: its forward does not work with replaced attention: {error}"
            raise ModelError(msg) from error
        config = self.target.model.config.get_text_config(decoder=True)
        layers, served = int(config.num_hidden_layers), self._forward.pool.layers
        if layers != served or logits.shape != (1, self.target.vocab_size):
            msg = (
                f"model {self.target.name!r}: expected attention in {layers} layers and logits [1, "
                f"{self.target.vocab_size}], got {served} layers and {list(logits.shape)}: not an architecture to serve"
            )
            raise ModelError(msg)
