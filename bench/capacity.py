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
was recorded before; each token takes a stated time. Variants: ``pair`` is the built-in pair as it is; ``stated`` is the
hash model, whose passes and drafts take stated times: 30 ms for a pass, 0.1 ms for each of its positions, 4 ms for one
more draft token of the batch. A whole run takes about 12 minutes, a quick one 4.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

SLOTS, CLIENTS_PER_CONNECTION = 256, 16
os.environ |= {"DSDQ_SLOTS": str(SLOTS), "DSDQ_STEP_TOKENS": "2048", "DSDQ_INBOX_BOUND": "8192"}

import psutil

import dsdq
from bench.cores import CLOUD_CORE, DEVICE_CORE, on_core
from bench.picture import pyplot
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.contract import Contract, Sampling
from dsdq.drafting import TO_THE_END, DraftSession, GoOn, Proposal
from dsdq.models.names import HASH_TARGET
from dsdq.models.prompts import builtin_prompts
from dsdq.models.tokenizer import Tokenizer
from dsdq.tasks import end
from producers.demo.fleet import verifier

DEVICE, COLOCATED, TARGET_ONLY, OPTIMAL = "device", "co-located", "target-only", "optimal"
WINDOW, DEPTH = 4, 2
DEVICE_TOKEN_MS = 2.0
GROWTH = 2**0.5


@dataclass(frozen=True, slots=True)
class Variant:
    """A target, the verifier's own drafter, and the TPOT that clients are to have.

    ``step_ms``, ``position_ms`` and ``draft_ms`` are the stated times of the hash model; the chance that it is drafted
    right is in the drafter's name.
    """

    name: str
    about: str
    target: str
    own_draft: str
    objective_ms: float
    step_ms: float = 0.0
    position_ms: float = 0.0
    draft_ms: float = 0.0


VARIANTS = (
    Variant("pair", "the built-in pair", "builtin/target", "builtin/draft", 6.0),
    Variant("stated", "30 ms + 0.1 ms a position, 4 ms a draft token", HASH_TARGET, "hash:0.8:4", 25.0, 30.0, 0.1, 4.0),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """Recorded texts, their tokens, and seconds: before a crowd is looked at, and while it is."""

    texts: int = 16
    tokens: int = 192
    settle_s: float = 3.0
    watch_s: float = 6.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A prompt, the target's text behind it, and at which of its places a draft is wrong."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    wrong: frozenset[int]


class Replay:
    """Drafts a text that is known, wrong where it was drafted wrong before, each token in ``DEVICE_TOKEN_MS``."""

    fingerprint, brief = "", False

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        """Return the drafter: it keeps nothing of a session."""
        del contract, tokenizer
        return self

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return what follows in the record; a wrong token is the right one's neighbour."""
        recorded, began_s, tokens = self._recorded, perf_counter(), list[int]()
        place = len(text) - len(recorded.prompt)
        for at in range(place, min(place + window, len(recorded.ids))):
            tokens.append(recorded.ids[at] ^ 1 if at in recorded.wrong else recorded.ids[at])
            sleep(max(0.0, began_s + len(tokens) * DEVICE_TOKEN_MS / 1000 - perf_counter()))
            if len(tokens) < window and not go_on(tokens, None):
                break
        return Proposal(tuple(tokens))


@dataclass
class Seen:
    """What a crowd showed while it was looked at.

    For each client its seconds between verdicts and the tokens of these; of verdicts the pass's milliseconds and rows.
    """

    waited_s: list[float]
    tokens: list[int]
    verify_ms: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    @property
    def tpot_ms(self) -> float:
        """Return the median client's time per output token; a client that got none has waited for one."""
        return 1000 * median(s / max(n, 1) for s, n in zip(self.waited_s, self.tokens, strict=True))


class Crowd:
    """Clients of one service: ``size`` of them at a time."""

    def __init__(self, url: str, records: Sequence[Recorded], way: str, effort: Effort) -> None:
        self._url, self._records, self._way, self._effort = url, records, way, effort

    async def watch(self, size: int) -> Seen:
        """Let so many clients come, wait until they have settled, and look at them for a while."""
        effort = self._effort
        begins_s = perf_counter() + effort.settle_s
        span = (begins_s, begins_s + effort.watch_s)
        seen = Seen([0.0] * size, [0] * size)
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(dsdq.connect(self._url))
                for _ in range(-(-size // CLIENTS_PER_CONNECTION))
            ]
            clients = [
                asyncio.create_task(self._client(connections[number // CLIENTS_PER_CONNECTION], number, span, seen))
                for number in range(size)
            ]
            await asyncio.wait(clients, timeout=span[1] - perf_counter(), return_when=asyncio.FIRST_EXCEPTION)
            for client in clients:
                if client.done():
                    client.result()
            await end(*clients)
        return seen

    async def _client(self, connection: dsdq.Client, number: int, span: tuple[float, float], seen: Seen) -> None:
        for text in count(number):
            record = self._records[text % len(self._records)]
            generation = connection.generate(record.prompt, **self._terms(record))
            last_s, verdicts, tokens = perf_counter(), 0, 0
            async for _ in generation:
                tokens += 1
                stats = generation.stats
                if len(stats.verify_ms) == verdicts:
                    continue  # of the same verdict
                now_s, newest = perf_counter(), len(stats.verify_ms)
                if verdicts and span[0] <= last_s and now_s <= span[1]:
                    seen.waited_s[number] += now_s - last_s
                    seen.tokens[number] += tokens - 1
                    seen.verify_ms += stats.verify_ms[verdicts:newest]
                    seen.rows += stats.batch_rows[verdicts:newest]
                last_s, verdicts, tokens = now_s, newest, 1

    def _terms(self, record: Recorded) -> dict[str, Any]:
        policies = {
            DEVICE: f"static:{WINDOW}:{DEPTH}",
            COLOCATED: f"co-located:{WINDOW}",
            TARGET_ONLY: "target-only",
            OPTIMAL: "optimal",
        }
        return {
            "draft": Replay(record),
            "policy": policies[self._way],
            "window": WINDOW if self._way != OPTIMAL else 4 * WINDOW,
            "depth": DEPTH,
            "max_tokens": len(record.ids),
            "ignore_eos": True,
            "seed": 0,
        }


# The texts


async def record(url: str, variant: Variant, effort: Effort) -> list[Recorded]:
    """Have every text generated with the verifier's own drafts, and note where these were wrong."""
    tokenizer = Tokenizer.load(variant.target if variant.target != HASH_TARGET else "builtin/target")
    prompts = [tuple(tokenizer.encode(text)) for text in builtin_prompts()[: effort.texts]]
    async with dsdq.connect(url) as client:
        return [await _recorded(client, prompt, effort.tokens) for prompt in prompts]


async def _recorded(client: dsdq.Client, prompt: tuple[int, ...], tokens: int) -> Recorded:
    wrong = set[int]()
    # At the places of bonus tokens nothing was drafted; another window drafts there.
    for window in (WINDOW, WINDOW + 1):
        generation = client.generate(
            prompt,
            draft="none",
            policy=f"co-located:{window}",
            window=window,
            max_tokens=tokens,
            ignore_eos=True,
            sampling=Sampling(),
            seed=0,
        )
        kinds = [token.kind async for token in generation]
        wrong |= {place for place, kind in enumerate(kinds) if kind is dsdq.TokenKind.CORRECTION}
    return Recorded(prompt, tuple(generation.ids), frozenset(wrong))


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
    print(f"\n{variant.name}: {variant.about}; objective {variant.objective_ms:g} ms a token, gamma {WINDOW}")
    print(f"{'way':<13}{'clients':>8}{'TPOT ms':>9}{'tokens/s':>10}{'pass ms':>9}{'rows':>6}{'clients core':>14}")
    for way in (TARGET_ONLY, COLOCATED, DEVICE, OPTIMAL):
        async with service(variant) as url:
            records = await record(url, variant, effort)
            ways[way] = await grow(Crowd(url, records, way, effort), way, variant.objective_ms)
    served = {way: capacity(rows, variant.objective_ms) for way, rows in ways.items()}
    at = min(ways[DEVICE], key=lambda row: abs(row["clients"] - served[DEVICE]))
    draft_ms = variant.draft_ms or draft_token_ms(variant, records, round(served[COLOCATED]))
    found = {
        "about": variant.about,
        "objective_ms": variant.objective_ms,
        "gamma": WINDOW,
        "clients": served,
        "capacity_ratio": served[DEVICE] / served[COLOCATED],
        "bound": 1 + WINDOW * draft_ms / at["verify_ms"],
        "t_d_ms": draft_ms,
        "t_v_ms": at["verify_ms"],
        "over_target_only": {way: served[way] / served[TARGET_ONLY] for way in (COLOCATED, DEVICE, OPTIMAL)},
        "ways": ways,
    }
    shown = ", ".join(f"{way} {clients:.1f}" for way, clients in served.items())
    print(f"clients: {shown}; device/co-located {found['capacity_ratio']:.3f}, bound {found['bound']:.3f}", flush=True)
    return found


def draft_token_ms(variant: Variant, records: Sequence[Recorded], rows: int) -> float:
    """Return what one more draft token of so many texts takes the verifier's own drafter, on the verifier's core."""
    from dsdq.settings import settings  # noqa: PLC0415 - settings are read above this
    from workers.engine.colocated import Wish  # noqa: PLC0415 - torch
    from workers.verifier.model import load_drafter  # noqa: PLC0415 - torch

    with on_core(CLOUD_CORE):
        drafter = load_drafter(variant.own_draft, variant.target, "cpu", "float32", settings())
        times = []
        for length in range(32, 112, 2):
            wishes = [_wish(Wish, variant, records[row % len(records)], row, length) for row in range(max(rows, 1))]
            began_s = perf_counter()
            drafter.draft(wishes)
            times.append(1000 * (perf_counter() - began_s) / WINDOW)
    return median(times[5:])


def _wish(kind: type, variant: Variant, record: Recorded, row: int, length: int) -> Any:  # noqa: ANN401 - loaded late
    contract = Contract("default", "phone", f"s{row}", variant.target, "f", max_window=WINDOW)
    text = (*record.prompt, *record.ids[:length])
    return kind(f"s{row}", contract, text, len(record.prompt), WINDOW)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter texts, less time for each crowd")
    parser.add_argument("--variants", nargs="+", choices=[one.name for one in VARIANTS])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a file such as capacity.png; needs matplotlib")
    arguments = parser.parse_args()
    variants = [one for one in VARIANTS if not arguments.variants or one.name in arguments.variants]
    effort = Effort(texts=8, tokens=128, settle_s=1.5, watch_s=2.5) if arguments.quick else Effort()
    with on_core(DEVICE_CORE):
        result = asyncio.run(run(variants, effort))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.plot:
        draw(result["variants"], arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
