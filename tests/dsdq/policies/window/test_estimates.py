from __future__ import annotations

import random

import pytest

from dsdq.policies.window import Mode, Observation
from dsdq.policies.window.estimates import Estimates, Level, Pass


def test_a_level_ignores_one_that_is_late_and_believes_two() -> None:
    level = Level()
    for number in range(30):
        level.add(10 + number % 2)
    level.add(100)
    assert level.mean < 15
    level.add(10)
    level.add(100)
    level.add(100)
    assert level.mean == 100


@pytest.mark.parametrize(("step_ms", "position_ms"), [(10, 0.7), (20, 0.05), (5, 0.0)])
def test_a_pass_is_told_apart_into_what_is_fixed_and_what_a_position_takes(step_ms: float, position_ms: float) -> None:
    forward, rng = Pass(), random.Random(3)
    for _ in range(60):
        positions = rng.choice([1, 5, 9, 13])
        forward.add(positions, step_ms + position_ms * positions)
    assert forward.ms(1) == pytest.approx(step_ms + position_ms, rel=0.03)
    assert forward.ms(13) == pytest.approx(step_ms + 13 * position_ms, rel=0.03)


def test_load_that_makes_all_passes_longer_is_believed_after_two() -> None:
    forward = Pass()
    for _ in range(30):
        forward.add(5, 15)
        forward.add(1, 11)
    forward.add(5, 60)
    forward.add(5, 60)
    assert forward.ms(5) == pytest.approx(60, rel=0.05)
    assert forward.ms(1) == pytest.approx(44, rel=0.1)


def seen(**changes: float | Mode | None) -> Observation:
    usual = {"drafted": 4, "accepted": 3, "draft_ms": 8, "round_trip_ms": 75, "queue_ms": 5, "verify_ms": 10}
    return Observation(**{**usual, "committed": 4, **changes})  # type: ignore[arg-type] - numbers, by name


def test_a_round_shows_what_its_parts_took() -> None:
    known = Estimates()
    for _ in range(50):
        known.observe(seen())
    speeds = known.speeds()
    assert (speeds.draft_ms, speeds.network_ms, speeds.queue_ms) == pytest.approx((2, 60, 5))
    assert speeds.pass_ms(5) == pytest.approx(10)
    # Of each draft the first token was right, of the next three two were.
    assert (speeds.acceptance, speeds.first) == pytest.approx((0.67, 0.97), abs=0.03)


def test_what_a_round_waited_for_this_devices_own_passes_is_no_queue() -> None:
    known = Estimates()
    known.observe(seen())
    known.observe(seen(queue_ms=40, in_flight=2))
    assert known.speeds().queue_ms == 5


def test_a_link_that_slows_down_is_noticed_within_a_stream() -> None:
    known = Estimates()
    for _ in range(5):
        known.observe(seen(link_ms=50))
    for part in range(1, 5):
        stream = {"drafted": 0, "accepted": 0, "round_trip_ms": 10, "queue_ms": 0, "mode": Mode.TARGET_ONLY}
        known.observe(seen(**stream, part=part, link_ms=190 if part > 2 else None))
    assert known.speeds().network_ms == pytest.approx(200)


def test_guesses_count_as_trials_whoever_drafts() -> None:
    known = Estimates()
    for _ in range(100):
        known.observe(
            seen(drafted=0, accepted=0, mode=Mode.TARGET_ONLY, part=1, guessed=1, guessed_right=1, guess_ms=3)
        )
    assert known.speeds().acceptance > 0.9
    assert known.speeds().draft_ms == pytest.approx(3)


def test_a_stream_shows_what_the_verifiers_own_drafter_takes_however_it_is_read() -> None:
    known = Estimates()
    known.observe(seen())
    for part in range(100):
        drafted = part % 7
        told = {"drafted": drafted, "accepted": drafted // 2, "verify_ms": 10 + 1.5 * (drafted + 1)}
        known.observe(seen(mode=Mode.COLOCATED, round_trip_ms=0, queue_ms=0.5, part=part, **told))
    speeds = known.own_speeds()
    assert speeds.pass_ms(4) == pytest.approx(16, rel=0.02)
    assert speeds.position_ms == pytest.approx(1.5, rel=0.1)
    assert speeds.stream_ms == pytest.approx(0.5)


def test_until_a_stream_has_shown_it_the_verifier_drafts_as_fast_as_the_device() -> None:
    known = Estimates()
    known.observe(seen())
    assert known.own_speeds().position_ms == known.forward.position_ms + known.draft_ms.mean


def test_a_device_whose_drafter_had_nothing_to_say_was_wrong() -> None:
    silent, short, whole = Estimates(), Estimates(), Estimates()
    silent.observe(Observation(0, 0, 0.0, 40, 0, 10, mode=Mode.TARGET_ONLY, wanted=8))
    short.observe(Observation(3, 3, 1.0, 40, 0, 10, wanted=8))
    whole.observe(Observation(3, 3, 1.0, 40, 0, 10, wanted=3))
    assert silent.acceptance.mean == pytest.approx(2.4 / 5, abs=0.005)
    assert short.acceptance.mean == pytest.approx(5.4 / 8, abs=0.005)
    assert whole.acceptance.mean == pytest.approx(5.4 / 7, abs=0.005)


def test_where_the_verifiers_drafter_had_nothing_to_say_it_was_wrong() -> None:
    known = Estimates()
    for _ in range(50):
        known.observe(seen(mode=Mode.COLOCATED, drafted=2, accepted=2, wanted=4))
        known.observe(seen(mode=Mode.COLOCATED, drafted=0, accepted=0, wanted=4))
    assert known.server_acceptance.mean == pytest.approx(0.5, abs=0.05)
