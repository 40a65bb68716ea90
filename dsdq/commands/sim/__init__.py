"""``dsdq sim``: what would happen with 1,000 devices and 30 ms, before anyone buys hardware."""

from __future__ import annotations

import typer

from dsdq.commands.sim.awc_train import awc_train
from dsdq.commands.sim.calibrate import calibrate
from dsdq.commands.sim.compare import compare
from dsdq.commands.sim.listing import show_all
from dsdq.commands.sim.plan import plan
from dsdq.commands.sim.plot import plot
from dsdq.commands.sim.report import report
from dsdq.commands.sim.run import run
from dsdq.commands.sim.sweep import sweep
from dsdq.commands.sim.validate import validate

sim = typer.Typer(no_args_is_help=True, help="Simulate a fleet of devices and verifiers.")
sim.command("run")(run)
sim.command("sweep")(sweep)
sim.command("compare")(compare)
sim.command("plan")(plan)
sim.command("list")(show_all)
sim.command("plot")(plot)
sim.command("report")(report)
sim.command("calibrate")(calibrate)
sim.command("validate")(validate)
sim.command("awc-train")(awc_train)
