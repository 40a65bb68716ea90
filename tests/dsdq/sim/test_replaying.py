"""Live texts as traces: what they show is kept, what they do not show is likely."""

from __future__ import annotations

import pytest

from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.observed import Observed
from dsdq.sim.replaying import arrivals_of, recordings_of
from tests.dsdq.sim.test_learning import text


def begun(one: Observed, at_s: float, device: int = 0) -> Observed:
    return one.model_copy(update={"began_s": at_s, "device": device})


def shown(*texts: Observed) -> list[str]:
    """Return as much of each recording as the text has tokens."""
    return [one.right[: text.tokens] for one, text in zip(recordings_of(texts, Mode.SPECULATE), texts, strict=True)]


def test_requests_are_told_in_the_order_in_which_they_came_from_the_first_on() -> None:
    early, late = begun(text("aac", "t"), 100.0, device=7), begun(text("aac"), 102.5, device=4)
    found = [(one.at_s, one.device, one.output) for one in arrivals_of([late, early])]
    assert found == [(0.0, 0, 4), (2.5, 1, 3)]


def test_texts_at_the_same_time_are_of_several_devices() -> None:
    took_s = text("aac", "c").answers[-1].at_ms / 1000
    texts = [begun(text("aac", "c"), at_s * took_s) for at_s in (0.0, 0.5, 1.0, 1.6, 9.0)]
    assert [one.device for one in arrivals_of(texts)] == [0, 1, 0, 1, 0]


def test_guesses_that_met_the_target_are_what_they_were() -> None:
    assert shown(text("aac", "ac"), text("c")) == ["11010", "0"]


def test_a_request_finds_its_guesses() -> None:
    """Those that ended first are first in a trace; one that nobody drafted has guesses too."""
    late, early = begun(text("ccc"), 5.0), begun(text("aaac"), 0.0)
    unknown = begun(text("tttt"), 2.0)
    found = recordings_of([late, unknown, early], Mode.SPECULATE)
    assert (found[0].right[:4], found[2].right[:3]) == ("1110", "000")
    assert len(found) == len(arrivals_of([late, unknown, early])) == 3


def test_what_one_run_of_a_text_shows_goes_for_all() -> None:
    one, other = text("aacaac", number=4), text("tttttt", number=4)
    assert shown(one, other) == ["110110", "110110"]


def test_what_is_not_known_is_as_likely_right_as_what_is_and_the_same_each_time() -> None:
    texts = [text(*(["ab"] * 500), "c"), text("c" * 499, "t" * 1000)]
    assert shown(*texts) == shown(*texts)
    first, second = shown(*texts)
    assert set(first[0:1000:2]) == {"1"}
    assert first[1:1000:2].count("1") / 500 == pytest.approx(0.5, abs=0.07)
    assert second[:499] == "0" * 499
    assert second[499:].count("1") / 1000 == pytest.approx(0.5, abs=0.05)


def test_texts_that_nobody_drafted_show_nothing() -> None:
    with pytest.raises(ConfigError, match="expected drafts of the mode speculate that met the target, got none"):
        recordings_of([text("tt", mode=Mode.TARGET_ONLY)], Mode.SPECULATE)


def test_a_text_that_no_trace_may_say_is_told() -> None:
    with pytest.raises(ConfigError, match="trace: prompt: expected a number <= 200000, got 300000"):
        arrivals_of([text("c").model_copy(update={"prompt": 300_000})])
