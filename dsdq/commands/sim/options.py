"""What the commands of ``dsdq sim`` have in common: their options, who simulates, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.runners import Runner, cores, processes, remembering
from dsdq.sim.variations import MOST_SEEDS

ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A preset (`dsdq sim list`), or a file of TOML or YAML.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a field, such as window.policy=awc; repeatable."),
]
Seeds = Annotated[
    int, typer.Option(min=1, max=MOST_SEEDS, help="Replications; seeds count up from the scenario's own.")
]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Processes that simulate.", show_default="one for each core")
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result there.")]
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write figures there, a row a way and seed: .csv.")
]
Parquet = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write the same there: .parquet; needs the extra sim.")
]
Objective = Annotated[str, typer.Option(metavar="FIGURE", help="What the best window is best for.")]


@contextmanager
def working(jobs: int | None) -> Iterator[Runner]:
    """Give a runner of so many processes that does nothing twice and shows how far it is."""
    with processes(jobs or cores()) as run, watched(run) as shown:
        yield remembering(shown)


@contextmanager
def watched(run: Runner) -> Iterator[Runner]:
    """Give a runner that shows on a terminal how many of all simulations that it was given are done."""
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar, total = progress.add_task("", total=0), 0

        def _shown(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
            nonlocal total
            total += len(tasks)
            progress.update(bar, total=total)
            for found in run(tasks):
                progress.advance(bar)
                yield found

        yield _shown
