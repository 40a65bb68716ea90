from __future__ import annotations

import pytest
import torch
from torch import nn

from workers.engine.linears import PackedLinear, Padding, pack, packing_works

needs_packing = pytest.mark.skipif(not packing_works(), reason="this build of torch packs no linears")


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_the_layers_product_and_mixes_no_rows(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160, bias=bias), torch.randn(64, 96)
    packed = PackedLinear(layer.weight.detach(), layer.bias.detach() if bias else None)
    whole = packed(x)
    torch.testing.assert_close(whole, layer(x).detach())
    for rows in (1, 2, 3, 7, 12, 31, 63):
        assert torch.equal(packed(x[:rows]), whole[:rows])
        assert torch.equal(packed(x[-rows:]), whole[-rows:])


@pytest.mark.parametrize(("threads", "lanes"), [(1, 16), (2, 16), (2, 32), (8, 32)])
def test_padding_is_the_least_that_leaves_no_loop_a_rest(threads: int, lanes: int) -> None:
    padding = Padding(frozenset({160, 96}), threads, lanes)
    for rows in range(1, 300):
        padded = padding.rows(rows)
        assert padded >= rows
        assert padding._whole(padded * 160)
        assert padding._whole(padded * 96)
        assert not any(padding._whole(n * 160) and padding._whole(n * 96) for n in range(rows, padded))


def test_where_nothing_fits_rows_stay_as_they_are() -> None:
    assert Padding(frozenset({7}), 1, 1024).rows(5) == 5


@needs_packing
def test_layers_that_are_not_plain_float32_stay_as_they_are_and_are_told() -> None:
    class Special(nn.Linear):
        """Computes otherwise, as quantised layers do."""

    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    assert pack(plain)
    assert not any(isinstance(layer, nn.Linear) for layer in plain)
    mixed = nn.Sequential(nn.Linear(8, 16), Special(16, 8), nn.Linear(8, 8, dtype=torch.bfloat16))
    special, half = mixed[1], mixed[2]
    assert not pack(mixed)
    assert isinstance(mixed[0], PackedLinear)
    assert mixed[1] is special
    assert mixed[2] is half
