from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.errors import ModelError
from workers.engine.kv import BLOCK, EngineFullError, Extents


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 300), st.booleans()), max_size=40))
def test_extents_never_overlap_and_never_leave_the_budget(steps: list[tuple[int, int, bool]]) -> None:
    extents = Extents(1000)
    held: dict[str, int] = {}
    for number, tokens, gives_back in steps:
        name = str(number)
        if gives_back:
            extents.give_back(name)
            held.pop(name, None)
        elif name not in held:
            try:
                extents.take(name, tokens)
            except EngineFullError:
                continue
            held[name] = tokens
        slots = [slot for one in held for slot in range(extents[one].start, extents[one].end)]
        assert len(slots) == len(set(slots)) == extents.used_tokens
        assert max(slots, default=0) < extents.budget_tokens
        assert all(extents[one].tokens >= tokens for one, tokens in held.items())


def test_a_gap_is_used_again() -> None:
    extents = Extents(3 * BLOCK)
    for name in "abc":
        extents.take(name, BLOCK)
    extents.give_back("b")
    assert extents.take("d", BLOCK).start == BLOCK


def test_no_room_now_and_no_room_ever_are_told_apart() -> None:
    extents = Extents(2 * BLOCK)
    extents.take("a", 1)
    with pytest.raises(EngineFullError, match="come back"):
        extents.take("b", 2 * BLOCK)
    with pytest.raises(EngineFullError, match="larger KV budget"):
        extents.take("b", 9 * BLOCK)


def test_a_session_takes_room_once() -> None:
    extents = Extents(4 * BLOCK)
    extents.take("a", 1)
    with pytest.raises(ModelError, match="new session"):
        extents.take("a", 1)
    with pytest.raises(ModelError, match="not admitted"):
        _ = extents["b"]
