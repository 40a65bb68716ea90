"""``python -m dsdq.testing.chaos``: a whole service, real processes and a real Redis, in which everything goes wrong.

Verifiers and devices reach Redis through proxies that lose, repeat, delay and cut; verifiers are killed, stopped and
told to leave; Redis is restarted and killed. Then the faults end, every device has to finish its text and to find its
receipt signed and right, the checker reads every session's history, and the bill has to be what all logs together say.
The seed decides what goes wrong when.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Annotated

import numpy as np
import typer

from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.bus.usage import usage_of
from dsdq.descriptors import raise_limit
from dsdq.errors import ConfigError
from dsdq.models.names import HASH_TARGET
from dsdq.receipts import Signer
from dsdq.settings import settings
from dsdq.tasks import end
from dsdq.telemetry.logs import configure
from dsdq.tenants import DEFAULT_TENANT
from dsdq.tenants.usage import total
from dsdq.testing.checker import bill_of, check
from dsdq.testing.devices import EmulatedDevice, Text
from dsdq.testing.history import History
from dsdq.testing.killer import LOOK_S, Killer, Victim
from dsdq.testing.proxy import NO_FAULTS, Fault, FaultProxy
from dsdq.testing.records import Publications, read_histories
from dsdq.testing.scenarios import SCENARIOS, Scenario, find_scenario
from dsdq.testing.schedule import Act, Event
from dsdq.threads import share_cores
from dsdq.wire import Opened

LEASE_S = 2.0
STEP_MS = 2
SETTLE_S = 90.0
STARTS_S = 120.0
SHOWN = 5
OWN_FILES = 256  # of this process, and what verifiers have to their proxy
FILES_OF_A_DEVICE = 36  # a dozen connections over a slow link; each has three ends here, two of them the proxy's
ALWAYS = ("--appendfsync", "always")  # on disk before it is answered: a killed server has lost nothing
SERVICE_KEY = bytes(range(32))
ON_VERIFIERS = (Act.KILL_VERIFIER, Act.END_VERIFIER, Act.STOP_VERIFIER)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does, how large it is, and how long things go wrong in it."""

    scenario: Scenario
    seed: int
    seconds: float
    devices: int
    verifiers: int
    fenced: bool = True


@dataclass(slots=True)
class Report:
    """What a run did and what came of it. ``failures`` says what was not as it should be: of what kind, and where."""

    acts: Counter[Act] = field(default_factory=Counter)
    injected: Counter[Fault] = field(default_factory=Counter)
    started: int = 0
    texts: list[Text] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it in words."""
        finished = [text for text in self.texts if text.finish_reason is not None]
        tokens = sum(len(text.shown) for text in self.texts)
        moves = [sum(isinstance(one.message, Opened) for one in history.entries[1:]) for history in self.histories] or [
            0
        ]
        pauses_s = [text.longest_pause_s for text in self.texts] or [0.0]
        p50, p99, most = np.percentile(pauses_s, (50, 99, 100))
        return [
            *(f"{count:7}  {act}" for act, count in sorted(self.acts.items())),
            *(f"{count:7}  {fault} (messages or connections)" for fault, count in sorted(self.injected.items())),
            f"{self.started:7}  verifiers started",
            f"{len(finished):7}  sessions finished of {len(self.texts)}, {tokens} tokens",
            f"{sum(moves):7}  takeovers of sessions, at most {max(moves)} of one",
            f"{sum(text.repeats for text in self.texts):7}  requests repeated by devices",
            f"longest pause of a text: p50 {p50:.2f} s, p99 {p99:.2f} s, at most {most:.2f} s",
        ]


class Chaos:
    """One run."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._report = Report()
        self._redis = EmbeddedRedis(0, folder=folder, arguments=ALWAYS)
        self._published = Publications()
        self._enough = False
        self._restarting = asyncio.Lock()

    async def run(self) -> Report:
        """Run, check and report."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._redis)
            await self._serve(stack)
            devices = self._devices()
            running: list[asyncio.Task[None]] = []
            try:
                for device in devices:
                    running.append(asyncio.create_task(device.run(lambda: self._enough)))
                    await _connected(device, running[-1])
                await self._break_things()
                await self._settle(running)
            finally:
                await end(*running)
            self._report.texts = [text for device in devices for text in device.texts]
            await end(self._keeping)
            await self._killer.end()  # what they still write, they write now
            await self._judge()
        return self._report

    async def _serve(self, stack: AsyncExitStack) -> None:
        rng = self._rng("proxies")
        hear = self._published.hear
        self._to_devices = await stack.enter_async_context(FaultProxy(self._redis.url, rng, on_request=hear))
        self._to_verifiers = await stack.enter_async_context(FaultProxy(self._redis.url, rng))
        self._killer = await stack.enter_async_context(Killer(self._command()))
        victims = [await self._killer.start() for _ in range(self._plan.verifiers)]
        if not all([await victim.until_ready() for victim in victims]):
            msg = f"expected verifiers to start, they ended with {dict(self._killer.exits)}"
            raise ConfigError(msg)
        self._keeping = asyncio.create_task(self._killer.keep(self._plan.verifiers))

    def _command(self) -> list[str | Path]:
        module = "dsdq" if self._plan.fenced else "dsdq.testing.unfenced"
        chosen = {
            "LEASE_MS": round(1000 * LEASE_S),
            "HASH_STEP_MS": STEP_MS,
            "LOG_LEVEL": _log_level(),
            "SERVICE_KEY": SERVICE_KEY.hex(),
        }
        words = [f"DSDQ_{name}={value}" for name, value in chosen.items()]
        serve = ["verifier", "--redis", self._to_verifiers.url, "--target", self._plan.scenario.target]
        return ["env", *words, sys.executable, "-m", module, *serve]

    def _devices(self) -> list[EmulatedDevice]:
        habits = self._plan.scenario.habits
        return [
            EmulatedDevice(self._to_devices.url, self._rng(f"device {number}"), habits[number % len(habits)])
            for number in range(self._plan.devices)
        ]

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed} {name}")  # noqa: S311 - repeatable, guards nothing

    # Breaking

    async def _break_things(self) -> None:
        started_s = monotonic()
        acting: list[asyncio.Task[None]] = []
        for event in self._plan.scenario.schedule(self._rng("schedule"), self._plan.seconds, LEASE_S):
            await asyncio.sleep(started_s + event.at_s - monotonic())
            acting.append(asyncio.create_task(self._act(event)))
        await asyncio.sleep(started_s + self._plan.seconds - monotonic())
        await asyncio.gather(*acting)

    async def _act(self, event: Event) -> None:
        victim = await self._choose(event.choice) if event.act in ON_VERIFIERS else None
        self._report.acts[event.act] += 1
        proxy = self._to_verifiers if event.choice < 0.5 else self._to_devices
        match event.act:
            case Act.KILL_VERIFIER if victim is not None:
                victim.kill()
            case Act.END_VERIFIER if victim is not None:
                victim.terminate()
            case Act.STOP_VERIFIER if victim is not None:
                await victim.stop_for(event.lasts_s)
            case Act.RESTART_REDIS | Act.KILL_REDIS:
                await self._restart(killed=event.act is Act.KILL_REDIS)
            case Act.CUT:
                proxy.cut(event.share)
            case Act.STALL:
                proxy.stall(event.lasts_s, event.share)
            case Act.WEATHER:
                proxy.set_faults(event.faults)

    async def _choose(self, choice: float) -> Victim:
        """Return one of the verifiers that work, as soon as enough do.

        Raises:
            ConfigError: too few do, for too long.
        """
        ends_s = monotonic() + STARTS_S
        while monotonic() < ends_s:
            able = [victim for victim in self._killer.running if victim.was_ready and not victim.stopped]
            if len(able) >= self._plan.scenario.working:
                return able[int(choice * len(able))]
            await asyncio.sleep(LOOK_S)
        wanted = f"expected {self._plan.scenario.working} verifiers that work within {STARTS_S:.0f} s"
        msg = f"{wanted}; those that ended did with {dict(self._killer.exits)}"
        raise ConfigError(msg)

    async def _restart(self, *, killed: bool) -> None:
        async with self._restarting:
            await (self._redis.kill() if killed else self._redis.stop())
            await self._redis.start()

    # Afterwards

    async def _settle(self, running: Sequence[asyncio.Task[None]]) -> None:
        """End all faults, and wait for the devices to finish the texts that they are at."""
        for proxy in (self._to_devices, self._to_verifiers):
            proxy.set_faults(NO_FAULTS)
            self._report.injected += proxy.injected
        self._enough = True
        done, late = await asyncio.wait(running, timeout=SETTLE_S)
        self._report.failures += [("unfinished", f"a device, {SETTLE_S:.0f} s after the last fault")] * len(late)
        self._report.failures += [("a device failed", repr(task.exception())) for task in done if task.exception()]

    async def _judge(self) -> None:
        report = self._report
        report.started = self._killer.started
        report.failures += [("a text failed", text.error) for text in report.texts if text.error]
        redis, decode = open_redis(self._redis.url), self._plan.scenario.load_decoder()
        try:
            report.histories = await read_histories(redis, self._published, report.texts, decode)
            ever = datetime.now(UTC) + timedelta(days=1)
            billed = total((await usage_of(redis, DEFAULT_TENANT, ever - timedelta(days=2), ever)).values())
        finally:
            await redis.aclose()
        found = [finding for history in report.histories for finding in check(history)]
        report.failures += [(finding.kind, f"{finding.session}: {finding.detail}") for finding in found]
        if (due := bill_of(report.histories)) != (told := replace(billed, kv_token_ms=0)):
            report.failures.append(("the bill is not what the logs say", f"expected {due}, got {told}"))


async def _connected(device: EmulatedDevice, running: asyncio.Task[None]) -> None:
    """Return when a device has connected, or failed. One after another: a crowd takes each other for a slow link."""
    connecting = asyncio.create_task(device.connected.wait())
    await asyncio.wait([connecting, running], return_when=asyncio.FIRST_COMPLETED)
    connecting.cancel()


_USUAL = "as the target's scenario has it"


def _log_level() -> str:
    return os.environ.get("DSDQ_LOG_LEVEL", "error")  # there is much to warn of here


async def run(plan: Plan) -> Report:
    """Run once in a folder of its own."""
    # Every device drafts on a thread, and waits there as long as a real one would compute.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(plan.devices))
    with tempfile.TemporaryDirectory(prefix="dsdq-chaos-") as folder:
        return await Chaos(plan, Path(folder)).run()


def main(
    target: Annotated[str, typer.Option(help=f"What is served: {' or '.join(SCENARIOS)}.")] = HASH_TARGET,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long things go wrong.", show_default=_USUAL)] = None,
    seed: Annotated[int | None, typer.Option(help="Replays a run's faults.", show_default="random")] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Emulated devices.", show_default=_USUAL)] = None,
    verifiers: Annotated[int | None, typer.Option(min=1, help="Verifier processes.", show_default=_USUAL)] = None,
    broken_fence: Annotated[  # noqa: FBT002 - a command's flag
        bool, typer.Option("--broken-fence", help="Let stale verifiers commit: the checker must find it.")
    ] = False,
) -> None:
    """Break everything, then check every session. Exit with 1 when anything was found."""
    scenario = find_scenario(target)
    affordable = (raise_limit() - OWN_FILES) // FILES_OF_A_DEVICE
    plan = Plan(
        scenario,
        secrets.randbits(32) if seed is None else seed,
        seconds or scenario.seconds,
        devices or min(scenario.devices, max(1, affordable)),
        verifiers or scenario.verifiers,
        not broken_fence,
    )
    configure(_log_level())
    share_cores()
    os.environ["DSDQ_RECEIPT_KEY"] = Signer(SERVICE_KEY).public_key.hex()  # devices are in this process
    settings.cache_clear()
    size = f"{plan.verifiers} verifiers of {target}, {plan.devices} devices, {plan.seconds:.0f} s of faults"
    typer.echo(f"seed {plan.seed}: {size}")
    report = asyncio.run(run(plan))
    for line in report.lines():
        typer.echo(line)
    for kind, count in Counter(kind for kind, _ in report.failures).most_common():
        typer.echo(f"FOUND  {count} times: {kind}")
        for line in [detail for one, detail in report.failures if one == kind][:SHOWN]:
            typer.echo(f"       {line}")
    typer.echo(f"{len(report.failures)} findings in {len(report.histories)} sessions; --seed {plan.seed} replays it")
    raise typer.Exit(bool(report.failures))


if __name__ == "__main__":
    typer.run(main)
