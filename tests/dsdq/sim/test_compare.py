"""Variants of a scenario, held against the first of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.compare import compare, variants
from dsdq.sim.runners import here
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.variations import assigned, varied
from tests.dsdq.sim.small import SMALL


def load(settings: Sequence[str]) -> Scenario:
    return varied(SMALL, assigned("--set", settings)).scenario


def test_a_longer_round_trip_is_told_apart_and_the_same_policy_said_again_is_not() -> None:
    texts = ["asis=", "far=devices.*.link.rtt_ms=60,window.policy=static:3", "same=window.policy=static:3"]
    found = compare(here, SMALL, variants(load, texts), 3)
    assert list(found["ways"]) == ["asis", "far", "same"]
    assert found["ways"]["far"]["set"] == {"devices.*.link.rtt_ms": "60", "window.policy": "static:3"}
    assert found["base"] == "asis"
    far, same = found["differences"]["far"], found["differences"]["same"]
    assert far["tpot_ms"]["told_apart"]
    assert far["tpot_ms"]["interval"][0] > 0
    assert far["tpot_ms"]["ratio"] > 1.5
    assert not any(one["told_apart"] for one in same.values())


def test_one_seed_is_not_enough() -> None:
    with pytest.raises(ConfigError, match="--seeds: expected at least 2"):
        compare(here, SMALL, variants(load, ["a=", "b="]), 1)


@pytest.mark.parametrize(
    "texts", [[], ["a="], ["a=", "a=duration_s=2"], ["a=", "=duration_s=2"], ["a=", "b=seed"], ["a=", "b=seed=2"]]
)
def test_what_are_no_variants_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="--variant"):
        variants(load, texts)
