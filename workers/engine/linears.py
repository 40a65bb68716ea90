"""Linear layers that give a row the same bits whatever other rows are computed with it (CPU, float32).

MKL picks its kernel by the number of rows; oneDNN on weights packed once does not. Packing is an operator of torch's
inductor and not a public one, so it is tried on each machine first. Where it does not work, :func:`fewest_rows` says
how many rows it takes until MKL's results no longer depend on their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

# Siblings that every model calls with one and the same input, in this order: one product instead of several.
_SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_GRAIN = 32_768  # elements from which torch splits an elementwise operation over threads (at::internal::GRAIN_SIZE)
_GELU_GRAIN = 16_384  # above this many, GELU is split over all threads at once
_MOST_PADDING = 64
_LANES_MOST = 64

Layer = TypeVar("Layer", bound=nn.Module)


class PackedLinear(nn.Module):
    """``x @ weight.T + bias`` with weights packed for oneDNN; ``weight`` is ``[out, in]`` float32 on the CPU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Pack the weights; the caller may drop its own."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())  # noqa: SLF001
        self._bias = None if bias is None else bias.detach().contiguous()
        self._run = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001 - without the overload look-up
        self._never_alone = not _alone_alike(self.in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[..., out]`` for ``[..., in]``."""
        if self._never_alone and x.numel() == self.in_features:
            doubled = x.reshape(1, -1).expand(2, -1).contiguous()
            return self._product(doubled)[:1].reshape(*x.shape[:-1], -1)
        return self._product(x)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._run(x, self._packed, self._bias, "none", [], "")
        return output


@lru_cache(maxsize=256)
def _alone_alike(in_features: int) -> bool:
    """Say whether a row gets the same bits alone as with others: on some machines long sums are cut otherwise then."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_LANES_MOST, in_features, generator=generator)
    x = torch.randn(2, in_features, generator=generator)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)  # noqa: SLF001
    alone, both = (torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], "") for rows in (x[:1], x))  # noqa: SLF001
    return torch.equal(alone, both[:1])


class _SharedProduct:
    """One packed product whose columns belong to several sibling layers, computed at the first one's call."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        weights: list[torch.Tensor] = [layer.weight for layer in linears]
        biases: list[torch.Tensor] = [layer.bias for layer in linears if layer.bias is not None]
        self._product = PackedLinear(torch.cat(weights), torch.cat(biases) if biases else None)
        self._sizes = [layer.out_features for layer in linears]
        self._input: torch.Tensor | None = None
        self._outputs: Sequence[torch.Tensor] = ()

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """Return the columns of sibling number ``index``."""
        if self._input is not x:
            self._outputs = self._product(x).split(self._sizes, dim=-1)
            self._input = x
        output = self._outputs[index]
        if index == len(self._sizes) - 1:  # the last sibling: keep nothing alive
            self._input, self._outputs = None, ()
        return output


class SharedLinear(nn.Module):
    """One sibling's columns of a product that several layers share; right for any input, fast for a common one."""

    def __init__(self, product: _SharedProduct, index: int, layer: nn.Linear) -> None:
        """Stand for ``layer``, which is sibling number ``index`` of ``product``."""
        super().__init__()
        self.out_features, self.in_features = layer.out_features, layer.in_features
        self._product = product
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[..., out]`` for ``[..., in]``."""
        return self._product.part(self._index, x)


def packing_works() -> bool:
    """Say whether packed linears exist here, compute the right thing, and do not mix rows."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(48, 64, generator=generator), torch.randn(40, 64, generator=generator)
    try:
        packed = PackedLinear(weight, weight[:, 0])
        whole = packed(x)
        parts = torch.cat([packed(x[:1]), packed(x[1:6]), packed(x[6:])])
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(whole, parts) and torch.allclose(whole, linear(x, weight, weight[:, 0]), atol=1e-4)


@torch.no_grad()
def pack(model: nn.Module) -> bool:
    """Replace linear layers of ``model`` (``nn.Linear`` and GPT-2's ``Conv1D``) by packed ones, in place.

    Layers whose weights are not plain float32 matrices stay as they are: quantised ones, and under tensor parallelism
    those of which each rank has a share, whose ``forward`` also exchanges results. Returns whether there was none.
    """
    for parent in list(model.modules()):
        for names in _SHARED_INPUT:
            _share(parent, names)
        for name, layer in list(parent.named_children()):
            if _is_plain(layer, nn.Linear):
                setattr(parent, name, PackedLinear(layer.weight, layer.bias))
            elif _is_plain(layer, Conv1D):
                setattr(parent, name, PackedLinear(layer.weight.t(), layer.bias))
    return not any(isinstance(layer, nn.Linear | Conv1D) for layer in model.modules())


def _is_plain(layer: object, kind: type[Layer]) -> TypeGuard[Layer]:
    weight = layer.weight if type(layer) is kind else None
    return type(weight) is nn.Parameter and weight.dtype is torch.float32


def _share(parent: nn.Module, names: Sequence[str]) -> None:
    layers = [layer for name in names if _is_plain(layer := getattr(parent, name, None), nn.Linear)]
    alike = {(layer.in_features, layer.bias is None) for layer in layers}
    # Columns of one product are strided, and vector loops then end with each row: only whole vectors keep the bits.
    whole = all(layer.out_features % _lanes() == 0 for layer in layers)
    if len(layers) != len(names) or len(alike) != 1 or not whole:
        return
    product = _SharedProduct(layers)
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        setattr(parent, name, SharedLinear(product, index, layer))


def has_experts(model: nn.Module) -> bool:
    """Say whether ``model`` multiplies by weights outside of linear layers: experts, stacked in one parameter."""
    return any(parameter.dim() > 2 for parameter in model.parameters())


def activation_widths(model: Any) -> frozenset[int]:  # noqa: ANN401 - transformers is not fully typed
    """Return the widths of what the model's linear layers give to its activation functions; the LM head's has none."""
    head = model.get_output_embeddings()
    widths: set[int] = set()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head:
            width = int(layer.nf) if isinstance(layer, Conv1D) else _width(layer)
            # Where one layer gives both gate and input of a gated unit, the activation sees half of it.
            widths |= {width, width // 2} if "gate_up" in name else {width}
    return frozenset(widths)


def _width(layer: nn.Linear) -> int:
    """Return the columns that this process computes: under tensor parallelism, its share of the layer's."""
    weight = layer.weight
    return int(weight.to_local().shape[0]) if isinstance(weight, DTensor) else layer.out_features


def fewest_rows() -> int:
    """Return the number of rows from which MKL's results no longer depend on it (measured: 12 with two threads)."""
    return max(12, 6 * torch.get_num_threads())


@dataclass(frozen=True, slots=True)
class Padding:
    """How many rows to compute so that vector loops treat every element alike.

    torch computes SiLU and tanh-GELU of a loop's last few elements with scalar code, whose results differ from the
    vectors' in the last bit. A loop ends where the tensor does, and where its share for one thread does.
    """

    widths: frozenset[int]
    threads: int
    lanes: int
    fewest: int = 1

    @classmethod
    def of(cls, widths: Iterable[int], fewest: int) -> Padding:
        """Return the padding for activations of these widths on this machine."""
        return cls(frozenset(widths), torch.get_num_threads(), _lanes(), fewest)

    def rows(self, rows: int) -> int:
        """Return the least number of rows, at least ``rows``, that leaves no loop a rest; ``rows`` where none does."""
        first = max(rows, self.fewest)
        fitting = (n for n in range(first, first + _MOST_PADDING) if all(self._whole(n * w) for w in self.widths))
        return next(fitting, first)

    def _whole(self, elements: int) -> bool:
        shares = {1, min(self.threads, -(-elements // _GRAIN)), self.threads if elements > _GELU_GRAIN else 1}
        return all(-(-elements // share) % self.lanes == 0 for share in shares)


def _lanes() -> int:
    """Return the floats that one turn of torch's vectorised loops takes: two registers."""
    return 32 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 16
