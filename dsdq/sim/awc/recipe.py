"""From nothing to weights and their card: label worlds, train on most of them, and evaluate on those kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from dsdq.policies.window.ways import BASIS, CORRECTIONS, SHAPES
from dsdq.sim.awc.card import card
from dsdq.sim.awc.evaluate import OURS, PAPERS, Gaps, shares, summary
from dsdq.sim.awc.labels import Labelled, labelled
from dsdq.sim.awc.lessons import papers, simulated
from dsdq.sim.awc.training import Course, Weighing, train, untrained, window_loss
from dsdq.sim.awc.watching import Moments, moments
from dsdq.sim.files import write_bytes, write_text

Say = Callable[[str], None]

_OURS, _PAPERS, _WEIGHING = Course(30, 2e-3), Course(150, 3e-3), Weighing()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is made.

    Attributes:
        scenarios: simulated worlds, a part of which is ``held_out`` and only evaluated on.
        seed: of worlds, weights and order.
        width: of the network.
        ours: the course of ``awc``'s network.
        paper: that of the paper's.
        weighing: of ``awc``'s losses.
        quick: whether it is one that only shows that all works: its weights are of no use.
    """

    scenarios: int = 2000
    seed: int = 1
    held_out: float = 0.1
    width: int = 48
    ours: Course = _OURS
    paper: Course = _PAPERS
    weighing: Weighing = _WEIGHING
    quick: bool = False

    def quickly(self) -> Recipe:
        """Return one that is done in a minute."""
        few = min(self.scenarios, 24)
        return replace(self, scenarios=few, ours=Course(10, 2e-3), paper=Course(10, 2e-3), quick=True)


def make(recipe: Recipe, out: Path, labels: Path, jobs: int, say: Say) -> dict[str, Any]:
    """Write weights of ``awc`` to ``out``, those of ``awc:paper`` and a card beside it; return the card.

    Args:
        recipe: what to make.
        out: a ``.safetensors`` file.
        labels: where labels are kept; what is there already is not done again.
        jobs: processes that simulate.
        say: is told how far it is.
    """
    torch.set_num_threads(1)  # products this small gain nothing from several, and would not repeat to the bit
    worlds = labelled(labels, recipe.seed, recipe.scenarios, jobs, _counting(recipe.scenarios, "worlds labelled", say))
    begin = round(len(worlds) * (1 - recipe.held_out))
    taught, kept_apart = ([one for one in part if one.lived_in] for part in (worlds[:begin], worlds[begin:]))
    files = {OURS: out, PAPERS: out.with_name(f"{out.stem}-paper.safetensors")}
    watched = moments(taught, jobs, _counting(len(taught), "worlds watched", say))
    losses = {
        OURS: _ours(recipe, watched, files[OURS], say),
        PAPERS: _papers(recipe, watched, files[PAPERS], say),
    }
    gaps = evaluate(kept_apart, files[OURS], files[PAPERS], jobs, say)
    told = card(files, asdict(recipe), losses, gaps)
    write_text("--out", out.with_suffix(".json"), json.dumps(told, indent=2) + "\n")
    return told


def evaluate(held_out: Sequence[Labelled], weights: Path, paper: Path, jobs: int, say: Say) -> Gaps:
    """Return the gaps of all policies in worlds kept apart."""
    each = _counting(len(held_out), "worlds evaluated", say)
    found = []
    for one in shares(held_out, weights, paper, jobs):
        found.append(one)
        each()
    return summary(held_out, found)


def _ours(recipe: Recipe, taught: Sequence[Moments], out: Path, say: Say) -> dict[str, list[float]]:
    lessons = simulated(taught)
    network = untrained(lessons, recipe.width, len(CORRECTIONS), recipe.seed)
    held = recipe.weighing.held * SHAPES
    losses = _ends(train(network, lessons, BASIS, recipe.ours, recipe.seed, recipe.weighing.loss, held))
    say(f"awc: loss {_arrow(losses)} on {len(lessons)} moments of {len(taught)} worlds")
    write_bytes("--out", out, save(network.weights()))
    return {"rates": losses}


def _papers(recipe: Recipe, taught: Sequence[Moments], out: Path, say: Say) -> dict[str, list[float]]:
    lessons = papers(taught)
    network = untrained(lessons, recipe.width, 1, recipe.seed)
    losses = _ends(train(network, lessons, np.ones((1, 1), np.float32), recipe.paper, recipe.seed, window_loss))
    say(f"awc:paper: loss {_arrow(losses)} tokens")
    write_bytes("--out", out, save(network.weights()))
    return {"windows": losses}


def _ends(losses: Iterable[float]) -> list[float]:
    """Return the first and the last."""
    every = list(losses)
    return [every[0], every[-1]]


def _arrow(losses: Sequence[float]) -> str:
    return f"{losses[0]:.3f} to {losses[1]:.3f}"


def _counting(of: int, what: str, say: Say) -> Callable[[], None]:
    done = 0

    def _each() -> None:
        nonlocal done
        done += 1
        if done % max(of // 10, 1) == 0:
            say(f"{done} of {of} {what}")

    return _each
