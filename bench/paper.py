"""The evaluation of DSD (arXiv 2511.21669), simulated: windows, routing, batching; 20 targets, 600 or 1,000 devices.

    python -m bench.paper [--quick] [--only windows|stack] [--seeds N] [--jobs N] [--json FILE]

- **Windows**: for both presets, round trips of 10 and 30 ms and three workloads: a fixed window of 4 (the paper's
  baseline), a threshold of confidence, and AWC; every device asks again as soon as its text has ended, so that
  throughput shows what each is worth. A third of the time is measured, behind one for warming up and before one for
  cooling down, in which texts of ordinary length end under load (but for a quick run, which is shorter than they are).
- **Stack**: on 20 x 600, GSM8K, 10 ms: routing by random choice, round robin, the shortest queue (JSQ) and the shorter
  of two, each with batches first in, first out (FIFO) and of like lengths (LAB), under a window of 4 and under AWC.

All is paired: the same seeds, and with them the same texts, guesses and delays. Figures are means, with 95 % confidence
intervals of the ratio to the first of each group. The paper's figures stand beside them; it does not say how often
devices ask, how long texts are, or how often drafts are right, so those are ours (``dsdq sim list``).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from bench.options import options, write
from dsdq.sim.replications import differences, replicate, way
from dsdq.sim.runners import Runner, cores, processes
from dsdq.sim.scenario.reading import load_scenario
from dsdq.sim.variations import Variant

PRESETS, RTTS_MS, WORKLOADS = ("paper-20x600", "paper-20x1000"), (10, 30), ("gsm8k", "cnn-dailymail", "humaneval")
POLICIES = {"static": "static:4", "threshold": "threshold:0.7", "awc": "awc"}
ROUTES, QUICK_ROUTES = ("random", "round-robin", "jsq", "power-of-two"), ("random", "jsq")
ORDERS = ("fifo", "length")
CLOSED = "devices.*.arrivals={think_s=0}"
THIRD_S, QUICK_THIRD_S = {"gsm8k": 8, "cnn-dailymail": 24, "humaneval": 8}, 3
SHOWN = ("requests_per_s", "tokens_per_s", "tpot_ms", "ttft_ms")
CLAIMS = (
    "the paper: +9.7 % throughput over static:4 (GSM8K, 20 x 600, 10 ms), TPOT 40.1 -> 36.2 ms; JSQ, LAB and AWC "
    "together 25.1 -> 28.1 requests/s"
)


def variant(preset: str, *sets: str) -> Variant:
    """Return a preset with settings upon it."""
    return Variant(dict(one.split("=", 1) for one in sets), load_scenario(preset, sets))


def effort(workload: str, *, quick: bool) -> tuple[str, ...]:
    """Return for how long devices ask, and how much of that is measured."""
    third_s = QUICK_THIRD_S if quick else THIRD_S[workload]
    return CLOSED, f"duration_s={3 * third_s}", f"warm_up_s={third_s}", f"cool_down_s={third_s}"


def windows_of(preset: str, rtt_ms: int, workload: str, *, quick: bool) -> dict[str, Variant]:
    """Return the policies of one cell."""
    cell = (f"devices.*.link.rtt_ms={rtt_ms}", f"workloads.default={workload}", *effort(workload, quick=quick))
    return {name: variant(preset, *cell, f"window.policy={policy}") for name, policy in POLICIES.items()}


def stacks(routes: Sequence[str], *, quick: bool) -> dict[str, Variant]:
    """Return all stacks of routing, batching and window, the naive one first; the preset's workload is GSM8K."""
    return {
        f"{route} {order} {policy}": variant(
            PRESETS[0],
            *effort(WORKLOADS[0], quick=quick),
            f"routing.policy={route}",
            f"batching.order={order}",
            f"window.policy={POLICIES[policy]}",
        )
        for policy, order, route in product(("static", "awc"), ORDERS, routes)
    }


def measure(run: Runner, variants: Mapping[str, Variant], seeds: int) -> dict[str, Any]:
    """Return each variant's figures, and how it differs from the first."""
    outcomes = replicate(run, {name: one.scenario for name, one in variants.items()}, seeds)
    first = next(iter(variants))
    return {
        name: way(variants[name], outcomes[name]) | {"against_first": differences(outcomes[first], outcomes[name])}
        for name in variants
    }


def show(title: str, found: Mapping[str, Any]) -> None:
    """Print a group."""
    print(f"\n{title}\n{'':<24}" + "".join(f"{name:>30}" for name in SHOWN))
    for name, one in found.items():
        cells = []
        for figure in SHOWN:
            against = one["against_first"][figure]
            low, high = against["ratio_interval"] or (float("nan"), float("nan"))
            cells.append(f"{one['figures'][figure]:>11,.1f} {against['ratio']:.3f} ({low:.3f}-{high:.3f})")
        print(f"{name:<24}" + "".join(cells), flush=True)


def main() -> int:
    """Measure, print, write."""
    parser = options(__doc__, quick="one cell and half of the stacks, shorter, 3 seeds")
    parser.add_argument("--seeds", type=int, default=0, help="replications (10; quick: 3)")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes")
    parser.add_argument("--only", choices=("windows", "stack"), help="one of the two parts")
    arguments = parser.parse_args()
    seeds = arguments.seeds or (3 if arguments.quick else 10)
    cells = [(PRESETS[0], 10, "gsm8k")] if arguments.quick else list(product(PRESETS, RTTS_MS, WORKLOADS))
    routes = QUICK_ROUTES if arguments.quick else ROUTES
    result: dict[str, Any] = {"seeds": seeds, "claims": CLAIMS, "windows": {}, "stack": {}}
    print(CLAIMS)
    with processes(arguments.jobs) as run:
        for cell in cells if arguments.only != "stack" else ():
            title = "{}, {} ms, {}".format(*cell)
            result["windows"][title] = found = measure(run, windows_of(*cell, quick=arguments.quick), seeds)
            show(title, found)
        if arguments.only != "windows":
            result["stack"] = found = measure(run, stacks(routes, quick=arguments.quick), seeds)
            show("routing, batching, window", found)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} CPUs"
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
