from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.batching import (
    Residency,
    Share,
    StepBudget,
    Tenure,
    Work,
    fill,
    first_in_first_out,
    like_lengths_together,
    linger_s,
)
from dsdq.policies.paging import BLOCK, Paging

WORKS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20)), max_size=20).map(
    lambda pairs: [Work(str(number), 0, *pair, since_s=number) for number, pair in enumerate(pairs)]
)
TOKENS = st.integers(1, 100)


class EnoughRoom:
    """A KV cache without bounds."""

    def make(self, work: Work, tokens: int) -> bool:
        return tokens > work.cached


def shares_of(works: Iterable[Work], window_tokens: int, prefill_tokens: int) -> Sequence[Share]:
    return fill(works, StepBudget(window_tokens, prefill_tokens), EnoughRoom())


def by_session(shares: Sequence[Share]) -> dict[str, Share]:
    assert len({share.session for share in shares}) == len(shares)
    return {share.session: share for share in shares}


# A step's budget


@given(WORKS, TOKENS, TOKENS)
def test_a_step_stays_within_both_budgets_but_for_a_first_window_that_is_larger(
    works: list[Work], budget: int, prefill: int
) -> None:
    shares = shares_of(works, budget, prefill)
    windows = [share.verify for share in shares if share.verify]
    assert sum(windows) <= budget or len(windows) == 1
    assert sum(share.prefill for share in shares) <= prefill


@given(WORKS, TOKENS, TOKENS)
def test_nobody_gets_more_than_asked_and_a_window_runs_only_behind_its_whole_prefill(
    works: list[Work], budget: int, prefill: int
) -> None:
    shares = by_session(shares_of(works, budget, prefill))
    for work in works:
        share = shares.get(work.session, Share(work.session, 0, 0))
        assert share.prefill <= work.prefill
        assert share.verify in (0, work.verify)
        assert not share.verify or share.prefill == work.prefill


@given(WORKS, TOKENS, TOKENS)
def test_no_window_overtakes_an_older_one_that_could_have_run(works: list[Work], budget: int, prefill: int) -> None:
    shares = by_session(shares_of(works, budget, prefill))
    waiting = False
    for work in works:
        share = shares.get(work.session, Share(work.session, 0, 0))
        if work.verify and share.prefill == work.prefill:
            assert not (waiting and share.verify)
            waiting |= not share.verify


@given(WORKS.filter(lambda works: any(work.prefill or work.verify for work in works)), TOKENS, TOKENS)
def test_whatever_waits_is_done_in_the_end_and_every_step_does_something(
    works: list[Work], budget: int, prefill: int
) -> None:
    left = {work.session: work for work in works if work.prefill or work.verify}
    while left:
        shares = shares_of(left.values(), budget, prefill)
        assert shares
        for share in shares:
            work = left[share.session]
            done = work.cached + share.prefill
            left[share.session] = Work(
                work.session, done, work.prefill - share.prefill, work.verify - share.verify, work.since_s
            )
        left = {session: work for session, work in left.items() if work.prefill or work.verify}


def test_windows_do_not_keep_a_prompt_waiting() -> None:
    works = [*(Work(str(n), 0, 0, 9, 0.0) for n in range(100)), Work("prompt", 0, 40, 0, 1.0)]
    assert by_session(shares_of(works, 90, 64))["prompt"].prefill == 40


def test_a_long_prompt_delays_each_step_by_no_more_than_its_chunk() -> None:
    """A fake clock: a step takes a fixed time and some for each token; 16 sessions verify while 2,000 tokens arrive."""
    per_step_ms, per_token_ms, chunk = 12.0, 0.7, 64
    windows = [Work(str(n), 500, 0, 9, since_s=float(n)) for n in range(16)]
    alone_ms = per_step_ms + per_token_ms * sum(work.verify for work in windows)
    left, steps = 2000, 0
    while left:
        works = [Work("long", 2000 - left, left, 5, since_s=-1.0), *windows]
        shares = by_session(shares_of(works, 512, chunk))
        tokens = sum(share.prefill + share.verify for share in shares.values())
        took_ms = per_step_ms + per_token_ms * tokens
        assert all(shares[work.session].verify == 9 for work in windows)
        assert took_ms <= alone_ms + per_token_ms * (chunk + 5)
        left -= shares["long"].prefill
        steps += 1
    assert steps == -(-2000 // chunk)


# Who comes first


@given(WORKS)
def test_every_order_keeps_all_works_and_begins_with_the_one_that_waited_longest(works: list[Work]) -> None:
    for order in (first_in_first_out, like_lengths_together):
        ordered = order(works)
        assert sorted(ordered, key=lambda work: work.since_s) == sorted(works, key=lambda work: work.since_s)
        assert not works or ordered[0].since_s == min(work.since_s for work in works)


def test_texts_of_like_length_come_together() -> None:
    lengths = {"a": 10, "b": 900, "c": 12, "d": 850}
    works = [Work(name, length, 0, 1, since_s) for since_s, (name, length) in enumerate(lengths.items())]
    assert [work.session for work in like_lengths_together(works)] == ["a", "c", "d", "b"]


# Room in the KV cache


def crowded(tenure: Tenure, now_s: float, *, used_s: dict[str, float], busy: Sequence[str] = ()) -> Residency:
    """Return room where sessions a, b hold two of four blocks each, and c none."""
    paging = Paging(4, shares=False)
    for session in "ab":
        paging.admit(session, "")
        paging.reserve(session, 2 * BLOCK)
    paging.admit("c", "")
    return Residency(paging, used_s, tenure, now_s, busy)


waiting = partial(Work, "c", 0, 0, 1)
TENURE = Tenure(grace_s=1.0, patience_s=5.0)


def test_the_session_that_was_idle_longest_gives_way() -> None:
    room = crowded(TENURE, 10.0, used_s={"a": 8.0, "b": 7.0})
    assert room.make(waiting(since_s=10.0), 1)
    assert room.evicted == ["b"]


def test_nobody_gives_way_within_its_grace() -> None:
    room = crowded(TENURE, 10.0, used_s={"a": 9.5, "b": 9.9})
    assert not room.make(waiting(since_s=9.0), 1)
    assert room.evicted == []


def test_who_has_waited_too_long_takes_from_anybody_but_the_busy() -> None:
    room = crowded(TENURE, 10.0, used_s={"a": 9.5, "b": 9.9}, busy=["a"])
    assert room.make(waiting(since_s=5.0), 1)
    assert room.evicted == ["b"]


def test_nothing_is_taken_in_vain() -> None:
    room = crowded(TENURE, 10.0, used_s={"a": 0.0, "b": 0.0}, busy=["a"])
    assert not room.make(waiting(since_s=10.0), 3 * BLOCK)
    assert room.evicted == []


def test_what_becomes_free_is_kept_for_who_has_waited_too_long() -> None:
    room = crowded(TENURE, 10.0, used_s={"a": 0.0, "b": 0.0}, busy=["a"])
    assert not room.make(waiting(since_s=0.0), 3 * BLOCK)
    assert not room.make(Work("b", 2 * BLOCK, 0, 1, since_s=9.0), 2 * BLOCK + 1)
    assert room.make(Work("b", BLOCK, 0, 1, since_s=9.0), BLOCK + 1), "what it has, it may use"


@given(
    st.integers(1, 64),
    st.lists(st.floats(0.001, 1.0), max_size=20),
    st.floats(0.0, 0.1),
    st.floats(0.0001, 0.01),
)
def test_no_other_wait_serves_more_rows_in_a_time(
    waiting: int, expected_s: list[float], step_s: float, row_s: float
) -> None:
    def rate(wait_s: float) -> float:
        rows = waiting + sum(at_s <= wait_s for at_s in expected_s)
        return rows / (wait_s + step_s + row_s * rows)

    chosen = linger_s(waiting, expected_s, step_s, row_s)
    assert chosen in {0.0, *expected_s}
    assert rate(chosen) >= max(map(rate, (0.0, *expected_s))) * (1 - 1e-9)


def test_rows_that_share_most_of_a_step_are_waited_for_and_others_are_not() -> None:
    soon_s = [0.010] * 8
    assert linger_s(8, soon_s, 0.030, 0.001) == 0.010
    assert linger_s(8, soon_s, 0.001, 0.010) == 0
    assert linger_s(8, [0.040] * 8, 0.030, 0.001) == 0
    assert linger_s(8, soon_s, 0.0, 0.0) == 0
