"""Processes end as they are told to, and none is left."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dsdq.testing.killer import Killer, Victim
from tests.dsdq.test_processes import gone

SLEEPER = "import time; print('ready', flush=True); time.sleep(600)"
GENTLE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print('ready', flush=True)
time.sleep(600)
"""


def state_of(victim: Victim) -> str:
    return Path(f"/proc/{victim.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


async def started(killer: Killer) -> Victim:
    victim = await killer.start()
    assert await victim.until_ready()
    return victim


async def test_a_killed_process_ends_at_once_and_its_guard_with_it() -> None:
    async with Killer([sys.executable, "-c", GENTLE]) as killer:
        victim = await started(killer)
        assert victim.said == "ready\n"
        victim.kill()
        await victim.wait()
        assert victim.exit_code == 137
        assert not killer.running


async def test_a_terminated_process_ends_in_its_own_way() -> None:
    async with Killer([sys.executable, "-c", GENTLE]) as killer:
        victim = await started(killer)
        victim.terminate()
        await victim.wait()
        assert killer.exits == {3: 1}


async def test_a_stopped_process_stands_still_and_goes_on() -> None:
    async with Killer([sys.executable, "-c", SLEEPER]) as killer:
        victim = await started(killer)
        stopping = asyncio.create_task(victim.stop_for(600))
        while state_of(victim) != "T":
            await asyncio.sleep(0.01)
        assert victim.stopped
        stopping.cancel()
        while state_of(victim) == "T":
            await asyncio.sleep(0.01)
        assert not victim.stopped
        assert victim.running


async def test_the_block_ends_all_even_a_stopped_one() -> None:
    async with Killer([sys.executable, "-c", SLEEPER]) as killer:
        victims = [await started(killer) for _ in range(3)]
        stopping = asyncio.create_task(victims[0].stop_for(600))
        while state_of(victims[0]) != "T":
            await asyncio.sleep(0.01)
    assert all(gone(victim.pid) for victim in victims)
    stopping.cancel()


async def test_what_ends_is_replaced() -> None:
    async with Killer([sys.executable, "-c", SLEEPER]) as killer:
        keeping = asyncio.create_task(killer.keep(2))
        while len(killer.running) < 2:
            await asyncio.sleep(0.01)
        first = killer.running[0]
        assert await first.until_ready()
        first.kill()
        await first.wait()
        while len(killer.running) < 2:
            await asyncio.sleep(0.01)
        keeping.cancel()
        assert killer.started == 3
        assert first not in killer.running


async def test_a_process_that_cannot_start_is_not_ready() -> None:
    async with Killer([sys.executable, "-c", "raise SystemExit(2)"]) as killer:
        victim = await killer.start()
        assert not await victim.until_ready()
        await victim.wait()
        assert victim.exit_code == 2
