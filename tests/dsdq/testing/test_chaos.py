"""A short chaos run, as a whole; `make chaos` is the long one."""

from __future__ import annotations

import pytest

from dsdq.models.names import HASH_TARGET
from dsdq.testing.chaos import Plan, run
from dsdq.testing.scenarios import find_scenario

SEED = 11


@pytest.mark.timeout(280)
async def test_a_few_seconds_of_chaos_leave_no_finding() -> None:
    report = await run(Plan(find_scenario(HASH_TARGET), SEED, seconds=4, devices=8, verifiers=2))
    assert report.failures == [], f"seed {SEED}"
    assert report.histories
    assert all(text.finish_reason is not None for text in report.texts)
    assert sum(report.acts.values()) >= 3
    assert any("sessions finished" in line for line in report.lines())
