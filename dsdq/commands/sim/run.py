"""``dsdq sim run``: a scenario with some seeds, beside what it is to be compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dsdq.commands.sim.options import Csv, Jobs, Json, Objective, Parquet, ScenarioName, Seeds, Sets, working
from dsdq.commands.sim.tables import say, show_ways
from dsdq.errors import ConfigError
from dsdq.sim import export, files
from dsdq.sim.baselines import DEFAULT_OBJECTIVE, baselines, check_objective
from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.replications import replicate, result, way
from dsdq.sim.results import as_read
from dsdq.sim.runners import Runner, in_order
from dsdq.sim.scenario import Scenario, load_scenario
from dsdq.sim.variations import Variant, seeded

Requests = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a row for each request and seed there: .csv, .parquet or .jsonl."),
]
Events = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write every event of the first seed there, and say its digest.")
]


def run(  # noqa: PLR0913, PLR0917 - the flags of a command
    scenario: ScenarioName,
    sets: Sets = None,
    seeds: Seeds = 1,
    jobs: Jobs = None,
    no_baselines: Annotated[bool, typer.Option("--no-baselines", help="Simulate nothing beside it.")] = False,  # noqa: FBT002
    objective: Objective = DEFAULT_OBJECTIVE,
    json_file: Json = None,
    csv_file: Csv = None,
    parquet_file: Parquet = None,
    requests: Requests = None,
    events: Events = None,
) -> None:
    """Simulate SCENARIO, and beside it the cloud alone, drafting in the cloud, and the best static window."""
    export.check(json_file, csv_file, parquet_file)
    files.check("--requests", requests, export.TABLES)
    files.check("--events", events)
    check_objective(objective)
    if no_baselines and objective != DEFAULT_OBJECTIVE:
        raise ConfigError("--objective: baselines are chosen by it, so expected none beside --no-baselines")
    asked = load_scenario(scenario, sets or ())
    with working(jobs) as runner:
        own = _own(runner, asked, seeds, events, requests=requests is not None)
        others = {} if no_baselines else baselines(runner, asked, objective)
        found = replicate(runner, {name: variant.scenario for name, variant in others.items()}, seeds)
    ways = {asked.way.value: way(Variant({}, asked), own)}
    ways |= {name: way(variant, found[name]) for name, variant in others.items()}
    chosen_by = None if no_baselines else objective
    document = result("run", asked, seeds, objective=chosen_by, events=own[0].events, ways=ways)
    console = Console()
    show_ways(console, as_read(document))
    if own[0].events is not None:
        say(console, f"events of seed {own[0].seed}: blake2b {own[0].events}")
    export.write(document, json_file, csv_file, parquet_file)
    if requests is not None:
        export.write_rows("--requests", requests, [row for one in own for row in one.requests or ()])


def _own(runner: Runner, scenario: Scenario, seeds: int, events: Path | None, *, requests: bool) -> list[Outcome]:
    """Simulate what was asked for, with all that is to be written of it."""
    replications = seeded(scenario, seeds)
    first = Task(replications[0], requests, events)
    return in_order(runner, [first, *(Task(one, requests) for one in replications[1:])])
