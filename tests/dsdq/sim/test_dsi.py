"""Speculation parallelism against plain and speculative decoding, text by text (arXiv 2405.14105, theorems 1 and 2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdq.sim.dsi import Course, Speeds, course
from dsdq.sim.guesses import Fixed
from tests.dsdq.sim.worlds import enough_targets

POSITION_MS = st.sampled_from([0.0, 0.5])


def guesses_of(right: str) -> Fixed:
    return Fixed([place for place, one in enumerate(right) if one == "0"], len(right))


def speeds_of(draft_ms: float, step_ms: float, position_ms: float = 0.0) -> Speeds:
    return Speeds(draft_ms, lambda positions, _length: step_ms + position_ms * positions)


def course_of(right: str, speeds: Speeds, targets: int = 4, lookahead: int = 1, *, known_length: bool = True) -> Course:
    return course(
        guesses_of(right), len(right), speeds, targets=targets, lookahead=lookahead, known_length=known_length
    )


def plain_ms(right: str, speeds: Speeds) -> float:
    """One pass for each token."""
    return sum(speeds.pass_ms(1, length) for length in range(len(right)))


def speculative_ms(right: str, speeds: Speeds, window: int, *, known_length: bool) -> float:
    """Rounds of a window and a pass over it, one after the other (arXiv 2211.17192)."""
    guesses, length, now_ms = guesses_of(right), 0, 0.0
    while length < len(right):
        size = min(window, len(right) - length - 1) if known_length else window
        now_ms += size * speeds.draft_ms + speeds.pass_ms(size + 1, length)
        length += guesses.run(length, size) + 1
    return now_ms


def test_a_text_by_hand() -> None:
    # Passes take 10 ms, drafts 2 ms. Its tokens 0, 1 and 2 are guessed, 3 is not, 4 and 5 are again.
    made = course_of("111011", speeds_of(2, 10), targets=9)
    # Token 0 by the target at 10; with draft 0 (2 ms) a pass gives 1 at 12, likewise 2 at 14 and at 16 the target's own
    # token 3. From there on anew: 4 at 26; 5 with draft 4 at 28.
    assert [(one.at_ms, one.length) for one in made.commits] == [(10, 1), (12, 2), (14, 3), (16, 4), (26, 5), (28, 6)]
    assert (sum(one.accepted for one in made.commits), sum(one.judged for one in made.commits)) == (4, 5)


def test_with_one_target_it_is_plain_decoding() -> None:
    made = course_of("110110", speeds_of(1, 10), targets=1)
    assert [one.at_ms for one in made.commits] == [10, 20, 30, 40, 50, 60]


def test_a_perfect_drafter_hides_all_passes_but_one() -> None:
    # (N - 1)·t_d + t_v: DSI's latency where nothing is rejected
    assert course_of("1" * 40, speeds_of(2, 10), targets=enough_targets(2, 10, 1)).ended_ms == 39 * 2 + 10


def test_too_few_targets_let_drafts_wait() -> None:
    enough = course_of("1" * 40, speeds_of(2, 10), targets=enough_targets(2, 10, 1))
    few = course_of("1" * 40, speeds_of(2, 10), targets=2)
    assert enough.ended_ms < few.ended_ms <= plain_ms("1" * 40, speeds_of(2, 10))


@pytest.mark.parametrize("draft_ms", [0.5, 1, 3, 9, 25])
@pytest.mark.parametrize("lookahead", [1, 2, 5])
@pytest.mark.parametrize("acceptance", [0.0, 0.5, 0.9, 1.0])
def test_it_costs_no_more_than_the_better_of_both(draft_ms: float, lookahead: int, acceptance: float) -> None:
    """Over a grid, of texts whose every n-th guess is wrong."""
    every = {0.0: 1, 0.5: 2, 0.9: 10, 1.0: 1000}[acceptance]
    right = "".join("0" if (place + 1) % every == 0 else "1" for place in range(100))
    speeds = speeds_of(draft_ms, 10)
    made = course_of(right, speeds, enough_targets(draft_ms, 10, lookahead), lookahead)
    windows = range(lookahead, 33, lookahead)
    speculative = min(speculative_ms(right, speeds, one, known_length=True) for one in windows)
    assert made.ended_ms <= min(plain_ms(right, speeds), speculative) + 1e-6


@settings(max_examples=500, derandomize=True)
@given(
    st.text("01", min_size=1, max_size=60),
    st.sampled_from([0.0, 0.3, 1.0, 4.0, 10.0, 17.0]),
    POSITION_MS,
    st.integers(1, 12),
    st.integers(1, 8),
    st.booleans(),
)
def test_no_text_takes_longer_than_plain_decoding(
    right: str, draft_ms: float, position_ms: float, targets: int, lookahead: int, known_length: bool
) -> None:
    speeds = speeds_of(draft_ms, 10, position_ms)
    made = course_of(right, speeds, targets, lookahead, known_length=known_length)
    assert made.ended_ms <= plain_ms(right, speeds) + 1e-6
    assert made.first_ms <= speeds.pass_ms(1, 0) + 1e-6


@settings(max_examples=500, derandomize=True)
@given(
    st.text("01", min_size=1, max_size=60),
    st.sampled_from([0.3, 1.0, 4.0, 10.0, 17.0]),
    POSITION_MS,
    st.integers(1, 8),
    st.integers(1, 6),
    st.booleans(),
)
def test_no_text_takes_longer_than_speculative_decoding_if_no_draft_has_to_wait(
    right: str, draft_ms: float, position_ms: float, lookahead: int, times: int, known_length: bool
) -> None:
    speeds = speeds_of(draft_ms, 10, position_ms)
    targets = enough_targets(draft_ms, speeds.pass_ms(lookahead, 0), lookahead)
    made = course_of(right, speeds, targets, lookahead, known_length=known_length)
    assert made.ended_ms <= speculative_ms(right, speeds, times * lookahead, known_length=known_length) + 1e-6


@settings(max_examples=300, derandomize=True)
@given(st.text("01", min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_every_token_is_committed_once_and_targets_work_on_one_thing_at_a_time(
    right: str, targets: int, lookahead: int, known_length: bool
) -> None:
    made = course_of(right, speeds_of(3, 10), targets, lookahead, known_length=known_length)
    assert sum(one.committed for one in made.commits) == made.commits[-1].length == len(right)
    assert [one.at_ms for one in made.commits] == sorted(one.at_ms for one in made.commits)
    judged = sum(one.judged for one in made.commits)
    assert sum(one.accepted for one in made.commits) <= judged <= made.drafted
    moments = sorted({one.started_ms for one in made.passes})
    for at_ms in moments:
        assert sum(one.started_ms <= at_ms < one.ended_ms for one in made.passes) <= targets
