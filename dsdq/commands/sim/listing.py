"""``dsdq sim list``: scenarios and profiles that come with dsdq, and where their figures come from."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdq.sim.scenario import presets, profiles


def show_all() -> None:
    """Show all presets, and all profiles with the sources of their figures."""
    console = Console()
    table = Table("scenario", "what it is", box=None, pad_edge=False)
    for name, about in presets().items():
        table.add_row(name, about)
    console.print(table)
    for name, profile in profiles().items():
        console.print()
        console.print(Text(f"{profile.kind} profile {name}", style="bold"), Text(profile.about))
        for field, source in _flat(profile.source):
            console.print(Text(f"  {field}: {source}", style="dim"))


def _flat(sources: Mapping[str, object], before: str = "") -> list[tuple[str, str]]:
    """Return fields by their paths, and what is said of each."""
    found = []
    for name, one in sources.items():
        if isinstance(one, Mapping):
            found += _flat(one, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", str(one)))
    return found
