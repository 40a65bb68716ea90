"""The live workload of ``dsdq sim validate``: every way to work, over links of every length, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsdq.errors import ConfigError
from dsdq.sim.validate import Cell, Effort, halves
from producers.twin.world import CROWD, VARIANTS, Variant, World, run, world

POLICIES = ("target-only", "co-located:8", "static:8:1", "static:4:3", "optimal")
"""The target alone, drafts of the verifier's own, one window at a time, several in flight, and dsdq's choice."""

ALL = (*VARIANTS, CROWD)

Watch = Callable[[str], None]


def measure(names: Sequence[str], rtts_ms: Sequence[float], effort: Effort, watch: Watch) -> list[Cell]:
    """Generate everything live; ``watch`` is told what is next.

    Args:
        names: of variants; all if there are none.
        rtts_ms: mean round trips.
        effort: how much of each.
        watch: takes a sentence for people.

    Raises:
        ConfigError: a variant is not known, or has not so many texts.
        DsdqError: a process ended too early.
    """
    variants = [_named(name) for name in dict.fromkeys(names)] or list(ALL)
    for variant in variants:
        variant.check(max(first for _, _, first in halves(rtts_ms, effort.texts)) + effort.texts)
    return run(_measure(variants, rtts_ms, effort, watch))


async def _measure(variants: Sequence[Variant], rtts_ms: Sequence[float], effort: Effort, watch: Watch) -> list[Cell]:
    cells = list[Cell]()
    for variant in variants:
        async with world(variant) as there:
            for half, rtt_ms, first in halves(rtts_ms, effort.texts):
                watch(f"{variant.name}, {rtt_ms:g} ms")
                cells += await _cells(there, half, rtt_ms, first, effort)
    return cells


async def _cells(there: World, half: int, rtt_ms: float, first: int, effort: Effort) -> list[Cell]:
    """Return what each policy came to at one round trip; they take turns, so that what disturbs one disturbs all."""
    limit_s = effort.limit_at(rtt_ms)
    runs = [
        (await there.texts(rtt_ms, text, POLICIES, effort.tokens, limit_s))[1]
        for text in range(first, first + effort.texts)
    ]
    return [
        Cell(
            there.variant.name,
            half,
            rtt_ms,
            policy,
            limit_s,
            tuple(text for run in runs for text in run[number]),
        )
        for number, policy in enumerate(POLICIES)
    ]


def _named(name: str) -> Variant:
    for variant in ALL:
        if variant.name == name:
            return variant
    raise ConfigError(f"--variants: expected some of {', '.join(one.name for one in ALL)}, got {name!r}")
