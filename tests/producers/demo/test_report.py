from __future__ import annotations

from dataclasses import asdict

import pytest

from dsdq.client import GenerationStats, TokenKind
from producers.demo.events import Began, Event, Failed, Finished, Spoke, from_line, to_line
from producers.demo.report import Reference, compare, figures


def finished(prompt: int, ids: list[int], **stats: object) -> Finished:
    return Finished(0, prompt, [1], ids, {**asdict(GenerationStats()), **stats})  # type: ignore[dict-item]


def reference(*ids: list[int], ties: tuple[int, ...] = (), seconds: float = 1.0) -> Reference:
    return Reference("the target alone", list(ids), [frozenset(ties)] * len(ids), seconds)


@pytest.mark.parametrize(
    "event",
    [Began(0), Spoke(1, 2, "text\n", TokenKind.BONUS), finished(3, [4, 5]), Failed(0, "why")],
    ids=lambda event: type(event).__name__,
)
def test_events_survive_their_line(event: Event) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


def test_equal_ids_are_identical() -> None:
    assert compare([finished(0, [1, 2]), finished(1, [3])], reference([1, 2], [3])).identical


@pytest.mark.parametrize("ids", [[1, 9], [1], [1, 2, 3]])
def test_any_other_id_or_length_is_not_identical(ids: list[int]) -> None:
    assert not compare([finished(0, ids)], reference([1, 2])).identical


def test_a_first_difference_at_a_near_tie_is_counted_apart_and_one_elsewhere_is_not() -> None:
    assert compare([finished(0, [1, 9, 4])], reference([1, 2, 3], ties=(1,))).near_tie == 1
    assert compare([finished(0, [1, 9, 4])], reference([1, 2, 3], ties=(2,))).different == 1


def test_figures_are_sums_over_all_devices() -> None:
    ended = [
        finished(0, [1, 2, 3], committed_tokens=3, drafted_tokens=8, judged_tokens=4, wasted_tokens=2,
                 accepted_tokens=2, rounds=1, bytes_up=30, bytes_down=60, round_trips_ms=[4.0], batch_rows=[2]),
        finished(1, [4], committed_tokens=1, drafted_tokens=4, judged_tokens=4, accepted_tokens=0,
                 rounds=1, rounds_ahead=1, bytes_up=10, bytes_down=20, round_trips_ms=[8.0], batch_rows=[2]),
    ]  # fmt: skip
    result = figures(ended, 2.0, reference([1, 2, 3], [4], seconds=4.0))
    assert result["tokens_per_s"] == 2.0
    assert result["reference_tokens_per_s"] == 1.0
    assert result["ratio_vs_reference"] == 2.0
    assert result["acceptance_rate"] == 0.25
    assert result["wasted_drafts"] == 2 / 12
    assert result["tokens_per_round"] == 2.0
    assert result["rounds_ahead"] == 0.5
    assert (result["bytes_up_per_token"], result["bytes_down_per_token"]) == (10, 20)
    assert 4.0 <= result["round_trip_p50_ms"] <= result["round_trip_p99_ms"] <= 8.0
    assert result["verifier_mean_batch"] == 2.0
    assert result["identical"]
