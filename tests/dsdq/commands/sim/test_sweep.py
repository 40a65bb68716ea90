"""`dsdq sim sweep`, in this process, in several, and on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.dsdq.commands.sim.conftest import HERE, ROOT, Simulate, read


def test_a_sweep_is_one_table_and_goes_on(dsdq: Simulate, fleet: str) -> None:
    vary = ("--vary", "window.policy=static:1,static:4", "--vary", "devices.*.link.rtt_ms=10,60")
    said = dsdq("sweep", fleet, *vary, *HERE, "--json", "a.json")
    assert [line.split()[:2] for line in said.splitlines()[2:6]] == [
        ["static:1", "10"],
        ["static:1", "60"],
        ["static:4", "10"],
        ["static:4", "60"],
    ]
    cells = Path("sweep-small.jsonl").read_text()
    assert dsdq("sweep", fleet, *vary, *HERE, "--json", "b.json") == said
    assert Path("sweep-small.jsonl").read_text() == cells
    assert read("a.json") == read("b.json")
    assert len(read("a.json")["ways"]) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("small.toml", "--vary", "duration_s"), "--vary"),
        (("small.toml", "--vary", "seed=1,2"), "--seeds"),
        (
            ("small.toml", "--vary", "devices.tablets.count=1,2"),
            "scenario small.toml: devices.tablets: expected one of phones",
        ),
        (("small.toml", "--ray-address", "localhost:1"), "--on ray"),
        (
            ("small.toml", "--on", "ray", "--ray-address", "localhost:1", "--jobs", "2"),
            "--jobs: expected no --ray-address",
        ),
        (("small.toml", "--results", "small.toml"), "line 1"),
        (("small.toml", "--results", "pipe"), "--results pipe: expected a file that can be read again"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_bad_input_is_one_line_and_exit_code_2(dsdq: Simulate, arguments: tuple[str, ...], expected: str) -> None:
    os.mkfifo("pipe")
    assert expected in dsdq("sweep", *arguments, code=2)


@pytest.mark.usefixtures("fleet", "bare")
def test_what_is_not_installed_is_told_before_anything_is_simulated(dsdq: Simulate) -> None:
    assert "install dsdq[ray]" in dsdq("sweep", "small.toml", "--on", "ray", code=2)


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start the command as a real process."""
    begin = "import sys; from dsdq.commands.sim import sim; sim(sys.argv[1:])"
    command = [sys.executable, "-c", begin, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_sweep_whose_process_is_killed_loses_only_what_was_running(dsdq: Simulate, fleet: str) -> None:
    """Kill a real process with two others that simulate, behind its first cells."""
    vary = ("--vary", "verifiers.step_ms=" + ",".join(map(str, range(20, 60))), "--set", "duration_s=10")
    cells = Path("cells.jsonl")
    process = started("sweep", fleet, *vary, "--jobs", "2", "--results", str(cells))
    until = time.monotonic() + 60
    while time.monotonic() < until and (not cells.exists() or cells.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # ends once no process of it holds its output: they have ended, too
    kept = cells.read_bytes()
    assert 3 <= kept.count(b"\n") < 40
    dsdq("sweep", fleet, *vary, *HERE, "--results", str(cells), "--json", "a.json")
    assert cells.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert cells.read_bytes().count(b"\n") == len(read("a.json")["ways"]) == 40


@pytest.mark.skipif(find_spec("ray") is None, reason="needs dsdq[ray]")
def test_a_ray_cluster_finds_what_this_process_does(dsdq: Simulate, fleet: str) -> None:
    vary = ("--vary", "window.policy=static:1,static:4", "--seeds", "2")
    dsdq("sweep", fleet, *vary, *HERE, "--results", "here.jsonl", "--json", "here.json")
    ray = started("sweep", fleet, *vary, "--on", "ray", "--jobs", "2", "--results", "ray.jsonl", "--json", "ray.json")
    _, said = ray.communicate()
    assert ray.returncode == 0, said
    assert read("ray.json") == read("here.json")
    assert "cluster that can be reached" in dsdq("sweep", fleet, "--on", "ray", "--ray-address", "localhost:1", code=2)
    assert "host:port" in dsdq("sweep", fleet, "--on", "ray", "--ray-address", "nowhere", code=2)
