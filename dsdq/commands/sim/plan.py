"""``dsdq sim plan``: how many verifiers, and up to where drafting on devices pays."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from dsdq.commands.sim.options import Jobs, Json, Objective, ScenarioName, Seeds, Sets, working
from dsdq.commands.sim.tables import show_plan
from dsdq.sim import export, files
from dsdq.sim import plan as planning
from dsdq.sim.baselines import DEFAULT_OBJECTIVE
from dsdq.sim.results import as_read
from dsdq.sim.scenario import load_scenario
from dsdq.sim.variations import with_devices

DeviceCount = Annotated[
    int | None, typer.Option(min=1, max=10_000_000, help="So many devices in all.", show_default="the scenario's")
]


def plan(
    scenario: ScenarioName,
    devices: DeviceCount = None,
    good: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of requests that keep to slo.*.")] = 0.95,
    objective: Objective = DEFAULT_OBJECTIVE,
    sets: Sets = None,
    seeds: Seeds = 3,
    jobs: Jobs = None,
    json_file: Json = None,
) -> None:
    """Search how many verifiers SCENARIO needs, and where drafting on devices pays.

    It pays where the objective is better by more than 1 % than what the cloud comes to, alone or drafting itself: up to
    a round trip, and from an acceptance on, with as many verifiers as SCENARIO has. A cloud that drafts keeps the
    window that is best for SCENARIO as given.
    """
    files.check("--json", json_file)
    asked = load_scenario(scenario, sets or ())
    if devices is not None:
        asked = with_devices(asked, devices)
    with working(jobs) as runner:
        document = planning.plan(runner, asked, planning.Question(good, objective, seeds))
    show_plan(Console(), as_read(document))
    if json_file is not None:
        export.write_json("--json", json_file, document)
