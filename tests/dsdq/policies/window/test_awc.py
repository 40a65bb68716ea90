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
from dsdq.policies.window.exploring import Explorer
from dsdq.policies.window.network import Network, shapes
from dsdq.policies.window.rates import Speeds
from dsdq.policies.window.ways import ALONE, BASIS, CORRECTIONS, DRAFTED, FEATURES, OWN, WAYS, encode

ALL = frozenset(Mode)
OFFER = Offer(max_window=32, max_depth=4, modes=ALL)


def says(corrections: dict[str, float]) -> Network:
    """A network that corrects the formulas by these, whatever it sees."""
    names = len(FEATURES), 4, len(CORRECTIONS)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes(*names).items()}
    weights["scale"][:] = 1
    for name, correction in corrections.items():
        weights["out.bias"][CORRECTIONS.index(name)] = correction
    return Network.checked(weights, len(FEATURES), len(CORRECTIONS))


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
        (ALL, Choice(2, 1, Mode.COLOCATED, 16)),
        ({Mode.SPECULATE, Mode.TARGET_ONLY}, Choice(0, 1, Mode.TARGET_ONLY, 16)),
        ({Mode.SPECULATE}, Choice(8)),
        ({Mode.TARGET_ONLY}, Choice(0, 1, Mode.TARGET_ONLY, 16)),
    ],
)
def test_it_begins_with_a_stream_if_one_is_on_offer(modes: frozenset[Mode], first: Choice) -> None:
    assert awc.Awc(says({}), replace(OFFER, modes=frozenset(modes))).choose() == first


def test_it_shows_itself_two_windows_of_the_verifiers_drafter() -> None:
    policy = awc.Awc(says({"alone": -9, "drafting": -9}), OFFER)
    windows = [policy.choose().window]
    policy.observe(streamed(Mode.COLOCATED, 0))
    windows.append(policy.choose().window)
    assert windows == [2, 6]


@pytest.mark.parametrize(
    ("correction", "mode"), [("drafting", Mode.SPECULATE), ("alone", Mode.TARGET_ONLY), ("own", Mode.COLOCATED)]
)
def test_it_takes_the_way_of_which_most_is_foretold(correction: str, mode: Mode) -> None:
    assert after_its_beginning(awc.Awc(says({correction: 5.0}), OFFER), Mode.COLOCATED).mode is mode


def test_it_takes_the_window_and_the_depth_that_corrections_favour() -> None:
    drafting = {"drafting": 9.0, "in flight": 5.0}
    wide = after_its_beginning(awc.Awc(says(drafting | {"drafting, by window": 5.0}), OFFER), Mode.COLOCATED)
    narrow = after_its_beginning(awc.Awc(says(drafting | {"drafting, by window": -5.0}), OFFER), Mode.COLOCATED)
    deep = after_its_beginning(awc.Awc(says(drafting | {"in flight, by depth": 5.0}), OFFER), Mode.COLOCATED)
    assert (wide.window, narrow.window, deep.depth) == (32, 1, 4)


def test_it_keeps_to_what_is_on_offer() -> None:
    """Of ways foretold to be better the wider and the deeper they are."""
    eager = says({"drafting": 9.0, "drafting, by window": 5.0, "in flight": 5.0, "in flight, by depth": 5.0})
    narrow = awc.Awc(eager, Offer(max_window=9, max_depth=2, modes=frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})))
    assert after_its_beginning(narrow, Mode.TARGET_ONLY) == Choice(8, 2)
    narrow.observe(streamed(Mode.TARGET_ONLY, 30, max_window=3))
    assert narrow.choose() == Choice(3, 2)


@pytest.mark.parametrize("policy", ["awc", "optimal"])
def test_where_passes_are_shared_the_verifier_drafts_as_far_as_pays_for_all(policy: str) -> None:
    """It is asked for the widest window, never for none: a pass lasts as long for those that want no draft."""
    crowd = {"drafted": 1, "accepted": 0, "committed": 1, "batch_rows": 20}
    offer = replace(OFFER, modes=frozenset({Mode.TARGET_ONLY, Mode.COLOCATED}))
    shared, alone = load_policy(policy, offer), load_policy(policy, offer)
    for number in range(60):
        seen = replace(streamed(Mode.COLOCATED, number), **crowd)
        shared.observe(seen)
        alone.observe(replace(seen, batch_rows=1))
    assert (shared.choose().mode, shared.choose().window >= 16) == (Mode.COLOCATED, True)
    assert alone.choose().window < 4


@pytest.mark.parametrize("policy", ["awc", "optimal"])
def test_what_the_verifier_drafts_for_all_is_worth_what_it_comes_to(policy: str) -> None:
    """As long as it drafts one token of a pass at most, it is worth no more than that; never less than none."""
    found = {}
    for drafted in (0, 1, 4):
        offer = replace(OFFER, modes=frozenset({Mode.TARGET_ONLY, Mode.COLOCATED}))
        tried = awc.Awc(says({}), offer) if policy == "awc" else load_policy(policy, offer)
        assert isinstance(tried, Explorer)
        for number in range(60):
            own = {"drafted": drafted, "accepted": drafted, "committed": drafted + 1, "wanted": 16, "batch_rows": 20}
            tried.observe(replace(streamed(Mode.COLOCATED, number), **own))
        found[drafted] = tried.plans()[Mode.COLOCATED].rate
    assert found[0] < found[1] < found[4] / 1.5
    assert found[0] > 0.75 * 1000 / 20


@pytest.mark.parametrize("policy", ["awc", "optimal"])
def test_a_verifier_that_does_not_draft_decides_nothing_whatever_another_did(policy: str) -> None:
    before = load_policy(policy, OFFER)
    for number in range(20):
        before.observe(streamed(Mode.COLOCATED, number, batch_rows=20))
    alone = load_policy(policy, replace(OFFER, modes=frozenset({Mode.TARGET_ONLY})))
    assert isinstance(alone, Explorer)
    alone.go_on_from(before)
    assert alone.choose().mode is Mode.TARGET_ONLY


def test_corrections_are_of_those_ways_that_they_name() -> None:
    touched = {
        name: {WAYS[way].mode for way in np.flatnonzero(BASIS[:, place])} for place, name in enumerate(CORRECTIONS)
    }
    assert {name for name, modes in touched.items() if modes == {Mode.COLOCATED}} == set(CORRECTIONS[-3:])
    assert touched["alone"] == {Mode.TARGET_ONLY}
    assert {WAYS[way].depth for way in np.flatnonzero(BASIS[:, CORRECTIONS.index("in flight")])} == {2, 3, 4}
    assert all(BASIS[way].any() for way in range(len(WAYS)))
    assert not BASIS[:DRAFTED, CORRECTIONS.index("alone")].any()
    assert BASIS[ALONE].sum() == 1
    assert BASIS[OWN:, CORRECTIONS.index("own")].all()


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
    assert gaps["awc"]["all"]["mean"] <= 0.05
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
