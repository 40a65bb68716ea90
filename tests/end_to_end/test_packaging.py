"""The bare wheel serves a device on a machine without torch."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import Serve

ROOT = Path(__file__).parents[2]


def run(*command: str | Path) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it alone, with what it needs, into a new environment."""
    folder = tmp_path_factory.mktemp("device")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    # Most of what it installs is never imported here, so that compiling all of it would take longer than the tests.
    run(*pip, "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt", wheel)
    return python


async def test_an_ngram_device_runs_from_the_wheel_without_torch(
    serve: Serve, redis_url: str, device_python: Path
) -> None:
    absent = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('bench'))"
    assert run(device_python, "-I", "-c", absent).strip() == "None None"
    command = [device_python, "-m", "dsdq", "generate", "--redis", redis_url, "--draft"]
    async with serve("builtin/target"):
        for draft in ("ngram", "builtin/draft"):
            text = await asyncio.to_thread(run, *command, draft, "--max-tokens", "16", "def f(a, b):")
            assert text.strip()


def test_the_wheel_names_its_commands_and_refuses_the_verifier_politely(device_python: Path) -> None:
    ended = subprocess.run(
        [device_python, "-m", "dsdq", "verifier"], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "dsdq[torch]" in ended.stderr


def test_the_wheel_brings_the_simulators_presets_and_profiles(device_python: Path) -> None:
    program = (
        "from dsdq.sim.scenario import load_scenario, presets; print(*[load_scenario(one).name for one in presets()])"
    )
    assert "paper-20x600" in run(device_python, "-c", program).split()


def test_the_wheel_brings_the_style_of_a_report(device_python: Path) -> None:
    program = "from importlib.resources import files; print((files('dsdq.sim.report') / 'style.css').read_text())"
    assert "color-scheme: light dark" in run(device_python, "-c", program)
