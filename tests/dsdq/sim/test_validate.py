from __future__ import annotations

import math

import pytest

from dsdq.sim.calibrate import DEVICES
from dsdq.sim.observed import Answer, Observed
from dsdq.sim.record import FINISHED, REFUSED, Record, Request
from dsdq.sim.validate import Cell, Effort, Figures, errors, figures_of, halves, judge, medians, seen
from tests.dsdq.sim.observing import observed
from tests.dsdq.sim.test_calibrate import WORLD


def answer(at_ms: float, kinds: str, judged: int) -> Answer:
    return Answer(at_ms=at_ms, kinds=kinds, judged=judged, waited_ms=9.0, queue_ms=0.0, verify_ms=5.0)


def text(*answers: Answer, device: int = 0) -> Observed:
    return Observed(policy="static:4:1", prompt=3, device=device, ttft_ms=answers[0].at_ms, answers=answers)


def cell(*texts: Observed, half: int = 0, rtt_ms: float = 10.0) -> Cell:
    return Cell("known", half, rtt_ms, texts[0].policy, 60.0, texts)


def test_halves_share_no_text_and_no_round_trip_where_there_are_several() -> None:
    assert halves([60.0, 0.0, 10.0], 2) == [(0, 0.0, 0), (1, 10.0, 2), (0, 60.0, 4)]


def test_a_single_round_trip_is_in_both_halves() -> None:
    assert halves([30.0], 3) == [(0, 30.0, 0), (1, 30.0, 3)]


def test_a_text_has_longer_where_a_round_takes_longer() -> None:
    assert [Effort(1, 64, 2.0).limit_at(rtt_ms) for rtt_ms in (0.0, 100.0)] == [2.0, 4.0]


def test_what_was_seen_is_summed_over_texts() -> None:
    found = seen(cell(text(answer(40, "aac", 4), answer(90, "ab", 1)), text(answer(60, "c", 4))))
    assert found == Figures(
        ttft_ms=50.0,
        tpot_ms=pytest.approx((50 + 0) / (4 + 0)),
        tokens_per_s=pytest.approx(1000 * 6 / 150),
        acceptance=pytest.approx(3 / 9),
    )


def test_devices_at_the_same_time_add_up() -> None:
    alone, both = (
        seen(cell(text(answer(40, "aac", 4)), text(answer(40, "aac", 4), device=device))) for device in (0, 1)
    )
    assert both.tokens_per_s == pytest.approx(2 * alone.tokens_per_s)


def test_where_nothing_was_drafted_there_is_no_acceptance() -> None:
    assert math.isnan(seen(cell(text(answer(40, "t", 0), answer(70, "t", 0)))).acceptance)


def finished(ttft_ms: float, tpot_ms: float, tokens: int) -> Request:
    return Request(
        0, "live", 0, "default", 1000.0, 3, tokens,
        first_ms=1000.0 + ttft_ms, ended_ms=1000.0 + ttft_ms + tpot_ms * (tokens - 1), outcome=FINISHED,
        committed=tokens, judged=80, accepted=60,
    )  # fmt: skip


def recorded(*requests: Request) -> Record:
    record = Record(0.0, 1e6)
    record.requests += requests
    return record


def test_a_simulation_s_texts_are_read_alike() -> None:
    found = figures_of(recorded(finished(50.0, 10.0, 101), finished(70.0, 10.0, 101)), 1, limit_ms=1e9)
    assert found == Figures(60.0, pytest.approx(10.0), pytest.approx(1000 * 101 / 1060), 0.75)


def test_a_limit_cuts_a_simulation_s_texts_where_it_cuts_the_live_ones() -> None:
    whole, cut = (figures_of(recorded(finished(100.0, 10.0, 101)), 2, limit_ms=ms) for ms in (1e9, 600.0))
    assert cut.tpot_ms == whole.tpot_ms
    assert cut.tokens_per_s == pytest.approx(2 * 1000 * 51 / 600)


def test_texts_of_one_verdict_are_cut_by_no_limit() -> None:
    assert figures_of(recorded(finished(50.0, 0.0, 2)), 1, limit_ms=100.0).tokens_per_s == pytest.approx(2000 / 50)


def test_texts_that_were_refused_do_not_count() -> None:
    refused = Request(1, "live", 0, "default", 0.0, 3, 9, outcome=REFUSED)
    assert figures_of(recorded(finished(50.0, 10.0, 11), refused), 1, 1e9).ttft_ms == 50.0


def test_an_error_is_the_share_by_which_the_prediction_is_more() -> None:
    found = errors(Figures(100.0, 20.0, 50.0, math.nan), Figures(90.0, 25.0, 50.0, 0.8))
    assert found == {
        "ttft_ms": pytest.approx(-0.1),
        "tpot_ms": pytest.approx(0.25),
        "tokens_per_s": 0.0,
        "acceptance": None,
    }


def test_medians_are_of_the_errors_size_and_of_those_that_there_are() -> None:
    names = ("ttft_ms", "tpot_ms", "tokens_per_s", "acceptance")
    rows = [{"errors": dict.fromkeys(names, error) | {"acceptance": None}} for error in (-0.3, 0.1, 0.2)]
    assert medians(rows) == {"ttft_ms": 0.2, "tpot_ms": 0.2, "tokens_per_s": 0.2}


def test_each_half_is_predicted_from_the_other() -> None:
    """A world that is the simulator's own is predicted, but for the luck of its texts."""
    cells = [
        Cell("known", half, rtt_ms, policy, 60.0, tuple(observed(WORLD, policy, rtt_ms)))
        for half, rtt_ms in ((0, 10.0), (1, 80.0))
        for policy in ("target-only", "static:6:1", "static:4:3")
    ]
    found = judge(cells)
    assert [(row["rtt_ms"], row["policy"], row["misses"]) for row in found["cells"]] == [
        (one.rtt_ms, one.policy, []) for one in cells
    ]
    assert max(found["medians"].values()) < 0.05
    for calibrated in found["calibrations"]["known"]:
        assert calibrated["scenario"]["devices"][DEVICES]["draft_ms"] == pytest.approx(2.5)


def test_a_world_that_changed_between_the_halves_is_a_miss() -> None:
    slower = WORLD.model_copy(update={"verifiers": WORLD.verifiers.model_copy(update={"step_ms": 60.0})})
    cells = [
        Cell("known", half, 10.0, policy, 60.0, tuple(observed(world, policy, 10.0)))
        for half, world in ((0, WORLD), (1, slower))
        for policy in ("target-only", "static:6:1")
    ]
    found = judge(cells)
    assert all("tpot_ms" in row["misses"] for row in found["cells"])
    assert found["medians"]["tpot_ms"] > found["bounds"]["tpot_ms"]
