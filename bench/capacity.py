"""How many clients does one verifier serve: with drafts from their devices, with drafts of its own, and without any?

    python bench/capacity.py [--quick] [--variants NAME ...] [--json FILE] [--plot FILE]

The verifier has a core of its own; Redis and the clients, one process for all, share another. Each client has a text
streamed, then the next one, and there are more and more of them until the median client's time per output token (TPOT)
misses its objective. The capacity is where it does, interpolated. Compared on the same engine:

    target-only  the target decodes alone
    co-located   the verifier drafts gamma tokens, all clients' in one batch, then verifies them
    device       the devices draft gamma tokens, two windows deep
    optimal      dsdq's adaptive policy, with all of these on offer

In ``device`` the verifier does what it does in ``co-located``, less the drafting. So with ``t_d`` for one more draft
token of the whole batch and ``t_v`` for its verification, its capacity is at most ``1 + gamma * t_d / t_v`` times as
large.

Devices are emulated: they know the text, and guess wrong where the verifier's own drafter did on the same text, which
was recorded before; each token takes a stated time. Variants: ``pair`` is the built-in pair as it is, devices drafting
a token in 0.2 ms; ``stated`` is the hash model, whose passes and drafts take stated times: 30 ms for a pass, 0.1 ms for
each of its positions, 4 ms for one more draft token of the batch, 2 ms for a device's. A whole run takes about 12
minutes, a quick one 4.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

# Set before anything reads settings: the verifier process inherits them, and the devices are in this one.
SLOTS = 256
os.environ |= {"DSDQ_SLOTS": str(SLOTS), "DSDQ_STEP_TOKENS": "2048", "DSDQ_INBOX_BOUND": "8192"}

import psutil

from bench.capacity_clients import COLOCATED, DEVICE, OPTIMAL, TARGET_ONLY, WINDOW, Crowd, Effort, Recorded, record
from bench.options import options, write
from bench.picture import pyplot
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.settings import settings
from dsdq.testing.cores import CLOUD_CORE, DEVICE_CORE, on_core
from producers.demo.fleet import verifier
from workers.engine.colocated import Wish
from workers.verifier.model import load_drafter

GROWTH = 2**0.5


@dataclass(frozen=True, slots=True)
class Variant:
    """A target, the verifier's own drafter, and the TPOT that clients are to have.

    Devices draft a token in ``device_ms``. ``step_ms``, ``position_ms`` and ``draft_ms`` are the stated times of the
    hash model; the chance that it is drafted right is in the drafter's name.
    """

    name: str
    about: str
    target: str
    own_draft: str
    objective_ms: float
    device_ms: float
    step_ms: float = 0.0
    position_ms: float = 0.0
    draft_ms: float = 0.0


VARIANTS = (
    Variant("pair", "the built-in pair", "builtin/target", "builtin/draft", 10.0, 0.2),
    Variant("stated", "30 ms a pass, 4 ms a draft token", HASH_TARGET, "hash:0.8:4", 25.0, 2.0, 30.0, 0.1, 4.0),
)


# One variant


@asynccontextmanager
async def service(variant: Variant) -> AsyncIterator[str]:
    """Run Redis, and the variant's verifier on the core of its own; give the address."""
    os.environ |= {
        "DSDQ_HASH_STEP_MS": str(variant.step_ms),
        "DSDQ_HASH_POSITION_MS": str(variant.position_ms),
        "DSDQ_COLOCATED_DRAFT": variant.own_draft,
    }
    async with EmbeddedRedis(port=0) as redis, AsyncExitStack() as stack:
        with on_core(CLOUD_CORE):
            await stack.enter_async_context(verifier(redis.url, variant.target))
        yield redis.url


async def grow(crowd: Crowd, way: str, objective_ms: float) -> list[dict[str, float]]:
    """Let ever more clients come until the objective is missed; return a row for each crowd."""
    rows, size = list[dict[str, float]](), 1.0
    process = psutil.Process()
    while size <= SLOTS and (not rows or rows[-1]["tpot_ms"] <= objective_ms):
        clients, cpu_s, began_s = round(size), sum(process.cpu_times()[:2]), perf_counter()
        seen = await crowd.watch(clients)
        busy = (sum(process.cpu_times()[:2]) - cpu_s) / (perf_counter() - began_s)
        rows.append(
            {
                "clients": clients,
                "tpot_ms": seen.tpot_ms,
                "tokens_per_s": sum(seen.tokens) * clients / max(sum(seen.waited_s), 1e-9),
                "verify_ms": median(seen.verify_ms) if seen.verify_ms else 0.0,
                "rows": median(seen.rows) if seen.rows else 0.0,
                "clients_core_busy": busy,
            }
        )
        print_row(way, rows[-1])
        size *= 2 if size < 8 else GROWTH
    return rows


def capacity(rows: Sequence[dict[str, float]], objective_ms: float) -> float:
    """Return at how many clients TPOT meets its objective, between the crowds that were measured."""
    for before, after in pairwise(rows):
        if before["tpot_ms"] <= objective_ms < after["tpot_ms"]:
            share = (objective_ms - before["tpot_ms"]) / (after["tpot_ms"] - before["tpot_ms"])
            return before["clients"] + share * (after["clients"] - before["clients"])
    return rows[-1]["clients"] if rows[-1]["tpot_ms"] <= objective_ms else 0.0


async def measure(variant: Variant, effort: Effort) -> dict[str, Any]:
    """Measure one variant."""
    ways = {}
    tokenizer = Tokenizer.load("builtin/target")  # the hash model's too
    print(f"\n{variant.name}: {variant.about}; objective {variant.objective_ms:g} ms a token, gamma {WINDOW}")
    print(f"{'way':<13}{'clients':>8}{'TPOT ms':>9}{'tokens/s':>10}{'pass ms':>9}{'rows':>6}{'clients core':>14}")
    for way in (TARGET_ONLY, COLOCATED, DEVICE, OPTIMAL):
        async with service(variant) as url:
            records = await record(url, tokenizer, effort)
            ways[way] = await grow(Crowd(url, records, way, variant.device_ms, effort), way, variant.objective_ms)
    served = {way: capacity(rows, variant.objective_ms) for way, rows in ways.items()}
    at = min(ways[DEVICE], key=lambda row: abs(row["clients"] - served[DEVICE]))
    draft_ms = variant.draft_ms or draft_token_ms(variant, records, round(served[COLOCATED]))
    found = {
        "about": variant.about,
        "objective_ms": variant.objective_ms,
        "gamma": WINDOW,
        "clients": served,
        "capacity_ratio": _over(served, COLOCATED)[DEVICE],
        "bound": 1 + WINDOW * draft_ms / at["verify_ms"],
        "t_d_ms": draft_ms,
        "t_v_ms": at["verify_ms"],
        "over_target_only": _over(served, TARGET_ONLY),
        "ways": ways,
    }
    shown = ", ".join(f"{way} {clients:.1f}" for way, clients in served.items())
    print(f"clients: {shown}; device/co-located {found['capacity_ratio']:.3f}, bound {found['bound']:.3f}", flush=True)
    return found


def _over(served: dict[str, float], way: str) -> dict[str, float]:
    """Return how many times as many clients each way serves; infinite where the other serves none."""
    return {one: clients / served[way] if served[way] else float("inf") for one, clients in served.items()}


def draft_token_ms(variant: Variant, records: Sequence[Recorded], rows: int) -> float:
    """Return what one more draft token of so many texts takes the verifier's own drafter, on the verifier's core."""
    with on_core(CLOUD_CORE):
        drafter = load_drafter(variant.own_draft, variant.target, "cpu", "float32", settings())
        times = []
        for length in range(32, 112, 2):
            wishes = [_wish(variant, records[row % len(records)], row, length) for row in range(max(rows, 1))]
            began_s = perf_counter()
            drafter.draft(wishes)
            times.append(1000 * (perf_counter() - began_s) / WINDOW)
    return median(times[5:])


def _wish(variant: Variant, record: Recorded, row: int, length: int) -> Wish:
    contract = Contract("default", "phone", f"s{row}", variant.target, "f", max_window=WINDOW)
    text = (*record.prompt, *record.ids[:length])
    return Wish(f"s{row}", contract, text, len(record.prompt), WINDOW)


# Showing


def print_row(way: str, row: dict[str, float]) -> None:
    """Print one crowd."""
    print(
        f"{way:<13}{row['clients']:>8.0f}{row['tpot_ms']:>9.2f}{row['tokens_per_s']:>10.1f}{row['verify_ms']:>9.2f}"
        f"{row['rows']:>6.0f}{row['clients_core_busy']:>14.0%}",
        flush=True,
    )


def draw(variants: dict[str, Any], file: Path) -> None:
    """Draw TPOT over the number of clients.

    Raises:
        DsdqError: matplotlib is not installed.
    """
    plt = pyplot()
    figure, plots = plt.subplots(1, len(variants), figsize=(6 * len(variants), 4), squeeze=False, layout="constrained")
    for axes, (name, one) in zip(plots.flat, variants.items(), strict=True):
        for way, rows in one["ways"].items():
            axes.plot([row["clients"] for row in rows], [row["tpot_ms"] for row in rows], "o-", label=way, markersize=4)
        axes.axhline(one["objective_ms"], linestyle="--", color="grey", label="objective")
        axes.set(
            title=f"{name}: {one['about']}", xlabel="clients", ylabel="ms per token, median client", ylim=(0, None)
        )
        axes.legend(loc="best", fontsize=8)
    figure.savefig(file, dpi=110)


async def run(variants: Sequence[Variant], effort: Effort) -> dict[str, Any]:
    """Measure all variants, and return the JSON result; its first figures are the first variant's."""
    with ThreadPoolExecutor(SLOTS) as drafting:  # a drafter sleeps as long as its tokens take
        asyncio.get_running_loop().set_default_executor(drafting)
        found = {variant.name: await measure(variant, effort) for variant in variants}
    first = found[variants[0].name]
    return {
        "capacity_ratio": first["capacity_ratio"],
        "bound": first["bound"],
        "variants": found,
        "effort": asdict(effort),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def main() -> int:
    """Measure, print, write, draw."""
    parser = options(__doc__, quick="shorter texts, less time for each crowd", plot="capacity.png")
    parser.add_argument("--variants", nargs="+", choices=[one.name for one in VARIANTS])
    arguments = parser.parse_args()
    variants = [one for one in VARIANTS if not arguments.variants or one.name in arguments.variants]
    effort = Effort(texts=8, tokens=128, settle_s=1.5, watch_s=2.5) if arguments.quick else Effort()
    with on_core(DEVICE_CORE):
        result = asyncio.run(run(variants, effort))
    write(result, arguments.json)
    if arguments.plot:
        draw(result["variants"], arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
