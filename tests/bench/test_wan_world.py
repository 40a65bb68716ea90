from __future__ import annotations

import pytest

from bench.wan_world import ADAPTIVE, CLOUD_AR, COLOCATED, LEARNED, PIPELINED, SYNC, Way, summary
from dsdq.policies.window import Mode
from dsdq.sim.observed import Answer, Observed

DRAFTED = ["aac", "c", "aaaab"] * 13
WAYS = {
    Way(CLOUD_AR, "target-only"): (["t"] * 117, Mode.TARGET_ONLY),
    Way(COLOCATED, "co-located:4"): (["aac"] * 39, Mode.COLOCATED),
    Way(SYNC, "static:4:1"): (DRAFTED, Mode.SPECULATE),
    Way(PIPELINED, "static:4:2"): (DRAFTED, Mode.SPECULATE),
    Way(LEARNED, LEARNED): (["aac"] * 39, Mode.COLOCATED),
    Way(ADAPTIVE, ADAPTIVE): (["aac"] * 39, Mode.COLOCATED),
}


def observed(way: Way, rounds: list[str], mode: Mode) -> Observed:
    each_ms = 20.0 if way.mode in {LEARNED, ADAPTIVE} else 40.0
    answers = tuple(
        Answer(at_ms=each_ms * place, kinds=kinds, judged=4, mode=mode, waited_ms=30.0, queue_ms=0.0, verify_ms=20.0)
        for place, kinds in enumerate(rounds, 1)
    )
    return Observed(
        policy=way.policy, prompt=3, text=0, ttft_ms=40.0, drafted=4 * len(rounds), draft_ms=8.0, answers=answers
    )


def test_ways_are_held_against_the_best_that_is_kept_to_and_the_pipeline_against_its_simulation() -> None:
    repeat = {way: observed(way, *told) for way, told in WAYS.items()}
    found = summary([repeat] * 3)
    rates = {mode: one["tokens_per_s"] for mode, one in found["modes"].items()}
    assert rates[CLOUD_AR] == pytest.approx(25)
    assert rates[COLOCATED] == pytest.approx(75)
    assert found["best_mode"] == max((CLOUD_AR, COLOCATED, SYNC, PIPELINED), key=rates.__getitem__)
    best = rates[found["best_mode"]]
    assert found["share_of_best_mode"] == found["awc_share_of_best_mode"] == pytest.approx(150 / best)
    assert found["speedup_vs_cloud_ar"] == pytest.approx(6)
    # In the simulation a round takes no 40 ms, and it meets the wrong guesses that all runs of the text have shown.
    assert 0.5 < found["share_of_simulated"] < 1
