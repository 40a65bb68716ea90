from __future__ import annotations

import pytest
import torch

from workers.engine.loose_linears import LooseLinears


@pytest.mark.parametrize(("rows", "routed", "width"), [(1, 1, 8), (64, 21, 32), (300, 300, 128), (2048, 700, 64)])
def test_an_experts_rows_are_added_to_the_others_as_torch_adds_them(rows: int, routed: int, width: int) -> None:
    source = torch.Generator().manual_seed(rows)
    sums, added = torch.randn(rows, width, generator=source), torch.randn(routed, width, generator=source)
    index = torch.randperm(rows, generator=source)[:routed]  # an expert has each token once
    ours = sums.clone()
    with LooseLinears():
        ours.index_add_(0, index, added)
    assert torch.equal(ours, sums.index_add(0, index, added))


def test_what_is_added_along_another_dimension_or_in_parts_is_left_to_torch() -> None:
    sums, index = torch.ones(3, 4), torch.tensor([0, 2])
    with LooseLinears():
        across = sums.clone().index_add_(1, index, torch.ones(3, 2))
        in_part = sums.clone().index_add_(0, index, torch.ones(2, 4), alpha=0.5)
    assert torch.equal(across, sums.index_add(1, index, torch.ones(3, 2)))
    assert torch.equal(in_part, sums.index_add(0, index, torch.ones(2, 4), alpha=0.5))
