"""How often a drafter is right, at a draft's first token and behind a right one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.window.shares import Accuracy, Share, _difference, _most_difference


def drafts(accuracy: Accuracy, behind: float, first: float, count: int, seed: int = 1) -> None:
    """Let a drafter that is so often right draft eight tokens, so many times."""
    source = random.Random(seed)
    for _ in range(count):
        right = 0
        while right < 8 and source.random() < (behind if right else first):
            right += 1
        accuracy.add(right, 8)


def test_a_share_settles_on_what_it_sees() -> None:
    share, source = Share(1.0, 2.0), random.Random(1)
    for _ in range(1000):
        share.add(source.random() < 0.7, 1)
    assert share.mean == pytest.approx(0.7, abs=0.05)
    assert share.deviation < 0.025


def test_hope_lies_above_the_mean_and_grows_with_silence() -> None:
    share = Share(6.0, 20.0)
    hopes = [share.hoped(1.5, silent) for silent in (0, 1, 2, 8)]
    assert share.mean < hopes[0]
    assert hopes == sorted(hopes)
    assert hopes[-1] > 0.95


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.1), (0.1, 0.9), (0.2, 0.8)])
def test_what_changed_is_noticed_within_ten_drafts(before: float, after: float) -> None:
    accuracy = Accuracy(0.6, 4.0)
    drafts(accuracy, before, before, 200)
    drafts(accuracy, after, after, 10)
    assert accuracy.parts() == pytest.approx((after, after), abs=0.3)


@pytest.mark.parametrize(("behind", "first"), [(0.9, 0.9), (0.9, 0.3)])
def test_luck_is_seldom_taken_for_a_change(behind: float, first: float) -> None:
    alarms = 0
    for seed in range(100):
        accuracy = Accuracy(0.6, 4.0)
        for draft in range(60):
            known = accuracy._all.trials
            drafts(accuracy, behind, first, 1, seed=1000 * seed + draft)
            alarms += accuracy._all.trials < known - 1
    assert alarms <= 20  # of 6000


@pytest.mark.parametrize(("behind", "first"), [(0.9, 0.3), (0.6, 0.6), (0.5, 0.9)])
def test_first_tokens_are_told_from_those_behind_a_right_one(behind: float, first: float) -> None:
    accuracy = Accuracy(0.6, 4.0)
    drafts(accuracy, behind, first, 300)
    assert accuracy.parts() == pytest.approx((behind, first), abs=0.07)


def test_until_they_have_shown_otherwise_they_are_alike() -> None:
    accuracy = Accuracy(0.6, 4.0)
    assert accuracy.parts() == (0.6, 0.6)
    accuracy.add(0, 8)
    behind, first = accuracy.parts()
    assert 0.4 < first < behind < 0.6


def test_a_draft_that_goes_on_has_no_first_token() -> None:
    begins, goes_on = Accuracy(0.6, 4.0), Accuracy(0.6, 4.0)
    for _ in range(20):
        begins.add(1, 8)
        goes_on.add(1, 8, begins=False)
    assert begins.parts()[1] > 0.8
    assert goes_on.parts() == pytest.approx((0.5, 0.5), abs=0.05)


def test_what_changes_changes_for_both() -> None:
    accuracy = Accuracy(0.6, 4.0)
    drafts(accuracy, 0.9, 0.9, 100)
    for _ in range(8):  # none of these shows what comes behind a right token
        accuracy.add(0, 8)
    assert max(accuracy.parts()) < 0.5


def made_by(behind: float, first: float, count: int) -> Accuracy:
    accuracy = Accuracy(0.6, 4.0)
    drafts(accuracy, behind, first, count)
    return accuracy


def test_drafts_that_hit_alike_are_likely_one_drafters_and_those_that_do_not_are_not() -> None:
    model = made_by(0.8, 0.8, 60)
    assert Accuracy(0.6, 4.0).alike(Accuracy(0.3, 9.0)) == 0.5
    assert model.alike(made_by(0.8, 0.8, 60)) > 0.8
    assert model.alike(made_by(0.4, 0.4, 60)) < 0.05
    assert made_by(0.9, 0.3, 60).alike(made_by(0.3, 0.9, 60)) < 0.05  # they hit equally often
    assert model.alike(made_by(0.4, 0.4, 60)) == made_by(0.4, 0.4, 60).alike(model)
    assert made_by(0.98, 0.98, 5000).alike(made_by(0.0, 0.0, 5000)) == pytest.approx(0.0)


def test_what_is_little_known_leans_on_what_may_be_of_the_same_drafter() -> None:
    device, server = made_by(0.9, 0.3, 200), made_by(0.9, 0.3, 2)
    for alone, leaning, known in zip(server.parts(), server.leaning_on(device).parts(), device.parts(), strict=True):
        assert abs(leaning - known) < abs(alone - known)
    drafts(server, 0.3, 0.9, 60)
    assert server.leaning_on(device).parts() == pytest.approx((0.3, 0.9), abs=0.15)


@given(st.floats(0, 1), st.floats(0.5, 30), st.floats(0, 1), st.floats(8, 500))
def test_a_difference_is_no_more_than_its_bound(lately: float, trials: float, before: float, known: float) -> None:
    counts = (lately * trials, trials), (before * known, known)
    assert _difference(*counts) <= _most_difference(*counts) * (1 + 1e-9) + 1e-9
