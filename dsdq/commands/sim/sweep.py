"""``dsdq sim sweep``: a grid over fields of a scenario, on this machine or a Ray cluster, that goes on where it was."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dsdq.commands.sim.options import Csv, Jobs, Json, Parquet, ScenarioName, Seeds, Sets, watched
from dsdq.commands.sim.tables import say, show_sweep
from dsdq.errors import ConfigError
from dsdq.extras import require
from dsdq.sim import export, files
from dsdq.sim import sweep as sweeping
from dsdq.sim.on_ray import on_ray
from dsdq.sim.results import as_read
from dsdq.sim.runners import Runner, cores, processes
from dsdq.sim.scenario import load_scenario


class On(StrEnum):
    """Who simulates."""

    PROCESSES = "processes"
    RAY = "ray"


Vary = Annotated[
    list[str] | None,
    typer.Option("--vary", metavar="FIELD=VALUE,…", help="A field of the grid and its values; repeatable."),
]
Results = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Finished cells (JSONL), which are not run again.", show_default="sweep-SCENARIO.jsonl"
    ),
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a running cluster, for --on ray.", show_default="one on this machine")
]


def sweep(  # noqa: PLR0913, PLR0917 - the flags of a command
    scenario: ScenarioName,
    vary: Vary = None,
    sets: Sets = None,
    seeds: Seeds = 1,
    jobs: Jobs = None,
    on: Annotated[On, typer.Option(help="Who simulates; ray needs the extra ray.")] = On.PROCESSES,
    ray_address: RayAddress = None,
    results: Results = None,
    json_file: Json = None,
    csv_file: Csv = None,
    parquet_file: Parquet = None,
) -> None:
    """Simulate SCENARIO at every combination of some fields' values."""
    export.check(json_file, csv_file, parquet_file)
    if ray_address is not None and on is not On.RAY:
        raise ConfigError("--ray-address: expected --on ray too, got an address alone")
    if ray_address is not None and jobs is not None:
        raise ConfigError(
            "--jobs: expected no --ray-address beside it, whose cluster has the cores that it has, got both"
        )
    if on is On.RAY:
        require("ray", "--on ray", "ray")  # before anything is read
    asked = load_scenario(scenario, sets or ())
    cells = sweeping.grid(lambda more: load_scenario(scenario, [*(sets or ()), *more]), vary or (), seeds)
    file = results or Path(f"sweep-{asked.name}.jsonl")
    files.check("--results", file)
    with _runner(on, jobs or cores(), ray_address) as bare, watched(bare) as runner:
        document = sweeping.swept(runner, asked, cells, seeds, file)
    console = Console()
    show_sweep(console, as_read(document))
    say(console, f"cells: {file}")
    export.write(document, json_file, csv_file, parquet_file)


def _runner(on: On, jobs: int, address: str | None) -> AbstractContextManager[Runner]:
    return on_ray(jobs, address) if on is On.RAY else processes(jobs)
