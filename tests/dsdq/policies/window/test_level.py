from __future__ import annotations

from dsdq.policies.window.level import Level


def test_a_level_ignores_one_that_is_late_and_believes_two() -> None:
    level = Level()
    for number in range(30):
        level.add(10 + number % 2)
    level.add(100)
    assert level.mean < 15
    level.add(10)
    level.add(100)
    level.add(100)
    assert level.mean == 100
