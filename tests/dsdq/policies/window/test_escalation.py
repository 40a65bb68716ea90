from __future__ import annotations

from dsdq.policies.window import Choice, Mode, Observation, Offer
from dsdq.policies.window.escalation import FIRST_PAUSE, PATIENCE, Escalation

BOTH = frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})


def round_of(accepted: int, drafter: int = 0) -> Observation:
    return Observation(4, accepted, draft_ms=4, round_trip_ms=50, queue_ms=0, verify_ms=10, drafter=drafter)


def stream_of(committed: int, guessed: int = 0, right: int = 0) -> Observation:
    return Observation(
        0, 0, 0, 10, 0, 10, committed=committed, mode=Mode.TARGET_ONLY, guessed=guessed, guessed_right=right
    )


def reject(ladder: Escalation, rounds: int = PATIENCE) -> None:
    for _ in range(rounds):
        ladder.observe(round_of(0, ladder.apply(Choice(4)).drafter))


def test_the_next_drafter_has_its_turn_before_the_target_decodes_alone() -> None:
    ladder = Escalation(Offer(8, modes=BOTH, drafters=2))
    assert ladder.apply(Choice(4)) == Choice(4, drafter=0)
    reject(ladder)
    assert ladder.apply(Choice(4)) == Choice(4, drafter=1)
    reject(ladder)
    assert ladder.apply(Choice(4)).mode is Mode.TARGET_ONLY


def test_a_drafter_that_has_nothing_to_say_is_left_like_one_that_is_wrong() -> None:
    ladder = Escalation(Offer(8, modes=BOTH, drafters=2))
    for _ in range(PATIENCE):
        ladder.observe(stream_of(1))
    assert ladder.rung == 1


def test_an_accepted_round_makes_up_for_a_rejected_one() -> None:
    ladder = Escalation(Offer(8, modes=BOTH))
    for accepted in (0, 0, 1, 0, 1, 0, 1):
        ladder.observe(round_of(accepted))
    assert ladder.rung == 0


def test_verdicts_on_another_drafters_windows_do_not_count() -> None:
    ladder = Escalation(Offer(8, modes=BOTH, drafters=2))
    reject(ladder)
    for _ in range(PATIENCE):
        ladder.observe(round_of(0, drafter=0))
    assert ladder.rung == 1


def test_without_target_only_on_offer_the_last_drafter_stays() -> None:
    ladder = Escalation(Offer(8))
    reject(ladder, 10)
    assert ladder.apply(Choice(4)) == Choice(4)


def test_the_first_drafter_is_tried_again_after_a_pause_that_doubles() -> None:
    ladder = Escalation(Offer(8, modes=BOTH))
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        reject(ladder)
        ladder.observe(stream_of(pause - 1))
        assert ladder.rung == ladder.top
        ladder.observe(stream_of(1))
        assert ladder.rung == 0


def test_a_drafter_that_proved_useful_makes_the_next_pause_short_again() -> None:
    ladder = Escalation(Offer(8, modes=BOTH))
    reject(ladder)
    ladder.observe(stream_of(FIRST_PAUSE))
    for _ in range(PATIENCE):
        ladder.observe(round_of(3))
    reject(ladder, 2 * PATIENCE)
    ladder.observe(stream_of(FIRST_PAUSE))
    assert ladder.rung == 0


def test_guessing_the_targets_tokens_right_ends_the_pause() -> None:
    ladder = Escalation(Offer(8, modes=BOTH))
    reject(ladder)
    ladder.observe(stream_of(4, guessed=2, right=1))
    ladder.observe(stream_of(4, guessed=2, right=1))
    assert ladder.rung == ladder.top
    ladder.observe(stream_of(4, guessed=4, right=3))
    assert ladder.rung == 0
