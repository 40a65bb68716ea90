from __future__ import annotations

import pytest
import torch

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK
from workers.engine.cuda_step import Step, Tiling, blocks_used, build_step
from workers.engine.rows import Packed, Row, pack


def windows(*parts: tuple[int, int, tuple[int, ...]]) -> Packed:
    """Pack rows of (start, count, blocks); which tokens they feed does not matter here."""
    return pack([Row(str(number), start, [0] * count, 0, held) for number, (start, count, held) in enumerate(parts)])


NOTHING = windows()
SPREAD = windows((62, 4, (7, 3)), (0, 0, ()), (0, 20, (5,)))


def test_tokens_go_to_their_rows_blocks() -> None:
    step = build_step(SPREAD, "cpu")
    first = [7 * BLOCK + 62, 7 * BLOCK + 63, 3 * BLOCK, 3 * BLOCK + 1]
    assert step.slots.tolist() == first + [5 * BLOCK + place for place in range(20)]
    assert step.positions.tolist() == [62, 63, 64, 65, *range(20)]
    assert step.tables.tolist() == [[7, 3], [0, 0], [5, 0]]
    assert step.slots.dtype == torch.int64


def test_tiles_hold_neighbouring_queries_of_one_row() -> None:
    step = build_step(SPREAD, "cpu", tiling=Tiling(tile_tokens=16))
    used = [tile for tile in step.tiles.tolist() if tile[2]]
    assert used == [[0, 0, 4], [2, 4, 16], [2, 20, 4]]


def test_padding_has_no_place_and_no_tiles() -> None:
    plain, step = build_step(SPREAD, "cpu"), build_step(SPREAD, "cpu", tokens=32, rows=8, blocks=4)
    assert step.slots[24:].tolist() == step.positions[24:].tolist() == [-1] * 8
    assert step.tiles[step.tiles[:, 2] > 0].tolist() == plain.tiles[plain.tiles[:, 2] > 0].tolist()
    assert step.tables.shape == (8, 4)


@pytest.mark.parametrize("counts", [[1] * 9, [16] * 4, [17, 1, 15, 33], [64]])
def test_there_is_room_for_all_tiles_however_tokens_are_spread(counts: list[int]) -> None:
    step = build_step(windows(*((0, count, (0, 1)) for count in counts)), "cpu")
    used = step.tiles[step.tiles[:, 2] > 0]
    assert [index for _, first, count in used.tolist() for index in range(first, first + count)] == list(
        range(sum(counts))
    )
    rows = [row for row, _, count in used.tolist() for _ in range(count)]
    assert rows == [row for row, count in enumerate(counts) for _ in range(count)]


def test_a_captured_graph_is_fed_by_writing_over_the_packed_tensor() -> None:
    shape, tiling = {"tokens": 32, "rows": 8, "blocks": 4}, Tiling()
    held = build_step(NOTHING, "cpu", **shape, tiling=tiling)
    fresh = build_step(SPREAD, "cpu", **shape, tiling=tiling)
    held.packed.copy_(fresh.packed)
    for name in ("slots", "positions", "tiles", "tables"):
        assert torch.equal(getattr(held, name), getattr(fresh, name))
    assert torch.equal(Step.over(held.packed, **shape, tiling=tiling).slots, fresh.slots)


def test_splits_follow_from_the_width_of_the_tables() -> None:
    tiling = Tiling(split_blocks=8)
    assert [build_step(NOTHING, "cpu", blocks=blocks, tiling=tiling).splits for blocks in (1, 8, 9)] == [1, 1, 2]


@pytest.mark.parametrize("shape", [{"tokens": 23}, {"rows": 2}, {"blocks": 1}])
def test_what_does_not_fit_the_shape_is_refused(shape: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="larger bucket"):
        build_step(SPREAD, "cpu", **shape)


def test_blocks_held_for_tokens_to_come_widen_no_table() -> None:
    packed = windows((0, 70, (4, 9, 2)), (0, 3, (1,)))
    assert blocks_used(packed) == 2
    assert build_step(packed, "cpu").tables.tolist() == [[4, 9], [1, 0]]


def test_a_tensor_of_another_length_is_no_step() -> None:
    with pytest.raises(ModelError, match="expected 100 ints, got 7"):
        Step.over(torch.zeros(7, dtype=torch.int32), tokens=30, rows=2, blocks=2, tiling=Tiling(tile_tokens=64))
