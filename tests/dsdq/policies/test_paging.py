from __future__ import annotations

import pytest

from dsdq.policies.paging import BLOCK, Paging, PagingError, blocks_for

TEXT = list(range(5 * BLOCK))


def filled(paging: Paging, session: str, text: list[int], salt: str = "acme") -> None:
    """Admit a session and say that its whole text is computed."""
    paging.admit(session, salt)
    paging.find(session, text)
    assert paging.reserve(session, len(text))
    paging.computed(session, text, len(text))


def test_blocks_are_whole() -> None:
    assert [blocks_for(tokens) for tokens in (0, 1, BLOCK, BLOCK + 1)] == [0, 1, 1, 2]


def test_an_equal_prefix_is_held_together() -> None:
    paging = Paging(10)
    filled(paging, "a", TEXT)
    paging.admit("b", "acme")
    assert paging.find("b", TEXT[: 3 * BLOCK] + [7] * 10) == 3 * BLOCK
    assert paging["b"].blocks == paging["a"].blocks[:3]
    assert paging.held == 5


def test_the_last_token_is_always_left_to_compute() -> None:
    paging = Paging(10)
    filled(paging, "a", TEXT)
    paging.admit("b", "acme")
    assert paging.find("b", TEXT) == 4 * BLOCK


def test_what_lies_behind_a_difference_is_not_shared() -> None:
    paging = Paging(10)
    filled(paging, "a", TEXT)
    paging.admit("b", "acme")
    changed = [*TEXT[:BLOCK], 99_999, *TEXT[BLOCK + 1 :]]
    assert paging.find("b", changed) == BLOCK


def test_tenants_share_nothing() -> None:
    paging = Paging(10)
    filled(paging, "a", TEXT, salt="acme")
    paging.admit("b", "globex")
    assert paging.find("b", TEXT) == 0


def test_what_is_published_outlives_its_session_until_its_place_is_needed() -> None:
    paging = Paging(6)
    filled(paging, "a", TEXT)
    paging.release("a")
    assert paging.available == 6
    paging.admit("b", "acme")
    assert paging.find("b", TEXT) == 4 * BLOCK
    paging.release("b")
    filled(paging, "c", [1] * 6 * BLOCK)
    paging.release("c")
    paging.admit("d", "acme")
    assert paging.find("d", TEXT) == 0


def test_the_tail_of_a_text_goes_before_what_others_may_begin_with() -> None:
    paging = Paging(6)
    filled(paging, "a", TEXT)
    paging.release("a")
    paging.admit("b", "acme")
    assert paging.reserve("b", 3 * BLOCK)
    paging.admit("c", "acme")
    assert paging.find("c", TEXT) == 3 * BLOCK


def test_a_session_that_was_evicted_finds_what_is_still_there() -> None:
    paging = Paging(6)
    filled(paging, "a", TEXT)
    paging.evict("a")
    assert paging["a"].cached == 0
    assert paging.find("a", [*TEXT, 1]) == 5 * BLOCK


def test_without_sharing_nothing_is_found() -> None:
    paging = Paging(10, shares=False)
    filled(paging, "a", TEXT)
    paging.admit("b", "acme")
    assert paging.find("b", TEXT) == 0
    assert paging.published == 0


def test_too_little_room_changes_nothing() -> None:
    paging = Paging(3)
    paging.admit("a", "")
    assert not paging.reserve("a", 4 * BLOCK)
    assert paging["a"].blocks == []
    assert paging.available == 3


def test_blocks_of_several_sessions_become_available_with_the_last_of_them() -> None:
    paging = Paging(10)
    filled(paging, "a", TEXT)
    filled(paging, "b", [*TEXT, 1])
    assert paging.evictable(["a"]) == 0
    assert paging.evictable(["b"]) == 1
    assert paging.evictable(["a", "b"]) == 6


def test_sessions_are_admitted_once_and_before_use() -> None:
    paging = Paging(3)
    paging.admit("a", "")
    with pytest.raises(PagingError, match="new session"):
        paging.admit("a", "")
    with pytest.raises(PagingError, match="not admitted"):
        paging.reserve("b", 1)
    paging.release("b")
