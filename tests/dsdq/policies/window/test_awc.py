from __future__ import annotations

import json
import math
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from dsdq.policies.pipeline import World, simulate
from dsdq.policies.window import (
    Choice,
    Mode,
    Observation,
    Offer,
    Static,
    Streaming,
    WindowPolicy,
    awc,
    awc_paper,
    load_policy,
)
from dsdq.policies.window.network import Network, shapes
from dsdq.policies.window.rates import Speeds
from dsdq.policies.window.ways import ALONE, DRAFTED, FEATURES, OWN, WAYS, encode

ALL = frozenset(Mode)
OFFER = Offer(max_window=32, max_depth=4, modes=ALL)


def says(gains: dict[int, float]) -> Network:
    """A network that foretells no gain but these, whatever it sees."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes(len(FEATURES), 4, len(WAYS)).items()}
    weights["scale"][:], weights["out.bias"][:] = 1, -9
    for way, gain in gains.items():
        weights["out.bias"][way] = gain
    return Network.checked(weights, len(FEATURES), len(WAYS))


def streamed(mode: Mode, number: int, **seen: float) -> Observation:
    times = {"round_trip_ms": 30.0, "queue_ms": 0.0, "verify_ms": 20.0, "time_ms": 30.0 * number, "part": number}
    own = 4 if mode is Mode.COLOCATED else 0
    return Observation(own, own, 0.0, committed=own + 1, mode=mode, wanted=own, **(times | seen))


def after_its_beginning(policy: WindowPolicy, mode: Mode) -> Choice:
    for number in range(20):
        policy.observe(streamed(mode, number))
    return policy.choose()


@pytest.mark.parametrize(
    ("modes", "first"),
    [
        (ALL, Choice(4, 1, Mode.COLOCATED, 16)),
        ({Mode.SPECULATE, Mode.TARGET_ONLY}, Choice(0, 1, Mode.TARGET_ONLY, 16)),
        ({Mode.SPECULATE}, Choice(8)),
        ({Mode.TARGET_ONLY}, Choice(0, 1, Mode.TARGET_ONLY, 16)),
    ],
)
def test_it_begins_with_a_stream_if_one_is_on_offer(modes: frozenset[Mode], first: Choice) -> None:
    assert awc.Awc(says({}), replace(OFFER, modes=frozenset(modes))).choose() == first


@pytest.mark.parametrize("way", [0, DRAFTED - 1, ALONE, OWN, len(WAYS) - 1])
def test_it_takes_the_way_of_which_most_is_foretold(way: int) -> None:
    chosen = after_its_beginning(awc.Awc(says({way: 1.0}), OFFER), Mode.COLOCATED)
    assert (chosen.window, chosen.depth, chosen.mode) == (WAYS[way].window, WAYS[way].depth, WAYS[way].mode)


def test_it_keeps_to_what_is_on_offer() -> None:
    """Of ways foretold to be better the wider and the deeper they are."""
    eager = says({way: float(choice.window * choice.depth) for way, choice in enumerate(WAYS)})
    narrow = awc.Awc(eager, Offer(max_window=9, max_depth=2, modes=frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})))
    assert after_its_beginning(narrow, Mode.TARGET_ONLY) == Choice(8, 2)
    narrow.observe(streamed(Mode.TARGET_ONLY, 30, max_window=3))
    assert narrow.choose() == Choice(3, 2)


def test_features_are_shares_of_what_the_target_takes_alone() -> None:
    speeds = Speeds(0.8, 2.0, 40.0, 5.0, 20.0, 0.4, 1.0, 0.5)
    slower = Speeds(0.8, 6.0, 120.0, 15.0, 60.0, 1.2, 3.0, 0.5)
    own = (speeds, (0.9, 0.9))
    features = encode(speeds, own, 21.4, 2, 32)
    assert features == pytest.approx(encode(slower, (slower, own[1]), 64.2, 2, 32), rel=1e-6)
    assert features[:2] == pytest.approx([-math.log(0.2), -math.log(0.5)])
    assert encode(speeds, None, 21.4, 2, 32)[FEATURES.index("own_known") :].tolist() == [0, 0, 0, 0, 0]


# The network that is shipped


@pytest.mark.parametrize(("policy", "path"), [("awc", awc.WEIGHTS), ("awc:paper", awc_paper.WEIGHTS)])
def test_shipped_weights_are_those_of_the_card(policy: str, path: object) -> None:
    card = json.loads(awc.WEIGHTS.with_suffix(".json").read_text())
    content = path.read_bytes()  # type: ignore[attr-defined]
    assert card["policies"][policy] == {
        "file": path.name,  # type: ignore[attr-defined]
        "bytes": len(content),
        "sha256": sha256(content).hexdigest(),
    }
    assert len(content) < 1_000_000
    assert card["recipe"]["scenarios"] >= 2000
    assert card["features"] == list(FEATURES)


def test_the_card_tells_of_a_smaller_gap_than_that_of_optimal() -> None:
    gaps = json.loads(awc.WEIGHTS.with_suffix(".json").read_text())["gap_to_oracle"]
    assert gaps["awc"]["all"]["median"] <= 0.05
    assert gaps["awc"]["all"]["mean"] < gaps["optimal"]["all"]["mean"]
    assert gaps["awc"]["all"]["beats_optimal"] > 0


WORLDS = {
    "a near verifier": World(acceptance=0.8, draft_ms=1, rtt_ms=2, step_ms=30, position_ms=0.3),
    "a far verifier": World(acceptance=0.8, draft_ms=1, rtt_ms=150, step_ms=30, position_ms=0.3),
    "a poor drafter": World(acceptance=0.1, draft_ms=1, rtt_ms=30, step_ms=30, position_ms=0.3),
}
FIXED = [Streaming(Mode.TARGET_ONLY), *(Static(*way) for way in ((8, 1), (8, 2), (8, 3), (12, 3), (12, 4), (16, 4)))]


@pytest.mark.parametrize("world", WORLDS)
def test_it_finds_the_best_way_in_worlds_of_another_simulation(world: str) -> None:
    def rate(policy: WindowPolicy) -> float:
        rounds = simulate(policy, WORLDS[world], seed=2, tokens=1500).rounds
        return sum(one.committed for one in rounds) / rounds[-1].time_ms

    offer = Offer(32, 4, frozenset({Mode.SPECULATE, Mode.TARGET_ONLY}))
    assert rate(load_policy("awc", offer)) >= 0.95 * max(rate(one) for one in FIXED)
