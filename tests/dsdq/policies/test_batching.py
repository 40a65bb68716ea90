from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.batching import Ready, first_in_first_out

READY = st.lists(st.builds(Ready, session=st.text(min_size=1, max_size=3), tokens=st.integers(1, 50)), max_size=20)


@given(READY, st.integers(1, 200))
def test_a_step_is_a_prefix_of_what_waits_within_the_budget(ready: list[Ready], budget: int) -> None:
    taken = list(first_in_first_out(ready, budget))
    assert taken == ready[: len(taken)]
    if len(taken) > 1:
        assert sum(row.tokens for row in taken) <= budget


@given(READY.filter(bool), st.integers(1, 10))
def test_the_oldest_row_always_runs_even_when_it_exceeds_the_budget(ready: list[Ready], budget: int) -> None:
    assert first_in_first_out(ready, budget)[0] == ready[0]


@given(READY, st.integers(1, 200))
def test_no_row_that_fits_in_turn_is_left_behind(ready: list[Ready], budget: int) -> None:
    taken = first_in_first_out(ready, budget)
    if len(taken) < len(ready):
        assert sum(row.tokens for row in taken) + ready[len(taken)].tokens > budget
