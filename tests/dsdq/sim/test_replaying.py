"""Live texts as traces: what they show is kept, what they do not show is likely."""

from __future__ import annotations

import pytest

from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.replaying import arrivals_of, recordings_of
from tests.dsdq.sim.test_learning import text


def test_requests_are_told_in_the_order_in_which_they_came_from_the_first_on() -> None:
    early = text("aac", "t").model_copy(update={"began_s": 100.0, "device": 7})
    late = text("aac").model_copy(update={"began_s": 102.5, "device": 4, "prompt": 9})
    found = [(one.at_s, one.device, one.prompt, one.output) for one in arrivals_of([late, early])]
    assert found == [(0.0, 1, 3, 4), (2.5, 0, 9, 3)]


def test_guesses_that_met_the_target_are_what_they_were() -> None:
    found = recordings_of([text("aac", "ac"), text("c")], Mode.SPECULATE)
    assert [one.right for one in found] == ["11010", "0"]


def test_what_is_not_known_between_them_is_as_likely_right_as_what_is_and_the_same_each_time() -> None:
    texts = [text(*(["ab"] * 500), "c"), text(*(["b"] * 1000), *(["c"] * 500))]
    found = recordings_of(texts, Mode.SPECULATE)
    assert found == recordings_of(texts, Mode.SPECULATE)
    first, second = (one.right for one in found)
    assert set(first[0:1000:2]) == {"1"}
    assert first[1:1000:2].count("1") / 500 == pytest.approx(500 / 1001, abs=0.07)
    assert second[:1000].count("1") / 1000 == pytest.approx(500 / 1001, abs=0.05)
    assert second[1000:] == "0" * 500


def test_texts_that_nobody_drafted_show_nothing() -> None:
    with pytest.raises(ConfigError, match="expected drafts of the mode speculate that met the target, got none"):
        recordings_of([text("tt", mode=Mode.TARGET_ONLY)], Mode.SPECULATE)
