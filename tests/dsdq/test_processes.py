"""A child ends with its parent, however the parent ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from dsdq.processes import spawn

SLEEPER = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"


def gone(pid: int) -> bool:
    """Say whether a process has ended; one that nobody has waited for yet has, too."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        return Path("/proc").exists()  # it ended between the two looks; without /proc, it is there


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while not gone(pid):
            await asyncio.sleep(0.02)


async def test_stop_ends_the_child_and_removes_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    child = await spawn([sys.executable, "-c", SLEEPER], stdout=True, remove=folder)
    pid = int(await child.read_line())
    assert child.running
    await child.stop()
    assert gone(pid)
    assert not folder.exists()
    assert not child.running


async def test_a_child_that_ends_by_itself_gives_its_exit_code() -> None:
    child = await spawn([sys.executable, "-c", "raise SystemExit(7)"])
    assert await child.wait() == 7


async def test_a_child_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    from dsdq import processes

    monkeypatch.setattr(processes, "_GUARD", processes._GUARD.replace(f"left={processes.GRACE_S * 10}", "left=2"))
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
    child = await spawn([sys.executable, "-c", stubborn], stdout=True)
    pid = int(await child.read_line())
    await child.stop()
    await until_gone(pid)
    assert not child.running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_child_ends_when_its_parent_is_killed(number: signal.Signals) -> None:
    parent = f"""
import asyncio, sys
from dsdq.processes import spawn
async def main():
    child = await spawn([sys.executable, "-c", {SLEEPER!r}], stdout=True)
    print(await child.read_line(), end="", flush=True)
    await child.wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert not gone(pid)
    process.send_signal(number)
    await process.wait()
    await until_gone(pid)


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    writing = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    for turns in range(6):
        starting = asyncio.create_task(spawn([sys.executable, "-c", writing], stdout=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        if note.exists():
            await until_gone(int(note.read_text()))
            note.unlink()
