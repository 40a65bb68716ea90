"""Small scenarios of any kind: tenants, ways, links that break, verifiers that die, messages that get lost."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from dsdq.sim.scenario import Scenario

POLICIES = (
    "static:1",
    "static:4",
    "static:8:2",
    "static:3:4",
    "static:32:4",
    "threshold:0.5",
    "threshold:0.8:3",
    "backoff",
    "backoff:3",
    "optimal",
    "target-only",
)
SHARES = st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0])


def _lengths(longest: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.sampled_from([{"mean": 1}, {"mean": 2}, {"mean": longest}]),
        st.just({"mean": longest / 3, "variation": 1.0, "most": longest}),
    )


_acceptance = st.one_of(
    st.fixed_dictionaries(
        {"mean": SHARES},
        optional={"first": SHARES, "between": st.sampled_from([0.1, 0.4]), "telling": st.sampled_from([0.5, 1.0])},
    ),
    st.fixed_dictionaries({"by_place": st.lists(SHARES, min_size=1, max_size=3)}),
)
_workload = st.fixed_dictionaries(
    {
        "prompt": _lengths(200),
        "output": _lengths(40),
        "acceptance": _acceptance,
        "known_length": st.booleans(),
    },
    optional={"own_acceptance": _acceptance},
)
_round_trip = st.sampled_from([{"rtt_ms": 0.0}, {"rtt_ms": 10.0}, {"rtt_ms": 100.0}, {"trace": ((0, 5), (0.5, 80))}])
_beside = st.fixed_dictionaries(
    {},
    optional={
        "up_share": st.sampled_from([0.0, 0.3, 1.0]),
        "jitter_ms": st.just(5.0),
        "up_kbps": st.just(100.0),
        "down_kbps": st.just(50.0),
        "loss": st.just(0.2),
        "reorder": st.just(0.4),
        "drops_per_hour": st.just(1800.0),
        "drop_s": st.just(0.3),
    },
)
_link = st.tuples(_round_trip, _beside).map(lambda parts: parts[0] | parts[1])
_arrivals = st.sampled_from([{"per_s": 8.0}, {"per_device_per_s": 2.0}, {"think_s": 0.0}, {"think_s": 0.2}])
_devices = st.fixed_dictionaries(
    {
        "count": st.integers(1, 4),
        "draft_ms": st.sampled_from([0.0, 3.0, 40.0]),
        "link": _link,
        "tenant": st.sampled_from(["default", "other"]),
        "workload": st.sampled_from(["default", "other"]),
        "arrivals": _arrivals,
    },
    optional={
        "prompt_ms": st.just(1.0),
        "leave": st.sampled_from([0.3, 1.0]),
        "open_timeout_ms": st.sampled_from([20.0, 500.0]),
    },
)
_verifiers = st.fixed_dictionaries(
    {
        "count": st.integers(1, 3),
        "step_ms": st.sampled_from([5.0, 30.0]),
        "slots": st.sampled_from([1, 2, 64]),
        "place_wait_ms": st.sampled_from([0.0, 100.0, 10_000.0]),
        "kv_tokens": st.sampled_from([64, 256, 320, 1024, 1 << 20]),
        "step_tokens": st.sampled_from([1, 16, 2048]),
        "prefill_tokens": st.sampled_from([1, 7, 64, 512]),
        "draft": st.sampled_from([None, {"step_ms": 1.0}, {"step_ms": 0.0, "position_ms": 2.0}]),
    },
    optional={
        "row_ms": st.just(1.0),
        "position_ms": st.sampled_from([0.0, 2.0]),
        "context_ms_per_1k": st.just(3.0),
        "failures_per_hour": st.sampled_from([1800.0, 7200.0]),
        "lease_ms": st.sampled_from([50.0, 3000.0]),
        "return_s": st.sampled_from([0.05, 1.0]),
        "heartbeat_ms": st.just(100.0),
    },
)
_world = st.fixed_dictionaries(
    {
        "name": st.just("any"),
        "seed": st.integers(0, 1000),
        "duration_s": st.sampled_from([0.2, 1.5]),
        "devices": st.dictionaries(st.sampled_from(["phone", "laptop"]), _devices, min_size=1),
        "verifiers": _verifiers,
        "workloads": st.fixed_dictionaries({"default": _workload, "other": _workload}),
        "tenants": st.just({"default": {}, "other": {"weight": 2.0}}),
        "broker": st.fixed_dictionaries(
            {"latency_ms": st.sampled_from([0.0, 0.5])},
            optional={"loss": st.sampled_from([0.1, 0.5]), "inbox_bound": st.sampled_from([2, 3])},
        ),
        "window": st.fixed_dictionaries(
            {
                "policy": st.sampled_from(POLICIES),
                "max_window": st.sampled_from([1, 4, 32]),
                "max_depth": st.integers(1, 4),
                "steered": st.booleans(),
            }
        ),
        "routing": st.sampled_from([{"policy": name} for name in ("power-of-two", "jsq", "round-robin", "random")]),
        "batching": st.fixed_dictionaries({"order": st.sampled_from(["fifo", "length"]), "lingers": st.booleans()}),
    },
    optional={"warm_up_s": st.just(0.05), "cool_down_s": st.just(0.1)},
)


def _with_a_way(described: dict[str, Any], way: str) -> Scenario:
    """Return a valid scenario: ways that draft at the verifier have a drafter there, and nodes do not fail."""
    most, policy, verifiers = described["window"]["max_window"], described["window"]["policy"], described["verifiers"]
    if way in {"co-located", "dsi"} and verifiers["draft"] is None:
        way = "target-only"
    if way == "dsi":
        nodes = {"count": 2 * verifiers["count"], "failures_per_hour": 0.0}
        described = described | {"verifiers": verifiers | nodes, "parallel": {"targets": 2, "lookahead": most}}
        described["broker"] = described["broker"] | {"loss": 0.0}
    if policy.startswith("static") and int(policy.split(":")[1]) > most:
        described = described | {"window": described["window"] | {"policy": f"static:{most}:2"}}
    return Scenario.model_validate(described | {"way": way})


any_scenario: st.SearchStrategy[Scenario] = st.builds(
    _with_a_way,
    _world,
    st.sampled_from(["distributed", "distributed", "distributed", "target-only", "co-located", "dsi"]),
)
