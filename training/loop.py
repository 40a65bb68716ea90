"""One training run: warm-up, constant, linear decay; saved often, resumed where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training.muon import optimizers

WARM_UP_STEPS = 50
CONSTANT_SHARE = 0.6
LAST_RATE = 0.02
SAVE_EVERY_STEPS = 50

Loss = Callable[[int], torch.Tensor]
"""From the number of a step to the loss of its batch: a step's batch depends on its number alone, so a resumed run is
the same run."""


@dataclass(frozen=True, slots=True)
class Run:
    """How long a run is and where it keeps its state."""

    steps: int
    state: Path
    name: str


def rate(step: int, steps: int) -> float:
    """The learning rate's factor at `step`."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    start = steps * CONSTANT_SHARE
    return 1.0 if step < start else max(LAST_RATE, 1 - (1 - LAST_RATE) * (step - start) / (steps - start))


def train(model: nn.Module, loss_of: Loss, run: Run) -> None:
    """Train `model` in place."""
    pair = optimizers(model)
    first = [[group["lr"] for group in optimizer.param_groups] for optimizer in pair]
    step = _resume(model, pair, run.state)
    began, loss_sum, count = time.monotonic(), 0.0, 0
    model.train()
    while step < run.steps:
        for optimizer, rates in zip(pair, first, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr * rate(step, run.steps)
        loss = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in pair:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, loss_sum, count = step + 1, loss_sum + loss.item(), count + 1
        if step % 25 == 0 or step == run.steps:
            seconds = time.monotonic() - began
            print(f"{run.name} step {step}/{run.steps} loss {loss_sum / count:.3f} after {seconds:.0f} s", flush=True)
            loss_sum, count = 0.0, 0
        if step % SAVE_EVERY_STEPS == 0 or step == run.steps:
            _save(model, pair, step, run.state)
    model.eval()


def _save(model: nn.Module, pair: list[torch.optim.Optimizer], step: int, path: Path) -> None:
    whole = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in pair], "step": step}
    partial = path.with_suffix(".partial")
    torch.save(whole, partial)
    partial.replace(path)


def _resume(model: nn.Module, pair: list[torch.optim.Optimizer], path: Path) -> int:
    if not path.exists():
        return 0
    whole = torch.load(path, weights_only=True)
    model.load_state_dict(whole["model"])
    for optimizer, state in zip(pair, whole["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return int(whole["step"])
