"""Linear products that a model takes outside of any linear layer: routers and experts of mixtures.

Their weights are plain parameters, sliced per expert, so no layer can be replaced. Instead the function itself is,
while a forward runs: each weight is packed at its first use. An expert's rows are those of whoever was routed to it, so
its activation is padded as the whole forward's is. When an expert's rows are added to the others', torch's
``index_add_`` takes one row after another, each as an operation; ``index_put_`` adds the same in one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from workers.engine.linears import PackedLinear, Padding

_ACTIVATIONS = frozenset({functional.silu, functional.gelu, functional.relu, torch.tanh, torch.sigmoid})


class LooseLinears(TorchFunctionMode):
    """A context in which ``functional.linear`` mixes no rows. Weights must not change afterwards."""

    def __init__(self) -> None:
        """Begin with nothing packed."""
        super().__init__()
        self._packed: dict[tuple[int, torch.Size, tuple[int, ...]], PackedLinear] = {}

    @property
    def used(self) -> bool:
        """Say whether any product was taken so far."""
        return bool(self._packed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is functional.linear:
            return self._linear(*args, **(kwargs or {}))
        if func in _ACTIVATIONS and args[0].ndim == 2:
            return _padded(func, args[0], args[1:], kwargs or {})
        if func is torch.Tensor.index_add_ and args[1] == 0 and not kwargs:
            sums, _, index, source = args
            return sums.index_put_((index,), source, accumulate=True)
        return func(*args, **(kwargs or {}))

    def _linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        key = weight.data_ptr(), weight.shape, weight.stride()
        packed = self._packed.get(key)
        if packed is None:
            packed = self._packed[key] = PackedLinear(weight.detach(), bias)
        output: torch.Tensor = packed(x)
        return output


def _padded(
    func: Callable[..., torch.Tensor], x: torch.Tensor, others: tuple[Any, ...], named: Mapping[str, Any]
) -> torch.Tensor:
    rows = Padding.of([x.shape[1]], fewest=1).rows(x.shape[0])
    if rows == x.shape[0] and x.is_contiguous():
        return func(x, *others, **named)
    whole = x.new_zeros((rows, x.shape[1]))
    whole[: x.shape[0]] = x
    return func(whole, *others, **named)[: x.shape[0]]
