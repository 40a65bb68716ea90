from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.batching import Share, Work, first_in_first_out

WORKS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20)), max_size=20).map(
    lambda pairs: [Work(str(number), *pair) for number, pair in enumerate(pairs)]
)
BUDGETS = st.integers(1, 100)


def by_session(shares: Sequence[Share]) -> dict[str, Share]:
    assert len({share.session for share in shares}) == len(shares)
    return {share.session: share for share in shares}


@given(WORKS, BUDGETS, BUDGETS)
def test_a_step_stays_within_both_budgets_but_for_a_first_window_that_is_larger(
    works: list[Work], budget: int, prefill: int
) -> None:
    shares = first_in_first_out(works, budget, prefill)
    windows = [share.verify for share in shares if share.verify]
    assert sum(windows) <= budget or len(windows) == 1
    assert sum(share.prefill for share in shares) <= prefill


@given(WORKS, BUDGETS, BUDGETS)
def test_nobody_gets_more_than_asked_and_a_window_runs_only_behind_its_whole_prefill(
    works: list[Work], budget: int, prefill: int
) -> None:
    shares = by_session(first_in_first_out(works, budget, prefill))
    for work in works:
        share = shares.get(work.session, Share(work.session, 0, 0))
        assert share.prefill <= work.prefill
        assert share.verify in (0, work.verify)
        assert not share.verify or share.prefill == work.prefill


@given(WORKS, BUDGETS, BUDGETS)
def test_no_window_overtakes_an_older_one_that_could_have_run(works: list[Work], budget: int, prefill: int) -> None:
    shares = by_session(first_in_first_out(works, budget, prefill))
    waiting = False
    for work in works:
        share = shares.get(work.session, Share(work.session, 0, 0))
        if work.verify and share.prefill == work.prefill:
            assert not (waiting and share.verify)
            waiting |= not share.verify


@given(WORKS.filter(lambda works: any(work.prefill or work.verify for work in works)), BUDGETS, BUDGETS)
def test_whatever_waits_is_done_in_the_end_and_every_step_does_something(
    works: list[Work], budget: int, prefill: int
) -> None:
    left = {work.session: work for work in works if work.prefill or work.verify}
    while left:
        shares = first_in_first_out(left.values(), budget, prefill)
        assert shares
        for share in shares:
            work = left[share.session]
            left[share.session] = Work(work.session, work.prefill - share.prefill, work.verify - share.verify)
        left = {session: work for session, work in left.items() if work.prefill or work.verify}


def test_a_long_prompt_holds_windows_up_by_its_chunk_alone() -> None:
    works = [Work("long", 2000, 5), *(Work(str(n), 0, 9) for n in range(16))]
    shares = by_session(first_in_first_out(works, 512, 64))
    assert shares["long"] == Share("long", 64, 0)
    assert all(shares[str(n)].verify == 9 for n in range(16))


def test_windows_do_not_keep_a_prompt_waiting() -> None:
    works = [*(Work(str(n), 0, 9) for n in range(100)), Work("prompt", 40, 0)]
    assert by_session(first_in_first_out(works, 90, 64))["prompt"].prefill == 40
