from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from workers.engine.cuda_linears import TILE_ROWS, FixedTileLinear, fix_tiles

needs_cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_the_same_product(device: str, rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160, bias=bias).to(device), torch.randn(2, rows, 96, device=device)
    fixed = FixedTileLinear(layer.weight, layer.bias)
    torch.testing.assert_close(fixed(x), layer(x).detach(), atol=1e-3, rtol=1e-3)
    assert fixed(x).shape == (2, rows, 160)


@pytest.mark.parametrize("device", DEVICES)
def test_no_rows_give_no_rows(device: str) -> None:
    layer = FixedTileLinear(torch.ones(8, 4, device=device), torch.ones(8, device=device))
    assert layer(torch.ones(1, 0, 4, device=device)).shape == (1, 0, 8)


def test_every_product_has_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, product = set(), torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: shapes.add((a.shape, a.stride())) or product(a, b, out=out))
    layer = FixedTileLinear(torch.randn(24, 16), None)
    for rows in (1, 5, 64, 65, 128, 300):
        layer(torch.randn(rows, 16))
        layer(torch.randn(16, rows).t())
        layer(torch.randn(rows * 16 + 1)[1:].view(rows, 16))
    assert shapes == {((TILE_ROWS, 16), (16, 1))}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4096, 4096), (1024, 32000), (11008, 4096), (80, 160)])
def test_neighbours_change_no_bit(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    weight = torch.randn(*reversed(shape), generator=generator, device="cuda", dtype=dtype)
    x = torch.randn(512, shape[0], generator=generator, device="cuda", dtype=dtype)
    layer = FixedTileLinear(weight, weight[:, 0])
    whole = layer(x)
    for rows in (1, 2, 3, 7, 12, 31, 63, 64, 65, 300):
        assert torch.equal(layer(x[:rows]), whole[:rows])
        assert torch.equal(layer(x[-rows:]), whole[-rows:])


def test_all_linear_layers_of_a_model_are_replaced_and_share_their_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Sequential(Conv1D(4, 16), nn.Linear(4, 4, bias=False)))
    x = torch.randn(5, 8)
    weight, before = model[0].weight, model(x).detach()
    assert fix_tiles(model)
    torch.testing.assert_close(model(x), before)
    assert model[0].weight.data_ptr() == weight.data_ptr()
    assert not [layer for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D)]


def test_layers_whose_weights_are_not_plain_stay_and_are_told_of() -> None:
    class Quantised(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 8), Quantised(8, 8))
    assert not fix_tiles(model)
    assert [type(layer) for layer in model] == [FixedTileLinear, Quantised]
