"""One seed, one outcome, wherever it is played; and what is compared is compared on the same luck."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import blake2b
from typing import Any

import pytest

from dsdq.sim.record import FINISHED, LEFT, Request, digesting
from dsdq.sim.run import simulate
from dsdq.sim.scenario import Scenario
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Texts

BUSY: dict[str, Any] = {
    "name": "busy",
    "duration_s": 1.5,
    "devices": {
        "phone": {
            "count": 12,
            "link": {"rtt_ms": 30, "jitter_ms": 10, "loss": 0.05, "reorder": 0.1, "drops_per_hour": 600, "drop_s": 0.5},
            "arrivals": {"per_s": 8.0},
            "leave": 0.1,
        },
        "laptop": {"count": 3, "draft_ms": 4, "arrivals": {"per_device_per_s": 1.0}, "tenant": "other"},
    },
    "verifiers": {"count": 3, "slots": 4, "kv_tokens": 2048, "draft": {}, "failures_per_hour": 1200, "return_s": 1.0},
    "workloads": {"default": {"output": {"mean": 40, "variation": 0.5}, "acceptance": {"telling": 0.5}}},
    "tenants": {"default": {}, "other": {"weight": 2}},
    "broker": {"loss": 0.05},
}
TOLD = """
import json, sys
from hashlib import blake2b
from dsdq.sim.record import digesting
from dsdq.sim.run import simulate
from dsdq.sim.scenario import Scenario
digest = blake2b()
simulate(Scenario.model_validate(json.load(sys.stdin)), log=digesting(digest.update))
print(digest.hexdigest())
"""


def digest_of(**changes: Any) -> str:
    digest = blake2b()
    simulate(Scenario.model_validate(BUSY | changes), log=digesting(digest.update))
    return digest.hexdigest()


def requests_of(**changes: Any) -> list[Request]:
    return simulate(Scenario.model_validate(BUSY | changes)).requests


def test_a_seed_has_one_event_log_in_any_process() -> None:
    """Whatever order sets have there: ``PYTHONHASHSEED`` decides that."""
    here = digest_of()
    assert digest_of() == here
    document = Scenario.model_validate(BUSY).model_dump_json(exclude_defaults=True)
    environments = [dict(os.environ) | {"PYTHONHASHSEED": seed} for seed in ("0", "1", "4242")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOLD], env=one, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for one in environments
    ]
    told = [process.communicate(document)[0].strip() for process in processes]
    assert told == [here] * 3


def test_each_seed_has_a_log_of_its_own() -> None:
    assert len({digest_of(seed=seed) for seed in range(1, 4)}) == 3


@pytest.mark.parametrize("way", ["target-only", "co-located", "dsi"])
def test_every_way_to_work_is_reproducible(way: str) -> None:
    verifiers = BUSY["verifiers"] | {"count": 4, "failures_per_hour": 0}
    changes = {"way": way, "verifiers": verifiers, "parallel": {"targets": 2}, "broker": {}}
    assert digest_of(**changes) == digest_of(**changes)


@pytest.mark.parametrize("policy", ["static:4", "static:8:3", "backoff", "target-only"])
def test_policies_meet_the_same_arrivals_and_texts(policy: str) -> None:
    first, other = requests_of(), requests_of(window={"policy": policy})
    assert [(one.devices, one.device, one.arrival_ms, one.prompt, one.output) for one in first] == [
        (one.devices, one.device, one.arrival_ms, one.prompt, one.output) for one in other
    ]


@pytest.mark.parametrize("policy", ["static:4", "target-only"])
def test_devices_that_ask_again_ask_for_the_same_texts_in_turn(policy: str) -> None:
    """However long their texts take, and whoever asks first."""
    devices = {"phone": {"count": 5, "arrivals": {"think_s": 0.2}, "link": {"jitter_ms": 5}}}

    def _texts(**changes: Any) -> dict[int, list[tuple[int, int]]]:
        asked: dict[int, list[tuple[int, int]]] = {}
        for one in requests_of(devices=devices, duration_s=6.0, verifiers={"count": 2}, broker={}, **changes):
            asked.setdefault(one.device, []).append((one.prompt, one.output))
        return asked

    first, other = _texts(), _texts(window={"policy": policy})
    for device, texts in first.items():
        both = min(len(texts), len(other[device]))
        assert both >= 2
        assert texts[:both] == other[device][:both]


def test_who_leaves_leaves_whatever_the_policy_is() -> None:
    """As all luck of a device it goes by the text, not by how many requests of others came before."""
    devices = {"phone": {"count": 4, "arrivals": {"think_s": 0.0}, "leave": 0.5}}

    def _outcomes(policy: str) -> dict[int, list[str]]:
        outcomes: dict[int, list[str]] = {}
        for one in requests_of(devices=devices, duration_s=8.0, verifiers={}, broker={}, window={"policy": policy}):
            outcomes.setdefault(one.device, []).append(one.outcome)
        return outcomes

    first, other = _outcomes("static:2"), _outcomes("target-only")
    pairs = [pair for device, ended in first.items() for pair in zip(ended, other[device], strict=False)]
    assert len(pairs) > 12
    assert {one for one, _ in pairs} == {FINISHED, LEFT}
    assert all(one == another for one, another in pairs)


def test_guesses_are_right_or_wrong_by_their_place_alone() -> None:
    """Whatever the windows are that they come in."""
    scenario = Scenario.model_validate(BUSY)
    texts = Texts(scenario.workloads["default"], Streams(1).of("phone"), {}, own=True)
    guesses, again = texts.text(7).guesses[0], texts.text(7).guesses[0]
    one_by_one = [guesses.run(place, 1) for place in range(60)]
    for base in range(60):
        run = again.run(base, 16)
        assert one_by_one[base : base + run] == [1] * len(one_by_one[base : base + run])
        assert base + run >= 60 or run == 16 or not one_by_one[base + run]


def test_the_order_in_which_classes_are_listed_does_not_matter() -> None:
    turned = dict(reversed(BUSY["devices"].items()))
    ends = [
        sorted((one.devices, one.device, one.arrival_ms, one.ended_ms, one.outcome) for one in requests)
        for requests in (requests_of(), requests_of(devices=turned))
    ]
    assert ends[0] == ends[1]


def test_accounts_that_nobody_goes_by_change_nothing() -> None:
    """A second tenant has its verifiers keep account; that nobody asks for anything in its name, nobody notices."""
    alone = {"tenants": {"default": {}}, "devices": {"phone": BUSY["devices"]["phone"]}}
    plain = {"batching": {"lingers": False}, "window": {"policy": "static:4", "steered": False, "max_depth": 1}}
    verifiers = {"verifiers": BUSY["verifiers"] | {"draft": None}}
    both = alone | {"tenants": {"default": {}, "nobody": {}}}
    assert digest_of(**alone | plain | verifiers) == digest_of(**both | plain | verifiers)
