"""The weights that are shipped, at work: in the first few worlds of one session that their training kept apart."""

from __future__ import annotations

import json
from statistics import fmean

from dsdq.policies.window import awc, awc_paper
from dsdq.sim.awc.evaluate import shares_of
from dsdq.sim.awc.labels import label

WORLDS = 6


def test_shipped_weights_come_near_the_best_fixed_way_in_worlds_kept_apart() -> None:
    recipe = json.loads(awc.WEIGHTS.with_suffix(".json").read_text())["recipe"]
    number = round(recipe["scenarios"] * (1 - recipe["held_out"]))
    found = []
    while len(found) < WORLDS:
        world, number = label(recipe["seed"], number), number + 1
        if world.world.sessions == 1:
            found.append(shares_of(world, awc.WEIGHTS, awc_paper.WEIGHTS))
    assert fmean(one["awc"] for one in found) > 0.94
    assert fmean(one["awc"] for one in found) > fmean(one["static:4"] for one in found) + 0.2
