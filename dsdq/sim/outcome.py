"""A simulation as a task that any process can do, and what is kept of it: figures, quantiles, a course over time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

import dsdq
from dsdq.sim.figures import figures, is_good, tpot_ms, windows
from dsdq.sim.files import lines, readable
from dsdq.sim.record import FINISHED, SLICES, Log, Record, Request, digesting
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.scenario.traces import read_traces

QUANTILES = 101
"""Of each latency: 0 %, 1 %, … 100 %."""

_KEY_BYTES = 16
_PARTS, _SUFFIXES = ("sim", "policies"), {".py", ".safetensors"}


@dataclass(frozen=True, slots=True)
class Task:
    """A simulation to do.

    Attributes:
        scenario: with its seed.
        requests: whether each request is asked for, too.
        events: a file for every event, one JSON array a line.
    """

    scenario: Scenario
    requests: bool = False
    events: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to, as plain values.

    Attributes:
        seed: of the scenario.
        figures: as :func:`dsdq.sim.figures.figures` names them.
        windows: how many verdicts came under each way of working.
        quantiles: of ``ttft_ms``, ``tpot_ms`` and ``e2e_ms``, :data:`QUANTILES` each; none where nothing finished.
        series: ``t_s``, and from there to the next ``tokens_per_s`` and how many requests were ``running`` on average.
        requests: a row for each, if asked for.
        events: blake2b of the event log, if asked for.
    """

    seed: int
    figures: dict[str, float]
    windows: dict[str, int]
    quantiles: dict[str, list[float]]
    series: dict[str, list[float]]
    requests: list[dict[str, Any]] | None = None
    events: str | None = None


def outcome(task: Task) -> Outcome:
    """Do a task.

    Raises:
        ConfigError: a trace cannot be read, or the file for events not be written.
    """
    scenario = task.scenario
    traces = read_traces(scenario)
    digest = blake2b(digest_size=32)
    with _log(task.events, digest) as log:
        record = simulate(scenario, traces=traces, log=log)
    return Outcome(
        scenario.seed,
        {name: float(value) for name, value in figures(scenario, record).items()},
        windows(record),
        _quantiles(record),
        _series(record),
        [_row(scenario, record, one) for one in record.requests] if task.requests else None,
        digest.hexdigest() if task.events else None,
    )


def hashed(trace: str) -> bytes:
    """Return the hash of a trace.

    Raises:
        ConfigError: it cannot be read.
    """
    file = Path(trace)
    with readable("trace", file):
        return blake2b(file.read_bytes()).digest()


def key(scenario: Scenario, hashed: Callable[[str], bytes] = hashed) -> str:
    """Return what tells a simulation from any other: a hash of what simulates, the scenario, and its traces.

    ``hashed`` gives a trace's hash; who asks for many keys has each trace read once by keeping what it gave.

    Raises:
        ConfigError: a trace cannot be read.
    """
    found = blake2b(_program(), digest_size=_KEY_BYTES)
    found.update(scenario.model_dump_json().encode())
    for trace in _traces(scenario):
        found.update(hashed(trace))
    return found.hexdigest()


@cache
def _program() -> bytes:
    """Return the hash of all that an outcome depends on beside the scenario: the simulator, policies, their weights."""
    found, package = blake2b(), Path(dsdq.__file__).parent
    for file in sorted(one for part in _PARTS for one in (package / part).rglob("*") if one.suffix in _SUFFIXES):
        found.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return found.digest()


def _traces(scenario: Scenario) -> list[str]:
    """Return the traces of a scenario, each once."""
    found = [devices.arrivals.trace for devices in scenario.devices.values()]
    for work in scenario.workloads.values():
        found += [one.trace for one in (work.acceptance, work.own_acceptance) if one is not None]
    return list(dict.fromkeys(trace for trace in found if trace is not None))


@contextmanager
def _log(file: Path | None, digest: blake2b) -> Iterator[Log | None]:
    """Give a log that writes events to a file and feeds them to a digest."""
    if file is None:
        yield None
        return
    digested = digesting(digest.update)
    with lines("--events", file) as write:

        def _tell(*event: object) -> None:
            digested(*event)
            write(json.dumps(event))

        yield _tell


def _quantiles(record: Record) -> dict[str, list[float]]:
    finished = [
        one for one in record.requests if one.outcome == FINISHED and record.begin_ms <= one.arrival_ms < record.end_ms
    ]
    latencies = {
        "ttft_ms": [one.first_ms - one.arrival_ms for one in finished],
        "tpot_ms": [tpot_ms(one) for one in finished if one.committed > 1],
        "e2e_ms": [one.ended_ms - one.arrival_ms for one in finished],
    }
    shares = np.linspace(0, 100, QUANTILES)
    return {name: np.percentile(values, shares).tolist() if values else [] for name, values in latencies.items()}


def _series(record: Record) -> dict[str, list[float]]:
    slice_s = record.end_ms / SLICES / 1000
    committed = [*record.by_slice[: SLICES - 1], sum(record.by_slice[SLICES - 1 :])]
    return {
        "t_s": [number * slice_s for number in range(SLICES)],
        "tokens_per_s": [count / slice_s for count in committed],
        "running": _running(record.requests, record.end_ms),
    }


def _running(requests: Sequence[Request], end_ms: float) -> list[float]:
    """Return how many requests were made at a time, on average over each slice."""
    slice_ms = end_ms / SLICES
    within, change = [0.0] * SLICES, [0] * (SLICES + 1)
    for one in requests:
        for at_ms, sign in ((one.began_ms, 1), (one.ended_ms, -1)):
            place = int(at_ms / slice_ms)
            if at_ms < end_ms and place < SLICES:
                within[place] += sign * ((place + 1) - at_ms / slice_ms)
                change[place + 1] += sign
    whole = accumulate(change[:SLICES])
    return [count + part for count, part in zip(whole, within, strict=True)]


def _row(scenario: Scenario, record: Record, request: Request) -> dict[str, Any]:
    """Return a request as a row of a table, with its latencies; None where it has none.

    ``measured`` says whether figures are of it, too.
    """
    row = {"seed": scenario.seed, **asdict(request)}
    del row["choice"], row["chosen"]
    ended = request.outcome == FINISHED
    return row | {
        "ttft_ms": request.first_ms - request.arrival_ms if ended else None,
        "tpot_ms": tpot_ms(request) if ended and request.committed > 1 else None,
        "e2e_ms": request.ended_ms - request.arrival_ms if ended else None,
        "good": ended and is_good(scenario, request),
        "measured": record.measures(request.arrival_ms),
    }
