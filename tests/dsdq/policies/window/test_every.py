from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsdq.policies.window import Mode, Observation, rates
from dsdq.policies.window.estimates import Estimates
from dsdq.policies.window.every import Every
from dsdq.policies.window.exploring import View
from dsdq.policies.window.ways import ALONE, DEPTHS, DRAFTED, OWN, OWN_WINDOWS, WAYS, WINDOWS

SPEEDS = rates.Speeds(0.8, 2.0, 40.0, 5.0, 20.0, 0.4, 1.0, 0.5)


def view(speeds: rates.Speeds, *observations: Observation) -> View:
    known = Estimates()
    for one in observations:
        known.observe(one)
    return View(frozenset(Mode), known, speeds, (0.7, 0.6), 32)


def drafted() -> Observation:
    return Observation(4, 3, 8.0, 60.0, 5.0, 22.0, committed=4, wanted=4)


def own() -> Observation:
    return Observation(4, 3, 0.0, 60.0, 5.0, 30.0, committed=4, mode=Mode.COLOCATED, wanted=4)


@pytest.mark.parametrize("way", [0, 1, 10, 23, DRAFTED - 1])
def test_each_drafted_way_has_the_rate_of_its_formula(way: int) -> None:
    choice, found = WAYS[way], Every().logs(view(SPEEDS, drafted()))
    window = np.asarray([float(choice.window)])
    if choice.depth == 1:
        expected = rates.sequential_rates(SPEEDS, window)
    else:
        expected = rates.pipelined_rates(SPEEDS, window, np.asarray([choice.depth]))
    assert np.exp(found[way]) == pytest.approx(expected[0])


def test_streams_have_the_rates_of_theirs() -> None:
    seen = view(SPEEDS, drafted(), own())
    found = np.exp(Every().logs(seen))
    assert found[ALONE] == pytest.approx(rates.target_only_rate(SPEEDS))
    windows = np.asarray(OWN_WINDOWS, dtype=np.float64)
    assert found[OWN:] == pytest.approx(rates.colocated_rates(seen.known.own_speeds(), 0.7, 0.0, windows, 0.6))


def test_nothing_is_said_of_a_drafter_that_was_not_seen() -> None:
    assert not Every().logs(view(SPEEDS, drafted()))[OWN:].any()


@pytest.mark.parametrize(
    "change",
    [{"acceptance": 0.802}, {"first": 0.505}, {"network_ms": 41.0}, {"draft_ms": 2.02}, {"step_ms": 20.4}],
)
def test_what_moved_a_little_is_followed_without_a_search(change: dict[str, float]) -> None:
    every, moved = Every(), replace(SPEEDS, **change)
    before = every.logs(view(SPEEDS, drafted()))[:DRAFTED]
    searched_at = every._values
    found = every.logs(view(moved, drafted()))[:DRAFTED]
    truth = Every().logs(view(moved, drafted()))[:DRAFTED]
    assert every._values is searched_at
    assert np.abs(found - truth).mean() < 0.3 * np.abs(before - truth).mean()


def test_what_moved_far_is_searched_for_anew() -> None:
    every, far = Every(), replace(SPEEDS, network_ms=150.0, acceptance=0.5)
    every.logs(view(SPEEDS, drafted()))
    assert every.logs(view(far, drafted())).tolist() == Every().logs(view(far, drafted())).tolist()


def test_what_is_not_on_offer_is_not_reckoned() -> None:
    everything = Every().logs(view(SPEEDS, drafted(), own()))
    for windows, depths in ((5, 2), (1, 1), (len(WINDOWS), len(DEPTHS))):
        found = Every(windows, depths).logs(view(SPEEDS, drafted(), own()))
        assert found[ALONE:].tolist() == everything[ALONE:].tolist()
        one, all_ = (logs[:DRAFTED].reshape(len(WINDOWS), len(DEPTHS)) for logs in (found, everything))
        assert one[:windows, :depths] == pytest.approx(all_[:windows, :depths])
        assert not one[windows:].any()
        assert not one[:, depths:].any()
