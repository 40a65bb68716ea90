"""A grid of scenarios, each cell simulated once, whatever becomes of this process meanwhile.

Every cell's outcome is a line of a file as soon as it is there, under the hash of its resolved scenario, its seed among
it. What the file has is not simulated again; a last line that was torn is simulated again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.files import lines, whole_lines
from dsdq.sim.outcome import Outcome, Task, hashed, key
from dsdq.sim.replications import result, way
from dsdq.sim.runners import Runner
from dsdq.sim.scenario.mistakes import of_file
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.variations import Variant, assigned, parts, seeded

MOST_CELLS = 100_000
AS_IT_IS = "as it is"
_BEGINS = b'{"key": "'

Load = Callable[[Sequence[str]], Scenario]
"""Reads the scenario with some settings, ``field=value`` each."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Which fields vary, and the variant of each combination of their values, by a name that says them."""

    fields: Mapping[str, Sequence[str]]
    variants: Mapping[str, Variant]


def grid(load: Load, vary: Sequence[str], seeds: int) -> Grid:
    """Return the grid of ``field=value,value,…`` texts.

    Raises:
        ConfigError: one is not of that form, there are too many cells, or one of them is no scenario.
    """
    fields = {name: parts(values) for name, values in assigned("--vary", vary).items()}
    cells = seeds
    for name, values in fields.items():
        if not all(values):
            raise ConfigError(f"--vary {name}: expected values between commas, got {','.join(values)!r}")
        cells *= len(values)
    if cells > MOST_CELLS:
        raise ConfigError(f"--vary: expected at most {MOST_CELLS:,} cells, got {cells:,}")
    variants = {}
    for combination in product(*fields.values()):
        sets = dict(zip(fields, combination, strict=True))
        settings = [f"{name}={value}" for name, value in sets.items()]
        variants[", ".join(settings) or AS_IT_IS] = Variant(sets, load(settings))
    return Grid(fields, variants)


def sweep(run: Runner, variants: Mapping[str, Variant], seeds: int, file: Path) -> dict[str, list[Outcome]]:
    """Simulate all cells that a file does not have; return the outcomes of all, by name, in the order of seeds.

    Raises:
        ConfigError: the file cannot be read or written, or is no such file.
    """
    known = read_cells(file)
    scenarios = {name: seeded(variant.scenario, seeds) for name, variant in variants.items()}
    once = cache(hashed)
    keys = {name: [key(one, once) for one in replications] for name, replications in scenarios.items()}
    todo = {
        found: Task(one)
        for name, replications in scenarios.items()
        for found, one in zip(keys[name], replications, strict=True)
        if found not in known
    }
    for found, done in _done(run, todo, file):
        known[found] = done
    return {name: [known[found] for found in own] for name, own in keys.items()}


def _done(run: Runner, todo: Mapping[str, Task], file: Path) -> Iterator[tuple[str, Outcome]]:
    """Do tasks and give each one's key and outcome, once that is in the file."""
    keys = list(todo)
    with lines("--results", file, append=True) as write:
        for place, done in run(list(todo.values())):
            write(json.dumps({"key": keys[place], **asdict(done)}))
            yield keys[place], done


def swept(run: Runner, scenario: Scenario, cells: Grid, seeds: int, file: Path) -> dict[str, Any]:
    """Return the result of a sweep; see :func:`sweep`."""
    found = sweep(run, cells.variants, seeds, file)
    ways = {name: way(variant, found[name]) for name, variant in cells.variants.items()}
    return result("sweep", scenario, seeds, vary=dict(cells.fields), ways=ways)


def read_cells(file: Path) -> dict[str, Outcome]:
    """Return the outcomes that a file has by the keys of their scenarios; cut off a last line that is torn.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    rows = whole_lines("--results", file, _BEGINS)
    return dict(_cell(file, number, line) for number, line in enumerate(rows, 1))


def _cell(file: Path, number: int, line: bytes) -> tuple[str, Outcome]:
    try:
        fields: dict[str, Any] = json.loads(line)
        return str(fields.pop("key")), Outcome(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"--results {of_file(file)}, line {number:,}: expected a finished cell of a sweep, got something else; "
            "give another file, or remove the line"
        ) from None
