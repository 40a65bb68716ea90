from __future__ import annotations

from dataclasses import replace

import pytest

from dsdq.telemetry.figures import Snapshot
from dsdq.telemetry.overview import Overview, Rates, Trail

FIRST = Snapshot(
    worker="w1",
    model="m",
    uptime_s=10.0,
    slots=8,
    running=3,
    waiting=1,
    kv_blocks=10,
    kv_held=5,
    generated=100,
    drafted=80,
    accepted=60,
    steps=20,
    rows=40,
    takeovers=2,
    refusals={"quota": 1},
    tenants={"acme": 70, "globex": 30},
    tenant_sessions={"acme": 2, "globex": 1},
)
LATER = replace(
    FIRST,
    uptime_s=12.0,
    generated=160,
    drafted=120,
    accepted=90,
    steps=30,
    rows=80,
    tenants={"acme": 110, "globex": 50},
    age_s=0.5,
)
OTHER = replace(FIRST, worker="w2", uptime_s=500.0)
OTHER_LATER = replace(OTHER, uptime_s=501.0, generated=110, steps=22, rows=42, tenants={"acme": 80, "globex": 30})


def test_rates_are_what_came_in_a_verifiers_own_time() -> None:
    overview = Overview.between([FIRST, OTHER], [LATER, OTHER_LATER])
    one, other = overview.workers
    assert one.rates == Rates(tokens_per_s=30.0, steps_per_s=5.0, acceptance=0.75, rows_per_step=4.0)
    assert other.rates == Rates(tokens_per_s=10.0, steps_per_s=2.0, acceptance=None, rows_per_step=1.0)
    assert overview.rates == Rates(tokens_per_s=40.0, steps_per_s=7.0, acceptance=0.75, rows_per_step=42 / 12)
    assert (one.sessions, one.slots, one.waiting, one.kv_usage, one.age_s) == (3, 8, 1, 0.5, 0.5)
    assert (overview.verifiers, overview.sessions, overview.waiting, overview.takeovers) == (2, 6, 2, 4)
    assert overview.refusals == (("quota", 2),)


def test_tenants_are_added_up_over_verifiers_the_fastest_first() -> None:
    overview = Overview.between([FIRST, OTHER], [LATER, OTHER_LATER])
    assert [(one.tenant, one.sessions, one.tokens_per_s) for one in overview.tenants] == [
        ("acme", 4, 30.0),
        ("globex", 2, 10.0),
    ]


def test_a_verifier_that_came_has_no_rates_yet_and_one_that_left_is_not_there() -> None:
    came = Overview.between([FIRST], [LATER, OTHER])
    assert came.workers[1].rates == Rates()
    assert came.rates.tokens_per_s == 30.0
    assert came.sessions == 6
    left = Overview.between([FIRST, OTHER], [LATER], silent=["w3"])
    assert [one.worker for one in left.workers] == ["w1"]
    assert left.rates.tokens_per_s == 30.0
    assert left.verifiers == 2


def test_nothing_is_made_of_a_snapshot_that_was_read_twice() -> None:
    assert Overview.between([FIRST], [FIRST]).rates == Rates()
    assert Overview.between([], []) == Overview()


def test_a_trail_keeps_the_last_two_snapshots_that_differ() -> None:
    trail = Trail()
    assert trail.add([FIRST]).rates == Rates()
    assert not trail.complete
    for _ in range(2):
        assert trail.add([LATER]).rates.tokens_per_s == 30.0
    assert trail.complete
    assert trail.add([LATER, OTHER]).workers[1].rates == Rates()
    assert trail.add([OTHER_LATER]).rates.tokens_per_s == 10.0
    assert trail.add([FIRST]).rates == Rates()  # it had gone: nothing is kept of it


def test_a_tenant_is_shown_itself_and_no_other() -> None:
    overview = Overview.between([FIRST, OTHER], [LATER, OTHER_LATER], silent=["w3"])
    mine, strangers = overview.document_for("globex"), overview.document_for("initech")
    assert mine["tenant"] == {"tenant": "globex", "sessions": 2, "tokens_per_s": 10.0}
    assert strangers["tenant"] == {"tenant": "initech", "sessions": 0, "tokens_per_s": 0.0}
    assert "acme" not in repr(mine) + repr(strangers)
    assert {name: value for name, value in mine.items() if name != "tenant"} == {
        name: value for name, value in strangers.items() if name != "tenant"
    }
    assert (mine["verifiers"], mine["tokens_per_s"], mine["acceptance"]) == (3, 40.0, 0.75)


@pytest.mark.parametrize("overview", [Overview(), Overview.between([FIRST], [LATER])])
def test_an_operator_is_shown_everything(overview: Overview) -> None:
    document = overview.document()
    assert document["takeovers"] == overview.takeovers
    assert [one["tenant"] for one in document["tenants"]] == [one.tenant for one in overview.tenants]  # type: ignore[attr-defined]
