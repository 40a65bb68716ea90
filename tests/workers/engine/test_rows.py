from __future__ import annotations

from dsdq.policies.paging import BLOCK
from workers.engine.rows import Row, pack


def test_rows_lie_behind_each_other_each_in_its_own_blocks() -> None:
    packed = pack([Row("a", BLOCK - 1, (7, 8, 9), 2, (4, 2)), Row("b", 0, (5,), 1, (3,)), Row("c", 2, (1, 2), 0, (0,))])
    assert packed.ids.tolist() == [7, 8, 9, 5, 1, 2]
    assert packed.positions.tolist() == [BLOCK - 1, BLOCK, BLOCK + 1, 0, 2, 3]
    assert packed.slots.tolist() == [5 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK, 2, 3]
    assert packed.keep.tolist() == [1, 2, 3]
    assert packed.starts.tolist() == [BLOCK - 1, 0, 2]
    assert packed.counts.tolist() == [3, 1, 2]
    assert packed.tables.tolist() == [[4, 2], [3, 0], [0, 0]]
