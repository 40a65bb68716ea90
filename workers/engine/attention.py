"""The attention function that transformers calls in place of its own: it hands over to the pool of the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from dsdq.errors import ModelError

NAME = "dsdq_paged"


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a layer scores keys.

    ``scale`` multiplies products; a query sees the last ``window`` keys; scores are squashed to ±``softcap`` (Gemma 2,
    arXiv 2408.00118); ``sinks`` ``[heads]`` are scores without a key (gpt-oss). None where a layer does not have it.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None


class Attention(Protocol):
    """A device's KV pool, and attention over it."""

    blocks: int

    @property
    def layers(self) -> int:
        """Return how many layers have written."""
        ...

    @property
    def block_bytes(self) -> Mapping[torch.device, int]:
        """Return the bytes of one block on each device, in all layers that have written."""
        ...

    def resize(self, blocks: int) -> None:
        """Forget everything; each layer will have ``blocks`` blocks."""
        ...

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        step: Any,  # noqa: ANN401 - each device's own
        scoring: Scoring,
    ) -> torch.Tensor:
        """Store ``key`` and ``value``, attend from ``query``, all ``[T, heads, dim]``; return ``[T, heads, dim]``.

        ``step`` is what a device needs to know of a forward, once for all layers.
        """
        ...


def attend(  # noqa: PLR0913, PLR0917 - the signature is transformers' own
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    *,
    pool: Attention,
    step: Any,  # noqa: ANN401
    **extra: Any,  # noqa: ANN401 - whatever else a model passes
) -> tuple[torch.Tensor, None]:
    """Attend from the packed ``query`` ``[1, heads, T, dim]`` to the pool, after storing ``key`` and ``value`` in it.

    Returns:
        ``[1, T, heads, value_dim]``, and no attention weights.

    Raises:
        ModelError: the model asks for something that this function would leave out.
    """
    if attention_mask is not None or extra.get("position_bias") is not None:
        msg = f"{type(module).__name__}: attention with its own mask or bias is not supported"
        raise ModelError(msg)
    output = pool.attend(
        int(module.layer_idx),  # type: ignore[arg-type]
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        step,
        Scoring(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap, s_aux),
    )
    return output[None], None


AttentionInterface.register(NAME, attend)
