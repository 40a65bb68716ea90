"""How near policies come to the best fixed way, in worlds that no network was trained on.

The oracle is the fastest of the four ways that were labelled best, simulated again on the policies' own texts: chosen
with hindsight, kept throughout. Those texts are longer than the ones that labels are from. A policy starts each text
knowing nothing, and what it tries counts. It may do better than the oracle where texts differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dsdq.policies.window import Offer, WindowPolicy, awc, awc_paper, load_policy
from dsdq.policies.window.ways import WAYS
from dsdq.sim.awc.labels import Labelled, pace, spec
from dsdq.sim.awc.worlds import World
from dsdq.sim.run import simulate
from dsdq.sim.runners import spread

OURS, PAPERS = "awc", "awc:paper"
SINGLE_TOKENS, FLEET_TOKENS, LEAST_TOKENS = 800, 1600, 128
_NEARLY_BEST = 4
POLICIES = (OURS, PAPERS, "optimal", "static:4")
"""No ``threshold``: these worlds' drafters tell nothing of how sure they are."""


def shares(held_out: Sequence[Labelled], weights: Path, paper: Path, jobs: int) -> Iterator[dict[str, float]]:
    """Give, world by world, each policy's rate as a share of the oracle's.

    Args:
        held_out: worlds with their labels.
        weights: those of ``awc``.
        paper: those of ``awc:paper``.
        jobs: processes.
    """
    return spread(partial(shares_of, weights=weights, paper=paper), held_out, jobs)


def shares_of(one: Labelled, weights: Path, paper: Path) -> dict[str, float]:
    """Return what each policy comes to in one world, as a share of the oracle's rate."""
    load, world = partial(_load, weights, paper), longer(one.world)
    nearly = sorted(one.rates, key=lambda way: -one.rates[way])[:_NEARLY_BEST]
    best = max(pace(simulate(world.scenario(spec(WAYS[way])))) for way in nearly)
    scenario = world.scenario("optimal")  # whose policy is loaded by name here
    return {policy: pace(simulate(scenario, load=partial(load, policy))) / best for policy in POLICIES}


def longer(world: World) -> World:
    """Return the world with longer texts: labels need no more tokens than tell ways apart, answers have more."""
    if world.sessions == 1:
        return replace(world, tokens=SINGLE_TOKENS)
    return replace(world, tokens=max(LEAST_TOKENS, min(SINGLE_TOKENS, FLEET_TOKENS // world.sessions)))


def _load(weights: Path, paper: Path, policy: str, _: str, offer: Offer) -> WindowPolicy:
    """Return a policy, one of a network from the files that are evaluated."""
    if policy == OURS:
        return awc.Awc(awc.trained(weights), offer)
    if policy == PAPERS:
        return awc_paper.PaperAwc(awc_paper.trained(paper), offer)
    return load_policy(policy, offer)


Gaps = dict[str, dict[str, dict[str, float]]]


def summary(held_out: Sequence[Labelled], found: Sequence[Mapping[str, float]]) -> Gaps:
    """Return each policy's gap to the oracle, over all worlds, those of one session, and those of several.

    A gap is 1 less the share: its mean, median and 95th percentile, and the mean when it counts as 0 where a policy did
    better than the oracle (``clipped``);
    ``beats_optimal`` is the mean of what a policy's rate is more than ``optimal``'s in the same world.
    """
    several = np.asarray([one.world.sessions > 1 for one in held_out])
    groups = {"all": np.full(len(several), fill_value=True), "single": ~several, "fleet": several}
    return {
        policy: {name: _gaps(found, policy, group) for name, group in groups.items() if group.any()}
        for policy in POLICIES
    }


def _gaps(found: Sequence[Mapping[str, float]], policy: str, group: np.ndarray) -> dict[str, float]:
    ours, theirs = (np.asarray([one[name] for one in found])[group] for name in (policy, "optimal"))
    gaps = 1 - ours
    return {
        "mean": float(gaps.mean()),
        "clipped": float(np.maximum(gaps, 0.0).mean()),
        "median": float(np.median(gaps)),
        "p95": float(np.percentile(gaps, 95)),
        "beats_optimal": float((ours / theirs).mean() - 1),
        "worlds": int(group.sum()),
    }
