from __future__ import annotations

import pytest

from dsdq.policies.window import Mode, Observation
from dsdq.policies.window.estimates import Estimates


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


def test_the_first_pass_of_a_text_which_feeds_its_prompt_is_forgotten() -> None:
    known = Estimates()
    known.observe(seen(verify_ms=400))
    assert known.speeds().pass_ms(5) == pytest.approx(400)
    known.observe(seen())
    assert known.speeds().pass_ms(5) == pytest.approx(10)


def test_two_drafters_that_do_alike_are_known_from_each_others_drafts() -> None:
    known = Estimates()
    for _ in range(6):
        known.observe(seen(drafted=8, accepted=7))
    alone = known.acceptance.parts()[0]
    known.observe(seen(mode=Mode.COLOCATED, drafted=2, accepted=2))
    device, verifier = (one.parts()[0] for one in known.drafters())
    assert device == known.speeds().acceptance == pytest.approx(alone, abs=0.03)
    assert verifier == pytest.approx(device, abs=0.05)


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


def test_a_draft_that_is_as_short_as_pays_for_all_says_nothing_of_what_would_have_followed() -> None:
    known = Estimates()
    for _ in range(50):
        known.observe(seen(mode=Mode.COLOCATED, drafted=2, accepted=2, wanted=12, batch_rows=8))
    assert known.server_acceptance.mean > 0.95
    assert known.shared_window(12) == pytest.approx(2)
    for _ in range(200):
        known.observe(seen(mode=Mode.COLOCATED, drafted=0, accepted=0, wanted=12, batch_rows=8))
    assert known.server_acceptance.mean < 0.1


def test_the_prompt_of_a_text_that_ended_at_once_is_forgotten_by_the_next() -> None:
    known = Estimates()
    known.observe(seen(verify_ms=400))
    carried = known.carried()
    for verify_ms in (300, 10):
        carried.observe(seen(verify_ms=verify_ms))
    assert carried.speeds().pass_ms(5) == pytest.approx(10)


def test_the_next_text_begins_with_what_this_one_has_shown_and_believes_it_less() -> None:
    known = Estimates()
    for _ in range(60):
        known.observe(seen())
    carried = known.carried()
    assert carried.speeds().values() == pytest.approx(known.speeds().values(), rel=0.15)
    carried.observe(seen(verify_ms=400))  # it feeds a prompt again
    assert carried.speeds().pass_ms(5) == pytest.approx(10)
    for _ in range(12):
        carried.observe(seen(drafted=4, accepted=0))
        known.observe(seen(drafted=4, accepted=0))
    assert carried.speeds().first < known.speeds().first  # type: ignore[operator] - always known here


def test_what_nothing_has_shown_is_silent_from_the_first_verdict_on_whatever_the_clock_says() -> None:
    known = Estimates()
    known.observe(seen(mode=Mode.TARGET_ONLY, part=1, time_ms=1e8))
    assert (known.acceptance_ms, known.server_ms, known.heard_ms) == (1e8, 1e8, 1e8)
    known.observe(seen(mode=Mode.TARGET_ONLY, part=2, time_ms=1e8 + 50))
    assert (known.acceptance_ms, known.server_ms, known.heard_ms) == (1e8, 1e8, 1e8)


def test_passes_are_shared_until_hardly_anybody_shares_them_any_more() -> None:
    known = Estimates()

    def told(rows: int) -> bool:
        for _ in range(60):
            known.observe(seen(batch_rows=rows))
        return known.shared

    assert [told(1), told(2), told(3)] == [False, True, True]
    shared = []
    for number in range(60):  # two in a pass, and one, in turn: the mean goes to and fro about 1.5
        known.observe(seen(batch_rows=1 + number % 2))
        shared.append(known.shared)
    assert all(shared)
    assert known.carried().shared
    assert not told(1)
