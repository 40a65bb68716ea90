"""The simulator's own speed: events and requests a second of one core, many devices, several cores.

    python -m bench.sim [--quick] [--json FILE]

- **20 x 600**: the preset ``paper-20x600`` (Poisson arrivals, γ = 4) on one core, with the live system's routing,
  batching and paging deciding; beside it what a bare heap of as many events does in the same run (``heapq``, push and
  pop of a tuple), and SimPy with as many processes that wait as often and do nothing else.
- **100,000 devices**, 1 % of them active, for a simulated minute: time and memory.
- **Processes**: the same scenario under several seeds, in one process and in one for each core.

Times are processor time of the process itself, medians of several runs; ``events_per_s`` and ``requests_per_s`` of the
JSON are those of 20 x 600. What is measured is the ``dsdq`` that Python finds: ``make compiled`` makes one in C, and
``PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:.`` puts it first.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from heapq import heappop, heappush
from multiprocessing import get_context
from statistics import median
from time import perf_counter, process_time
from typing import Any

import simpy

from bench.options import options, write
from dsdq.sim import kernel
from dsdq.sim.run import simulate
from dsdq.sim.runners import cores
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.scenario.reading import load_scenario

REPEATS, QUICK_REPEATS = 5, 3
DEVICES = 600


def paper(seed: int, *, quick: bool) -> Scenario:
    """Return 20 x 600, for two simulated minutes or half of one."""
    sets = ["duration_s=30", "warm_up_s=5"] if quick else []
    return load_scenario("paper-20x600", [*sets, f"seed={seed}", "window.policy=static:4"])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return what some work took of the processor in seconds, and its result."""
    began_s = process_time()
    result = work()
    return process_time() - began_s, result


def bare_heap(events: int) -> None:
    """Push and pop so many tuples, with as many waiting at a time as there are devices."""
    heap: list[tuple[float, int, None]] = [(float(number), number, None) for number in range(DEVICES)]
    for number in range(DEVICES, DEVICES + events):
        time, _, _ = heappop(heap)
        heappush(heap, (time + DEVICES, number, None))


def bare_simpy(events: int) -> None:
    """Let as many SimPy processes as there are devices wait so often in all."""
    environment = simpy.Environment()

    def _wait() -> Generator[simpy.Event, None, None]:
        for _ in range(events // DEVICES):
            yield environment.timeout(1.0)

    for _ in range(DEVICES):
        environment.process(_wait())
    environment.run()


def one_core(*, quick: bool) -> dict[str, float]:
    """Measure 20 x 600 and both bare kernels, in turns."""
    found: dict[str, list[float]] = {"events_per_s": [], "requests_per_s": [], "heap": [], "simpy": []}
    rounds = 0.0
    for seed in range(1, 1 + (QUICK_REPEATS if quick else REPEATS)):
        scenario = paper(seed, quick=quick)
        taken_s, record = timed(partial(simulate, scenario))
        found["events_per_s"].append(record.events / taken_s)
        found["requests_per_s"].append(len(record.requests) / taken_s)
        rounds = sum(one.rounds for one in record.requests) / len(record.requests)
        for name, bare in (("heap", bare_heap), ("simpy", bare_simpy)):
            taken_s, _ = timed(partial(bare, record.events))
            found[name].append(record.events / taken_s)
    result = {name: median(values) for name, values in found.items()}
    return {
        "events_per_s": result["events_per_s"],
        "requests_per_s": result["requests_per_s"],
        "rounds_per_request": rounds,
        "heap_events_per_s": result["heap"],
        "simpy_events_per_s": result["simpy"],
        "share_of_bare_heap": median(a / b for a, b in zip(found["events_per_s"], found["heap"], strict=True)),
        "times_bare_simpy": median(a / b for a, b in zip(found["events_per_s"], found["simpy"], strict=True)),
    }


def crowd(*, quick: bool) -> dict[str, float]:
    """Measure 100,000 devices in a process of its own, so that its memory is known: its peak begins with this one's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_crowd, 10.0 if quick else 60.0).result()


def _crowd(duration_s: float) -> dict[str, float]:
    sets = [f"duration_s={duration_s}", f"warm_up_s={duration_s / 4}", "window.policy=static:4"]
    scenario = load_scenario("hundred-thousand", sets)
    before = _peak_mib()
    taken_s, record = timed(lambda: simulate(scenario))
    return {
        "simulated_s": duration_s,
        "took_s": taken_s,
        "requests": len(record.requests),
        "memory_mib": _peak_mib() - before,
    }


def _peak_mib() -> float:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def processes(*, quick: bool) -> dict[str, float]:
    """Measure as many seeds as two for each core, in one process and in one for each core."""
    result, several = {}, cores()
    for workers in (1, several):
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(abs, range(workers)))  # they have started
            seeds = range(1, 1 + 2 * several)
            list(pool.map(_requests, [(seed, True) for seed in seeds]))  # and imported everything
            began_s = perf_counter()
            requests = sum(pool.map(_requests, [(seed, quick) for seed in seeds]))
            result[str(workers)] = requests / (perf_counter() - began_s)
    return {"speedup": result[str(several)] / result["1"], **{f"requests_per_s_{one}": result[one] for one in result}}


def _requests(job: tuple[int, bool]) -> int:
    seed, quick = job
    return len(simulate(paper(seed, quick=quick)).requests)


def main() -> int:
    """Measure, print, write."""
    arguments = options(__doc__, quick="shorter simulations").parse_args()
    many = crowd(quick=arguments.quick)  # first, while this process is small
    found = one_core(quick=arguments.quick)
    compiled = not str(kernel.__file__).endswith(".py")
    print(f"dsdq                  {'compiled' if compiled else 'as it is, in Python':>10}")
    print(
        f"20 x 600, static:4    {found['requests_per_s']:>10,.0f} requests/s, {found['events_per_s']:,.0f} events/s; "
        f"{found['rounds_per_request']:.1f} rounds a request"
    )
    for name in ("heap", "simpy"):
        print(f"bare {name:<17}{found[f'{name}_events_per_s']:>10,.0f} events/s")
    print(
        f"100,000 devices       {many['simulated_s']:.0f} simulated s, {many['requests']:,.0f} requests: "
        f"{many['took_s']:.1f} s, {many['memory_mib']:.0f} MiB"
    )
    spread = processes(quick=arguments.quick)
    print("processes             " + ", ".join(f"{key} {value:,.2f}" for key, value in spread.items()))
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    result = {"compiled": compiled, **found, "crowd": many, "processes": spread, "machine": machine}
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
