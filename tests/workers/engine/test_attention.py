from __future__ import annotations

import torch
from workers.engine.kv import BLOCK, Pool

from workers.engine.attention import Masks, Run, Step


def test_a_layer_on_another_device_finds_the_steps_indices_there_once() -> None:
    here, there = torch.device("cpu"), torch.device("meta")
    index = torch.arange(3)
    step = Step(pool=Pool(BLOCK), masks=Masks(), write_index=index, tile_index=index, slots=8, runs=())
    assert step.on(here) is step
    moved = step.on(there)
    assert (moved.write_index.device, moved.tile_index.device) == (there, there)
    assert (moved.pool, moved.masks, moved.slots) == (step.pool, step.masks, step.slots)
    assert step.on(there) is moved


def test_each_device_has_masks_of_its_own() -> None:
    masks, run = Masks(), Run(slot=0, tiles=1, first=0, base=0, length=BLOCK)
    for place in ("cpu", "meta"):
        assert masks.view(run, None, 1, torch.empty(0, device=place)).device.type == place
