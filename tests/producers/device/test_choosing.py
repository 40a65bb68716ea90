"""What a generation that says little about its drafts gets, and what one that says it all does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsdq.bus.registry import WorkerInfo
from dsdq.contract import Rule
from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from producers.device.choosing import DEEPEST, WIDEST, Choosing
from producers.drafters.none import NoDrafter

ALONE = WorkerInfo("w1", "org/model", "r", "f", "org/model", "float32", 100, 2048, 64, 8)
DRAFTS = replace(ALONE, drafts=True)


@pytest.mark.parametrize(
    ("policy", "window", "depth", "rule", "name", "bounds"),
    [
        (None, None, None, Rule.COUPLED, "optimal", (WIDEST, DEEPEST)),
        (None, 6, None, Rule.COUPLED, "static:6:1", (6, 1)),
        (None, None, 3, Rule.COUPLED, "static:8:3", (8, 3)),
        ("backoff", None, None, Rule.COUPLED, "backoff", (WIDEST, DEEPEST)),
        ("optimal", 5, 2, Rule.COUPLED, "optimal", (5, 2)),
        (None, None, None, Rule.REJECTION, "static:8:1", (8, 1)),
        ("optimal", None, 3, Rule.REJECTION, "optimal", (WIDEST, 1)),
    ],
)
def test_what_is_not_said_is_chosen_by_what_is_measured(
    policy: str | None, window: int | None, depth: int | None, rule: Rule, name: str, bounds: tuple[int, int]
) -> None:
    chosen = Choosing.of(policy, window, depth, rule)
    assert (chosen.name, (chosen.max_window, chosen.max_depth)) == (name, bounds)


@pytest.mark.parametrize("draft", ["none", NoDrafter()])
def test_a_device_without_a_drafter_has_the_target_decode_from_the_first_token_on(draft: str | NoDrafter) -> None:
    chosen = Choosing.of(None, None, None, Rule.COUPLED)
    alone, drafted = (chosen.policy(worker, [draft]).choose() for worker in (ALONE, DRAFTS))
    assert (alone.mode, drafted.mode) == (Mode.TARGET_ONLY, Mode.COLOCATED)
    assert min(alone.budget, drafted.budget) >= 32


def test_a_verifier_drafts_under_the_coupled_rule_only() -> None:
    assert Choosing.of("co-located", None, None, Rule.COUPLED).policy(DRAFTS, ["ngram"]).choose().mode is Mode.COLOCATED
    with pytest.raises(ConfigError, match="expected a mode that is on offer here"):
        Choosing.of("co-located", None, None, Rule.REJECTION).policy(DRAFTS, ["ngram"])


def test_bounds_are_checked() -> None:
    with pytest.raises(ConfigError, match="max_depth: expected 1 to 8, got 9"):
        Choosing.of(None, None, 9, Rule.COUPLED).policy(ALONE, ["ngram"])
    with pytest.raises(ConfigError, match="max_window: expected 1 to 64, got 0"):
        Choosing.of(None, 0, None, Rule.COUPLED).policy(ALONE, ["ngram"])
