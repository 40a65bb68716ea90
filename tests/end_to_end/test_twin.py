"""The simulator's live half: a real service, real devices in a process of their own, a link that takes its time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from dsdq.policies.window import Mode
from dsdq.sim.calibrate import calibrate
from dsdq.sim.observed import read_observed
from tests.conftest import Serve

NAMES = {"tpot_ms", "tokens_per_s", "acceptance", "ttft_ms"}


def test_validation_runs_live_and_says_how_wrong_the_simulator_is(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    arguments = ["--variants", "slow-device", "--rtt", "8", "--texts", "1", "--tokens", "12", "--limit-s", "0.3"]
    done = subprocess.run(
        [sys.executable, "-m", "dsdq", "sim", "validate", *arguments, "--json", str(file)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert len(found["cells"]) == 10, "five policies, in two halves"
    assert set(found["medians"]) == NAMES
    for row in found["cells"]:
        assert row["live"]["tpot_ms"] > 0
        assert row["predicted"]["tpot_ms"] > 0
        assert row["policy"] in done.stdout
    for calibrated in found["calibrations"]["slow-device"]:
        assert calibrated["scenario"]["verifiers"]["step_ms"] > 29, "what the target is stated to take"
        assert calibrated["scenario"]["devices"]["live"]["draft_ms"] >= 3


async def test_generate_appends_what_came_to_a_trace(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    command = [
        sys.executable,
        "-m",
        "dsdq",
        "generate",
        "--redis",
        redis_url,
        "--trace",
        str(file),
        "--max-tokens",
        "24",
        "--json",
    ]
    async with serve("testing/hash"):
        for policy in ("static:4:1", "target-only"):
            run = [*command, "--draft", "hash:0.5", "--policy", policy, "--window", "4", "once"]
            done = await asyncio.to_thread(subprocess.run, run, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
        ids = json.loads(done.stdout)["ids"]
        stopped = [*command, "--draft", "hash:0.5", "--stop-id", str(ids[4]), "once"]
        await asyncio.to_thread(subprocess.run, stopped, check=True, timeout=60)
    drafted, streamed, brief = read_observed(file)
    assert (brief.tokens, brief.max_tokens) == (1 + ids.index(ids[4]), None), (
        "a bound that it did not reach says nothing"
    )
    assert (drafted.policy, drafted.max_window, drafted.tokens, drafted.max_tokens) == ("static:4:1", 4, 24, 24)
    assert {one.mode for one in drafted.answers[:-1]} == {Mode.SPECULATE}
    assert drafted.judged >= drafted.accepted > 0
    assert (streamed.policy, streamed.kinds, streamed.drafted) == ("target-only", "t" * 24, 0)
    scenario = calibrate([drafted, streamed]).scenario
    assert scenario.workloads["default"].output.mean == 24
