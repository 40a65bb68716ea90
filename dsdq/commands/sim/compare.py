"""``dsdq sim compare``: variants of a scenario with the same luck, and whether they can be told apart."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from dsdq.commands.sim.options import Csv, Jobs, Json, Parquet, ScenarioName, Seeds, Sets, working
from dsdq.commands.sim.tables import show_differences, show_ways
from dsdq.sim import compare as comparing
from dsdq.sim import export
from dsdq.sim.results import as_read
from dsdq.sim.scenario import load_scenario

Variants = Annotated[
    list[str] | None,
    typer.Option("--variant", metavar="NAME=FIELD=VALUE,…", help="One of at least two; the first is the base."),
]


def compare(
    scenario: ScenarioName,
    variant: Variants = None,
    sets: Sets = None,
    seeds: Seeds = 10,
    jobs: Jobs = None,
    json_file: Json = None,
    csv_file: Csv = None,
    parquet_file: Parquet = None,
) -> None:
    """Simulate variants of SCENARIO with the same seeds, and say how they differ from the first of them."""
    export.check(json_file, csv_file, parquet_file)
    asked = load_scenario(scenario, sets or ())
    variants = comparing.variants(lambda more: load_scenario(scenario, [*(sets or ()), *more]), variant or ())
    with working(jobs) as runner:
        document = comparing.compare(runner, asked, variants, seeds)
    console, found = Console(), as_read(document)
    show_ways(console, found)
    show_differences(console, found)
    export.write(document, json_file, csv_file, parquet_file)
