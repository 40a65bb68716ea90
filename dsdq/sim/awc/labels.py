"""What each way to work comes to in a world, by simulation: all ways meet the same texts, right guesses and delays.

Which ways are worth simulating, the formulas of :mod:`dsdq.policies.window.rates` say, and then the best one's
neighbours until none is better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dsdq.errors import ConfigError
from dsdq.policies.window import Choice, Mode, rates
from dsdq.policies.window.every import drafting_rates
from dsdq.policies.window.ways import ALONE, DEPTHS, DRAFTED, OWN, OWN_WINDOWS, WAYS, WINDOWS
from dsdq.sim.awc.worlds import World, draw
from dsdq.sim.files import lines, whole_lines
from dsdq.sim.record import Record
from dsdq.sim.run import simulate
from dsdq.sim.runners import spread

_PROMISING, _BY_CHANCE = 3, 1
_CLIMBS = 3
_BEGINS = b'{"seed": '


@dataclass(frozen=True, slots=True)
class Labelled:
    """A world, and each way's :func:`flow` in it, by its place among :data:`WAYS`."""

    number: int
    world: World
    rates: dict[int, float]

    @property
    def lived_in(self) -> bool:
        """Say whether anybody asked for a text: in small fleets it happens that all think for too long."""
        return self.rates[self.best] > 0

    @property
    def best(self) -> int:
        """Return the fastest way."""
        return max(self.rates, key=lambda way: self.rates[way])

    def to_json(self) -> dict[str, Any]:
        """Return it as a line of a file."""
        return asdict(self)

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> Labelled:
        """Read a line."""
        ways = {int(way): rate for way, rate in line["rates"].items()}
        return cls(line["number"], World(**line["world"]), ways)


def pace(record: Record) -> float:
    """Return a session's committed tokens per second, from its text's being asked for until its end."""
    took_ms = sum(one.ended_ms - one.arrival_ms for one in record.requests)
    return 1000 * sum(one.committed for one in record.requests) / took_ms if took_ms else 0.0


def flow(record: Record) -> float:
    """Return a session's committed tokens per second behind its first verdict: what a way comes to once it is taken."""
    longer = [one for one in record.requests if one.rounds > 1]
    if not longer:
        return pace(record)
    took_ms = sum(one.ended_ms - one.first_ms for one in longer)
    return 1000 * sum(one.committed * (1 - 1 / one.rounds) for one in longer) / took_ms


def spec(way: Choice) -> str:
    """Return the policy that always works in some way."""
    match way.mode:
        case Mode.SPECULATE:
            return f"static:{way.window}:{way.depth}"
        case Mode.COLOCATED:
            return f"co-located:{way.window}"
        case Mode.TARGET_ONLY:
            return "target-only"


def label(seed: int, number: int) -> Labelled:
    """Return world ``number`` of a seed, labelled."""
    world = draw(np.random.default_rng([seed, number]))
    return Labelled(number, world, sweep(world, np.random.default_rng([seed, number, 1])))


def sweep(world: World, luck: np.random.Generator) -> dict[int, float]:
    """Return the rates of the ways that may be the best, of their neighbours, and of some others."""
    found = {way: _measure(world, way) for way in _candidates(world, luck)}
    for _ in range(_CLIMBS):
        best = max(found, key=lambda way: found[way])
        fresh = [way for way in _beside(best) if way not in found]
        found |= {way: _measure(world, way) for way in fresh}
        if max(found, key=lambda way: found[way]) == best:
            break
    return found


def _measure(world: World, way: int) -> float:
    return flow(simulate(world.scenario(spec(WAYS[way]))))


def _candidates(world: World, luck: np.random.Generator) -> list[int]:
    """Return the ways to begin with."""
    speeds = _speeds(world)
    drafting = drafting_rates([speeds])[0]
    promising = np.argsort(-drafting, axis=None)[:_PROMISING].tolist()
    flat = int(drafting[:, 0].argmax())
    flats = [len(DEPTHS) * min(max(flat + step, 0), len(WINDOWS) - 1) for step in (-2, 0, 2)]
    chance = luck.choice(DRAFTED, _BY_CHANCE, replace=False).tolist()
    return list(dict.fromkeys([*promising, *flats, *chance, ALONE, *_own(world, speeds)]))


def _own(world: World, speeds: rates.Speeds) -> list[int]:
    if world.own_draft_ms is None:
        return []
    windows = np.asarray(OWN_WINDOWS, dtype=np.float64)
    found = rates.colocated_rates(speeds, world.own_acceptance, world.own_draft_ms, windows, world.own_first)
    best = int(found.argmax())
    return [OWN + min(max(best + step, 0), len(OWN_WINDOWS) - 1) for step in (-1, 0, 1)]


def _speeds(world: World) -> rates.Speeds:
    """Return what a device would know at best, taking each step to have a row of every session."""
    step_ms = world.step_ms + world.row_ms * world.sessions + 3 * world.position_ms * (world.sessions - 1)
    step_ms += world.between_ms
    return rates.Speeds(
        acceptance=world.acceptance,
        draft_ms=world.draft_ms,
        network_ms=world.rtt_ms + world.jitter_ms + 2 * world.latency_ms,
        queue_ms=0.0 if world.sessions == 1 else step_ms / 2,
        step_ms=step_ms,
        position_ms=world.position_ms,
        first=world.first,
    )


def _beside(way: int) -> list[int]:
    """Return a way's neighbours: a window or a depth further."""
    if way == ALONE:
        return []
    if way >= OWN:
        return [one for one in (way - 1, way + 1) if OWN <= one < len(WAYS)]
    window, depth = divmod(way, len(DEPTHS))
    return [
        len(DEPTHS) * other + deep
        for other, deep in ((window - 1, depth), (window + 1, depth), (window, depth - 1), (window, depth + 1))
        if 0 <= other < len(WINDOWS) and 0 <= deep < len(DEPTHS)
    ]


# Many worlds


def labelled(path: Path, seed: int, worlds: int, jobs: int, each: Callable[[], None] = lambda: None) -> list[Labelled]:
    """Label worlds in so many processes, and keep them in a file: what is in it already is not done again.

    Raises:
        ConfigError: the file is of another seed or another simulator, or none of labels.
    """
    done = _read(path, seed)
    if done:
        _check_again(path, seed, done[min(done)])
    left = [number for number in range(worlds) if number not in done]
    with lines("--labels", path, append=True) as write:
        for one in _label_all(seed, left, jobs):
            write(json.dumps({"seed": seed} | one.to_json()))
            done[one.number] = one
            each()
    return [done[number] for number in range(worlds)]


def _check_again(path: Path, seed: int, kept: Labelled) -> None:
    """Return if a world that was labelled before would be labelled so now."""
    if label(seed, kept.number) != kept:
        expected = f"expected labels of this simulator, got others of world {kept.number}"
        msg = f"{path.name}: {expected}; give another --labels file"
        raise ConfigError(msg)


def _label_all(seed: int, numbers: Iterable[int], jobs: int) -> Iterator[Labelled]:
    return spread(partial(label, seed), numbers, jobs)


def _read(path: Path, seed: int) -> dict[int, Labelled]:
    done = {}
    for line in whole_lines("--labels", path, _BEGINS):
        try:
            found = json.loads(line)
            one, theirs = Labelled.of_json(found), found["seed"]
        except (ValueError, TypeError, KeyError):
            got = line[:40].decode(errors="replace")
            msg = f"{path.name}: expected labels of awc-train, got {got!r}; give another --labels file"
            raise ConfigError(msg) from None
        if theirs != seed:
            msg = f"{path.name}: expected labels of seed {seed}, got seed {theirs}; give another --labels file"
            raise ConfigError(msg)
        done[one.number] = one
    return done
