"""Calibration is judged by worlds whose numbers are known: the simulator makes the trace."""

from __future__ import annotations

import math

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.calibrate import DEVICES, at_terms, calibrate, engine_passes
from dsdq.sim.figures import figures
from dsdq.sim.fitting import LEAST_STEP_MS, Pass
from dsdq.sim.observed import Observed
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Scenario
from tests.dsdq.sim.observing import observed

POLICIES = ("target-only", "co-located:6", "static:4:1", "static:8:1", "static:4:3")
WORLD = Scenario.model_validate(
    {
        "name": "known",
        "seed": 3,
        "duration_s": 60.0,
        "devices": {
            DEVICES: {
                "count": 1,
                "draft_ms": 2.5,
                "begin_ms": 7.0,
                "round_ms": 1.5,
                "link": {"rtt_ms": 20.0},
                "arrivals": {"think_s": 0.0},
            }
        },
        "verifiers": {
            "step_ms": 25.0,
            "position_ms": 0.4,
            "prefill_ms": 0.1,
            "between_ms": 1.2,
            "draft": {"step_ms": 1.1},
        },
        "workloads": {
            "default": {
                "prompt": {"mean": 41},
                "output": {"mean": 120},
                "acceptance": {"mean": 0.8},
                "own_acceptance": {"mean": 0.6},
                "known_length": True,
            }
        },
        "broker": {"latency_ms": 0.8, "message_bytes": 70.0, "token_bytes": 3.0},
        "routing": {"trust_alone_s": 1e6},
    }
)


@pytest.fixture(scope="module")
def trace() -> list[Observed]:
    return [text for rtt_ms in (0.0, 40.0) for policy in POLICIES for text in observed(WORLD, policy, rtt_ms)]


@pytest.fixture(scope="module")
def found(trace: list[Observed]) -> Scenario:
    return calibrate(trace).scenario


def test_what_steps_take_is_found_again(found: Scenario) -> None:
    verifiers = found.verifiers
    assert verifiers.step_ms == pytest.approx(25.0, rel=0.01)
    assert verifiers.position_ms == pytest.approx(0.4, rel=0.02)
    assert verifiers.prefill_ms == pytest.approx(0.1, abs=0.02)
    assert verifiers.between_ms == pytest.approx(1.2, abs=0.05)
    assert verifiers.variation == pytest.approx(0.0, abs=0.01)
    assert verifiers.draft is not None
    assert verifiers.draft.step_ms == pytest.approx(1.1, rel=0.02)


def test_what_devices_take_is_found_again(found: Scenario) -> None:
    devices = found.devices[DEVICES]
    assert devices.draft_ms == pytest.approx(2.5)
    assert devices.round_ms == pytest.approx(1.5, abs=0.1)
    assert devices.begin_ms == pytest.approx(7.0, abs=1.5)
    assert devices.count == 1


def test_latency_beside_a_known_link_is_found_again(found: Scenario) -> None:
    assert found.broker.latency_ms == pytest.approx(0.8, abs=0.05)


def test_message_sizes_are_found_again(found: Scenario) -> None:
    assert found.broker.message_bytes == pytest.approx(70.0, rel=0.1)
    assert found.broker.token_bytes == pytest.approx(3.0, rel=0.2)


def test_acceptance_is_found_again_for_both_drafters(found: Scenario) -> None:
    workload = found.workloads["default"]
    assert workload.acceptance.mean == pytest.approx(0.8, abs=0.02)
    assert workload.own_acceptance is not None
    assert workload.own_acceptance.mean == pytest.approx(0.6, abs=0.03)
    assert (workload.prompt.mean, workload.output.mean) == (41.0, 120.0)


def test_a_link_that_nobody_stated_is_read_from_the_round_trips() -> None:
    texts = [one.model_copy(update={"rtt_ms": None}) for one in observed(WORLD, "static:4:1", 20.0)]
    found = calibrate(texts).scenario
    assert found.devices[DEVICES].link.rtt_ms + 2 * found.broker.latency_ms == pytest.approx(21.6, abs=0.1)


@pytest.mark.parametrize("policy", POLICIES)
def test_it_predicts_a_link_that_it_has_not_seen(found: Scenario, policy: str) -> None:
    unseen = observed(WORLD, policy, 90.0)
    ours = figures(terms := at_terms(found, unseen[0]), simulate(terms))
    assert terms.devices[DEVICES].link.rtt_ms == 90.0
    live_tpot_ms = sum(text.answers[-1].at_ms - text.ttft_ms for text in unseen) / sum(one.tokens - 1 for one in unseen)
    assert ours["tpot_ms"] == pytest.approx(live_tpot_ms, rel=0.06)
    assert ours["ttft_ms"] == pytest.approx(sum(one.ttft_ms for one in unseen) / len(unseen), rel=0.05)


def test_steps_that_vary_are_seen_to() -> None:
    verifiers = WORLD.verifiers.model_copy(update={"variation": 0.2})
    varied = WORLD.model_copy(update={"verifiers": verifiers})
    found = calibrate(observed(varied, "static:4:1", 0.0)).scenario
    assert found.verifiers.variation == pytest.approx(0.2, rel=0.15)
    assert found.verifiers.step_ms + 5 * found.verifiers.position_ms == pytest.approx(27.0, rel=0.03)


def test_the_engine_benchmark_takes_the_place_of_the_texts_steps(trace: list[Observed]) -> None:
    shapes = [(rows, width) for rows in (1, 4) for width in (1, 8)]
    engine = {"ms": {f"{rows}x{width}": {"step": 9.0 + rows + 0.5 * rows * width} for rows, width in shapes}}
    assert Pass(4.0, 32.0, 29.0) in engine_passes(engine)
    verifiers = calibrate(trace, engine).scenario.verifiers
    assert (verifiers.step_ms, verifiers.row_ms) == (pytest.approx(9.0), pytest.approx(1.0))
    assert verifiers.position_ms == pytest.approx(0.5)


@pytest.mark.parametrize("engine", [{}, {"ms": []}, {"ms": {"1by4": {"step": 3}}}, {"ms": {"1x4": {"bare": 3}}}])
def test_any_other_document_is_no_engine_benchmark(engine: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"expected the JSON of bench/engine\.py"):
        engine_passes(engine)


def test_texts_of_one_verdict_show_no_pass(trace: list[Observed]) -> None:
    brief = trace[0].model_copy(update={"answers": trace[0].answers[:1]})
    with pytest.raises(ConfigError, match="expected at least one pass"):
        calibrate([brief])


def test_the_notes_say_how_well_it_fits(trace: list[Observed]) -> None:
    notes = " ".join(calibrate(trace).notes)
    assert f"{len(trace)} texts" in notes
    assert "off by 0.0% on average" in notes


@pytest.mark.parametrize("step", [math.nan, math.inf, 0.0, -1.0])
def test_steps_of_an_engine_benchmark_take_their_time(step: float) -> None:
    with pytest.raises(ConfigError, match="expected rows, windows and milliseconds above 0"):
        engine_passes({"ms": {"1x4": {"step": step}}})


def test_a_verifier_that_drafted_once_drafts_in_the_simulation_too(trace: list[Observed]) -> None:
    streamed = next(one for one in trace if one.policy.startswith("co-located"))
    answers = [streamed.answers[0], *(one.model_copy(update={"judged": 0}) for one in streamed.answers[1:])]
    brief = streamed.model_copy(update={"answers": tuple(answers)})
    drafted = next(one for one in trace if one.policy.startswith("static"))
    assert calibrate([brief, drafted]).scenario.verifiers.draft is not None


def test_passes_that_took_no_time_are_no_division_by_it(trace: list[Observed]) -> None:
    drafted = next(one for one in trace if one.policy.startswith("static"))
    answers = tuple(one.model_copy(update={"verify_ms": 0.0}) for one in drafted.answers)
    found = calibrate([drafted.model_copy(update={"answers": answers})]).scenario.verifiers
    assert (found.step_ms, found.variation) == (LEAST_STEP_MS, 0.0)
