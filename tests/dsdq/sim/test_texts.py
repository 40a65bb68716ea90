from __future__ import annotations

import numpy as np
import pytest

from dsdq.sim.scenario.workload import Acceptance, Lengths, Workload
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Recording, Texts, length


def lengths_of(lengths: Lengths, count: int = 20_000) -> list[int]:
    luck = Streams(1).generator("lengths")
    return [length(lengths, luck) for _ in range(count)]


def test_lengths_have_their_mean_and_variation() -> None:
    drawn = lengths_of(Lengths(mean=200, variation=0.6))
    assert np.mean(drawn) == pytest.approx(200, rel=0.02)
    assert np.std(drawn) / np.mean(drawn) == pytest.approx(0.6, rel=0.03)


def test_lengths_stay_within_their_bounds() -> None:
    drawn = lengths_of(Lengths(mean=50, variation=1.0, least=20, most=90), 2000)
    assert (min(drawn), max(drawn)) == (20, 90)


def test_lengths_without_variation_are_all_the_same() -> None:
    assert set(lengths_of(Lengths(mean=64), 10)) == {64}


def test_a_text_has_the_same_lengths_and_guesses_whenever_it_is_asked_for() -> None:
    workload = Workload(output=Lengths(mean=50, variation=0.5))
    one, other = (Texts(workload, Streams(3), {}, own=True) for _ in range(2))
    other.text(1)
    first, again = one.text(4, 2), other.text(4, 2)
    assert (first.prompt, first.output) == (again.prompt, again.output)
    assert [first.guesses[0].run(place, 8) for place in range(40)] == [
        again.guesses[0].run(place, 8) for place in range(40)
    ]


def test_a_verifiers_own_drafts_have_luck_and_acceptance_of_their_own() -> None:
    workload = Workload(acceptance=Acceptance(mean=0.0), own_acceptance=Acceptance(mean=1.0))
    device, own = Texts(workload, Streams(3), {}, own=True).text(1).guesses
    assert (device.run(0, 9), own.run(0, 9)) == (0, 9)
    alone = Texts(workload, Streams(3), {}, own=False).text(1).guesses
    assert alone[0] is alone[1]


def test_recorded_texts_are_taken_in_turn() -> None:
    workload = Workload(acceptance=Acceptance(trace="live"))
    texts = Texts(workload, Streams(1), {"live": [Recording("10"), Recording("1110")]}, own=False)
    assert [texts.text(number).guesses[0].run(0, 9) for number in range(3)] == [1, 3, 1]
