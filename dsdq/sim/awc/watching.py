"""What devices would know while they work in some way: the features that a network learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsdq.policies.window import Choice, Mode, Observation, Offer, WindowPolicy
from dsdq.policies.window.awc import beginning
from dsdq.policies.window.awc_paper import Smoothed
from dsdq.policies.window.every import searched
from dsdq.policies.window.exploring import Explorer, Planner, View
from dsdq.policies.window.optimal import Formulas
from dsdq.policies.window.planner import Plan
from dsdq.policies.window.ways import WAYS, seen
from dsdq.sim.awc.labels import Labelled
from dsdq.sim.awc.worlds import World
from dsdq.sim.run import simulate
from dsdq.sim.runners import spread

NOTED_VERDICTS = frozenset({2, 4, 7, 12, 25, 60, 120})
WATCHED_TEXTS = 3
_BUDGET = 256


@dataclass(frozen=True, slots=True)
class Note:
    """What a device knew after a verdict: ``awc``'s features ``[14]``, ``awc:paper``'s ``[5]``.

    ``formulas`` are the logarithms of what they made of it, for each way.
    """

    features: tuple[float, ...]
    formulas: tuple[float, ...]
    paper: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Moments:
    """A labelled world, and notes that were taken in it."""

    world: Labelled
    notes: tuple[Note, ...]


class Fixed:
    """Plans nothing but one way."""

    def __init__(self, way: Choice) -> None:
        self._way = way if way.mode is Mode.SPECULATE else replace(way, budget=_BUDGET)

    def plans(self, view: View) -> dict[Mode, Plan]:
        """Return the way."""
        return {self._way.mode: Plan(self._way, 1.0)} if self._way.mode in view.modes else {}


class Watcher(Explorer):
    """Begins as ``awc`` does, then works as its planner says, and takes notes now and then."""

    def __init__(self, offer: Offer, planner: Planner, notes: list[Note]) -> None:
        super().__init__(offer, planner, planner, beginning(offer))
        self._smoothed, self._verdicts, self._notes = Smoothed(), 0, notes

    def observe(self, observation: Observation) -> None:
        """Take in what a verdict showed."""
        super().observe(observation)
        self._smoothed.observe(observation)
        self._verdicts += 1
        if self._verdicts in NOTED_VERDICTS:
            self._notes.append(self._note())

    def _note(self) -> Note:
        view = self.view()
        formulas, paper = searched(view), self._smoothed.features(float(self.choose().window))
        return Note(tuple(seen(view, formulas).tolist()), tuple(formulas.tolist()), tuple(paper.tolist()))


def watched(world: World, plan: Callable[[Offer], Planner]) -> tuple[Note, ...]:
    """Return the notes of the first few texts of a world whose devices all work as planned."""
    texts: list[list[Note]] = []

    def _load(_: str, offer: Offer) -> WindowPolicy:
        texts.append([])
        return Watcher(offer, plan(offer), texts[-1])

    simulate(world.scenario("optimal"), load=_load)
    return tuple(note for notes in texts[:WATCHED_TEXTS] for note in notes)


def moments(worlds: Sequence[Labelled], jobs: int, each: Callable[[], None]) -> list[Moments]:
    """Return what devices knew in labelled worlds, by as many processes.

    In a third of the worlds they work in the best way, in a third in another, and else as the formulas say: what these
    bring about is to be known to a network that corrects them.
    """
    found = []
    for one in spread(_watch, worlds, jobs):
        found.append(one)
        each()
    return found


def _watch(one: Labelled) -> Moments:
    other = int(np.random.default_rng(one.number).choice(list(one.rates)))
    plans: tuple[Callable[[Offer], Planner], ...] = (_fixed(one.best), _fixed(other), Formulas)
    return Moments(one, watched(one.world, plans[one.number % len(plans)]))


def _fixed(way: int) -> Callable[[Offer], Planner]:
    return lambda _: Fixed(WAYS[way])
