"""The main job as processes: what it prints, what it checks, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest


def children_of(pid: int) -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(entry.parent.name)
            found |= {child} | children_of(child)
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_the_demo_ends_with_figures_and_an_identical_text(temperature: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dsdq", "demo", "--json", "--devices", "2", "--max-tokens", "24",
         "--temperature", temperature, "--seed", "5", "--prompt", "def f(x):", "--prompt", "import os\n"],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["identical"] is True
    assert result["prompts"] == 2
    assert result["committed_tokens"] <= 48
    assert result["tokens_per_s"] > 0
    assert result["verifier_mean_batch"] >= 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the process table from /proc")
@pytest.mark.parametrize("delay_s", [0, 0.5], ids=["while devices start", "while tokens come"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_demo_leaves_no_process(number: signal.Signals, delay_s: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "dsdq", "demo", "--devices", "2", "--max-tokens", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert demo.stdout.readline().startswith("redis:")
        assert demo.stdout.readline().startswith("verifier:")
        sleep(delay_s)
        started = children_of(demo.pid)
        assert started
        os.kill(demo.pid, number)
        demo.stdout.read()  # ends when the last process that holds the pipe has ended
        said = [json.loads(line) for line in demo.stderr]
        # Those that outlive a killed demo for a moment may find Redis gone before it is their turn.
        noticed = ("redis unavailable", "feed interrupted", "log unreadable")
        allowed = {(event, "warning") for event in noticed} if number == signal.SIGKILL else set()
        assert {(line["event"], line["level"]) for line in said} <= allowed
        demo.wait(timeout=60)
    waiting = subprocess.run(["timeout", "30", "sh", "-c", _until_gone(started)], check=False)
    assert waiting.returncode == 0, [pid for pid in started if alive(pid)]


def _until_gone(pids: set[int]) -> str:
    listed = " ".join(str(pid) for pid in sorted(pids))
    return f"for p in {listed}; do while grep -qsv '^[0-9]* (.*) Z' /proc/$p/stat; do sleep 0.05; done; done"
