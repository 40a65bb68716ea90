"""Small worlds for tests: one verifier without anything that is not said, and what is asked of a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dsdq.sim.record import Record
from dsdq.sim.run import simulate
from dsdq.sim.scenario import Scenario

PLAIN: dict[str, Any] = {
    "name": "plain",
    "duration_s": 1.0,
    "devices": {"phone": {"count": 1, "draft_ms": 3.0, "link": {"rtt_ms": 0.0}}},
    "verifiers": {"step_ms": 20.0, "position_ms": 0.0},
    "workloads": {"default": {"prompt": {"mean": 1}, "output": {"mean": 100}}},
    "broker": {"latency_ms": 0.0, "pushed": True},
    "window": {"policy": "static:4", "steered": False},
    "batching": {"lingers": False},
}


def scenario_of(**changes: Any) -> Scenario:
    """Return the plain world with changes; ``devices`` changes its only class, ``workload`` its only workload."""
    document = PLAIN | {name: value for name, value in changes.items() if name not in _INNER}
    for name, inner in _INNER.items():
        outer = next(iter(inner))
        document[outer] = {inner[outer]: PLAIN[outer][inner[outer]] | changes.get(name, {})}
    for name in ("verifiers", "window", "broker", "batching"):
        document[name] = PLAIN[name] | changes.get(name, {})
    return Scenario.model_validate(document)


_INNER: Mapping[str, Mapping[str, str]] = {"phone": {"devices": "phone"}, "workload": {"workloads": "default"}}


def record_of(**changes: Any) -> Record:
    """Return what happens in the plain world with some changes."""
    return simulate(scenario_of(**changes))


def tokens_per_round(record: Record) -> float:
    """Return the mean over all rounds."""
    return sum(one.committed for one in record.requests) / sum(one.rounds for one in record.requests)


def tpot_ms(record: Record) -> float:
    """Return the time of a token behind the first of its text, over all texts."""
    took_ms = sum(one.ended_ms - one.first_ms for one in record.requests)
    return took_ms / sum(one.committed - 1 for one in record.requests)


def enough_targets(draft_ms: float, pass_ms: float, lookahead: int) -> int:
    """Return how many targets let no draft wait: one for the next token, and as many as have begun within a pass.

    A pass begins every ``lookahead`` drafts; the last one of a text may begin a single draft behind the one before.
    """
    return 2 + math.ceil(max(pass_ms - draft_ms, 0.0) / (lookahead * draft_ms))
