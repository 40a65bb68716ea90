from __future__ import annotations

import pytest

from dsdq.errors import ConfigError
from dsdq.policies.window import DEFAULT_POLICY, Choice, Mode, Offer, Static, Streaming, load_policy
from dsdq.policies.window.optimal import Optimal
from dsdq.policies.window.simple import Backoff, Threshold

OFFER = Offer(max_window=8, max_depth=2, modes=frozenset(Mode))


def test_policies_are_named_with_their_parameters() -> None:
    assert load_policy("static:6:2", OFFER) == Static(6, 2)
    assert load_policy("static", OFFER) == Static(4)
    assert load_policy("threshold:0.25", OFFER) == Threshold(0.25, 8)
    assert isinstance(load_policy("backoff:2", OFFER), Backoff)
    assert load_policy("target-only", OFFER).choose() == Choice(0, 1, Mode.TARGET_ONLY, 1024)
    assert load_policy("co-located:3", OFFER).choose() == Choice(3, 1, Mode.COLOCATED, 1024)
    assert load_policy("co-located", OFFER) == Streaming(Mode.COLOCATED, 8)
    assert isinstance(load_policy(DEFAULT_POLICY, OFFER), Optimal)


def test_a_depth_that_is_not_on_offer_is_lowered() -> None:
    assert load_policy("static:4:8", OFFER).choose() == Choice(4, 2)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "expected one of static"),
        ("greedy", "expected one of static"),
        ("static:0", "WINDOW of 1 to 8, got '0'"),
        ("static:9", "WINDOW of 1 to 8, got '9'"),
        ("static:²", "WINDOW of 1 to 8"),
        ("static:4:9", "DEPTH of 1 to 8, got '9'"),
        ("static:4:1:1", r"expected static\[:WINDOW\[:DEPTH\]\], got 'static:4:1:1'"),
        ("threshold:much", "CONFIDENCE of 0 to 1, got 'much'"),
        ("threshold:nan", "CONFIDENCE of 0 to 1, got 'nan'"),
        ("backoff:x", "DEPTH of 1 to 8, got 'x'"),
        ("optimal:1", "expected optimal, got 'optimal:1'"),
        ("target-only:4", "expected target-only, got 'target-only:4'"),
        ("co-located:9", "WINDOW of 1 to 8, got '9'"),
        ("awc:never", "variant of paper, got 'never'"),
        ("awc:paper:never", "fused mode of target-only or co-located, got 'never'"),
    ],
)
def test_what_is_not_a_policy_is_refused_with_what_was_expected(spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_policy(spec, OFFER)


@pytest.mark.parametrize(("window", "depth"), [(0, 1), (65, 1), (4, 0), (4, 9)])
def test_an_offer_has_bounds(window: int, depth: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to"):
        Offer(window, depth)


def test_an_offer_has_a_mode() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Offer(4, modes=frozenset())


def test_a_mode_that_is_not_on_offer_is_refused() -> None:
    offer = Offer(8, modes=frozenset({Mode.SPECULATE, Mode.TARGET_ONLY}))
    with pytest.raises(ConfigError, match="--colocated-draft"):
        load_policy("co-located", offer)
