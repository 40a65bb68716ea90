from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from producers.batch.fair import Share, divide, shares_of


def test_tenants_share_free_places_alike() -> None:
    assert divide(6, [Share("a", 100, 0), Share("b", 100, 0), Share("c", 100, 0)]) == {"a": 2, "b": 2, "c": 2}


def test_who_has_fewer_lines_running_catches_up() -> None:
    assert divide(3, [Share("a", 100, 5), Share("b", 100, 2)]) == {"b": 3}


def test_a_weight_is_a_part_of_the_places() -> None:
    assert divide(8, [Share("a", 100, 0, weight=3.0), Share("b", 100, 0)]) == {"a": 6, "b": 2}


def test_what_one_does_not_want_goes_to_the_others() -> None:
    assert divide(8, [Share("a", 1, 0), Share("b", 100, 0), Share("c", 0, 0)]) == {"a": 1, "b": 7}


def test_of_equal_ones_the_first_by_name_comes_first_whatever_their_order() -> None:
    shares = [Share(name, 5, 0) for name in "cab"]
    assert list(divide(1, shares)) == list(divide(1, reversed(shares))) == ["a"]


def test_a_tenant_without_a_record_weighs_one() -> None:
    assert shares_of({"a": 2, "b": 3}, {"a": 1}, {"b": 2.0}) == [Share("a", 2, 1, 1.0), Share("b", 3, 0, 2.0)]


SHARES = st.builds(
    Share, st.text("abcdef", min_size=1), st.integers(0, 20), st.integers(0, 20), st.sampled_from([0.5, 1.0, 2.0])
)


@given(st.integers(0, 60), st.lists(SHARES, unique_by=lambda one: one.tenant))
def test_no_place_is_left_free_and_none_gets_more_than_it_wants(places: int, shares: list[Share]) -> None:
    given_ = Counter(divide(places, shares))
    assert given_.total() == min(places, sum(one.waiting for one in shares))
    assert all(0 <= given_[one.tenant] <= one.waiting for one in shares)


@given(st.integers(1, 60), st.lists(SHARES, unique_by=lambda one: one.tenant))
def test_nobody_who_waits_is_behind_one_that_got_a_place(places: int, shares: list[Share]) -> None:
    got = Counter(divide(places, shares))
    for poor in shares:
        if got[poor.tenant] < poor.waiting:
            due = (poor.running + got[poor.tenant] + 1) / poor.weight
            for rich in shares:
                if got[rich.tenant]:
                    assert (rich.running + got[rich.tenant]) / rich.weight <= due
