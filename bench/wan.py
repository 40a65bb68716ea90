"""Far from the verifier: what each way to work comes to over a slow link, and whether ``optimal`` finds the best one.

    python bench/wan.py [--quick] [--variants NAME ...] [--rtt MS ...] [--texts N] [--json FILE] [--plot FILE]

Redis and the verifier run on one core, the device in a process on the other; between them is the delay proxy of
``dsdq.testing``, with round trips of 0 to 200 ms, a tenth of that as jitter, and 10 Mbit/s. Every text is generated in
all ways, in turns:

    cloud-ar     the target decodes alone and streams: no round trip for a token
    co-located   the verifier drafts too, and streams
    sync         the device drafts one window at a time and waits, as published edge systems do
    pipelined    the device drafts on while windows are on their way
    backoff      dsdq's policy that measures no time
    awc          the learned policy, with all of the modes above on offer
    optimal      dsdq's adaptive policy, likewise

A device has made a short text under each adaptive policy before, as one that is in use has: ``awc`` and ``optimal``
begin with what that showed. The first four are given their own best fixed window (and depth): the best by the formulas
and those beside it are measured on the first text, the fastest goes on. All run on dsdq's engine, so that only the
strategy differs.

Variants: ``pair`` is the built-in pair as it is. The others are the hash model with stated times, which do not depend
on this machine: 30 ms for a pass and 0.3 ms for each of its positions, and a drafter that is right by chance.
``slow-target`` drafts a token in 1 ms and ``slow-device`` in 3 ms (a verifier's own drafter takes 1 ms), both right in
80 %, ``poor-draft`` in 10 %.

Rates count what came behind the adaptive policy's first ten rounds, of the same text in all ways; ratios are medians
over texts. ``awc_share_of_best_mode`` counts likewise behind the first ten rounds of ``awc``. ``share_of_simulated``
holds the pipelined way against the pure simulation (``dsdq.policies.pipeline``) at the measured times, with the same
guesses right and wrong, and ``pipelined_vs_sync`` against the synchronous one: both from the first verdict on, since
fixed ways have nothing to find out. A quick run takes four minutes, a whole one about 40.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from bench.options import options, write
from bench.wan_picture import draw
from bench.wan_world import (
    ADAPTIVE,
    CALIBRATION,
    LEARNED,
    PEERS,
    RTTS_MS,
    WARM_UP_ROUNDS,
    Repeat,
    Way,
    candidates,
    qualified,
    speeds_of,
    summary,
)
from dsdq.policies.window.rates import Speeds
from dsdq.sim.validate import Effort
from producers.twin.world import BYTES_PER_S, JITTER, VARIANTS, Variant, World, run, world

EFFORT = Effort(texts=3, tokens=900, limit_s=3.0, rounds=WARM_UP_ROUNDS)
QUICK_EFFORT = replace(EFFORT, texts=1, limit_s=2.0)
QUICK_RTTS_MS, QUICK_VARIANTS = (0, 30, 200), ("pair", "slow-device")
SPEEDUPS = (*PEERS, "share_of_best_mode", "awc_share_of_best_mode", "share_of_simulated", "pipelined_vs_sync")


class Bench:
    """Measures in one variant's world."""

    def __init__(self, world: World, effort: Effort) -> None:
        self._world, self._variant, self._effort = world, world.variant, effort

    async def calibrate(self) -> Speeds:
        """Measure the variant's speeds over a link without delay."""
        _, repeat = await self._text(0, 0, CALIBRATION)
        return speeds_of([repeat])

    async def cell(self, rtt_ms: int, calibrated: Speeds) -> dict[str, Any]:
        """Measure all ways at one round trip time."""
        speeds = Speeds(**asdict(calibrated) | {"network_ms": calibrated.network_ms + rtt_ms})
        own_draft_ms = float(self._variant.own_draft.split(":")[2]) if self._variant.emulated else speeds.draft_ms
        ways = candidates(speeds, own_draft_ms)
        links, repeats = [], list[Repeat]()
        for text in range(self._effort.texts):
            link_ms, repeat = await self._text(rtt_ms, text, ways[text:] + ways[:text])
            if not text:
                ways = qualified(repeat)
            links.append(link_ms)
            repeats.append(repeat)
        return {"link_ms": median(links)} | summary(repeats)

    async def _text(self, rtt_ms: int, text: int, ways: Sequence[Way]) -> tuple[float, Repeat]:
        """Let a device generate one text in the given ways; return the link's round trip too."""
        policies = [way.policy for way in ways]
        learning = [one for one in policies if one in {ADAPTIVE, LEARNED}]
        link_ms, found = await self._world.texts(
            rtt_ms, text, policies, self._effort.tokens, self._effort.limit_at(rtt_ms), learning
        )
        return link_ms, {way: runs[0] for way, runs in zip(ways, found, strict=True)}


async def measure(variants: Sequence[Variant], rtts_ms: Sequence[int], effort: Effort) -> dict[str, Any]:
    """Measure and print every cell, variant by variant; return the JSON result."""
    found = {}
    for variant in variants:
        cells = {}
        async with world(variant) as there:
            bench = Bench(there, effort)
            calibrated = await bench.calibrate()
            print_variant(variant, calibrated)
            for rtt_ms in rtts_ms:
                cells[str(rtt_ms)] = cell = await bench.cell(rtt_ms, calibrated)
                print_cell(rtt_ms, cell)
        ratios = {key: {rtt: cell[key] for rtt, cell in cells.items() if key in cell} for key in SPEEDUPS}
        found[variant.name] = {"about": variant.about, **ratios, "by_rtt_ms": cells}
    first = found[variants[0].name]
    return {
        **{key: first[key] for key in SPEEDUPS},
        "variant": variants[0].name,
        "variants": found,
        "jitter": JITTER,
        "bytes_per_s": BYTES_PER_S,
        "effort": asdict(effort),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def print_variant(variant: Variant, speeds: Speeds) -> None:
    """Print a variant's header."""
    ratio = float(speeds.pass_ms(1)) / speeds.draft_ms
    print(
        f"\n{variant.name}: {variant.about}; measured {speeds.pass_ms(1):.1f} ms against {speeds.draft_ms:.2f} ms, "
        f"{ratio:.0f} to 1; acceptance {speeds.acceptance:.2f}"
    )
    print(
        f"{'RTT':>5} {'measured':>8}  {'mode':<12}{'policy':<16}{'tokens/s':>9}{'TPOT ms':>9}{'TTFT ms':>9}"
        f"{'wasted':>8}{'B/token':>9}{'tok/round':>10}{'optimal is':>11}"
    )


def print_cell(rtt_ms: int, cell: dict[str, Any]) -> None:
    """Print what a round trip time came to."""
    ours = cell["modes"]["optimal"]["tokens_per_s"]
    for mode, one in cell["modes"].items():
        wasted = "-" if one["wasted_drafts"] is None else f"{one['wasted_drafts']:.0%}"
        print(
            f"{rtt_ms:>5} {cell['link_ms']:>8.1f}  {mode:<12}{one['policy']:<16}{one['tokens_per_s']:>9.1f}"
            f"{one['tpot_ms']:>9.2f}{one['ttft_ms']:>9.1f}{wasted:>8}{one['bytes_per_token']:>9.1f}"
            f"{one['tokens_per_verdict']:>10.2f}{ours / one['tokens_per_s']:>10.2f}x"
        )
    print(
        f"{'':>15} best {cell['best_mode']}; optimal {cell['share_of_best_mode']:.3f} of it, awc "
        f"{cell['awc_share_of_best_mode']:.3f}; pipelined "
        f"{cell['share_of_simulated']:.3f} of the simulation, {cell['pipelined_vs_sync']:.2f}x sync",
        flush=True,
    )


def main() -> int:
    """Measure, print, write, draw."""
    parser = options(__doc__, quick="two variants, three round trips, one shorter text", plot="wan.png")
    parser.add_argument("--variants", nargs="+", choices=[one.name for one in VARIANTS])
    parser.add_argument("--rtt", nargs="+", type=int, metavar="MS", help="round trip times")
    parser.add_argument("--texts", type=int, metavar="N", help="of each way (3; quick: 1)")
    arguments = parser.parse_args()
    names = arguments.variants or (QUICK_VARIANTS if arguments.quick else [one.name for one in VARIANTS])
    variants = [one for one in VARIANTS if one.name in names]
    rtts_ms = arguments.rtt or (QUICK_RTTS_MS if arguments.quick else RTTS_MS)
    effort = QUICK_EFFORT if arguments.quick else EFFORT
    effort = replace(effort, texts=arguments.texts or effort.texts)
    for variant in variants:
        variant.check(effort.texts)
    result = run(measure(variants, rtts_ms, effort))
    write(result, arguments.json)
    if arguments.plot:
        draw(result, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
