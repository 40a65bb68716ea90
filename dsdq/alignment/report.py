"""An alignment as figures for a program, and as tables for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dsdq.alignment.laws import Distances, law_temperature
from dsdq.alignment.measure import Alignment, Question
from dsdq.alignment.speeds import MOST_ACCEPTANCE, Ways
from dsdq.policies.window import rates
from dsdq.policies.window.planner import Plan

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said about a pair. ``known`` names the speeds that were stated; the others were measured here."""

    question: Question
    alignment: Alignment
    ways: Ways
    rtts_ms: Sequence[float]
    known: Sequence[str]


def figures(report: Report) -> dict[str, Any]:
    """Return everything as plain values."""
    question, alignment, ways = report.question, report.alignment, report.ways
    speeds = ways.speeds
    return {
        "target": question.target,
        "draft": question.draft,
        "sampling": asdict(question.sampling),
        "seed": question.seed,
        "texts": alignment.texts,
        "places": alignment.places,
        "acceptance": alignment.acceptance,
        "by_position": [
            {"position": one.number, "judged": one.judged, "acceptance": one.acceptance, "survival": one.survival}
            for one in alignment.by_position
        ],
        "tokens_per_round": [
            {"window": window, "measured": measured, "independent": independent}
            for window, measured, independent in _rounds(report)
        ],
        "laws": None if alignment.distances is None else _laws(alignment.distances, report),
        "speeds": {
            "acceptance": speeds.acceptance,
            "draft_ms": speeds.draft_ms,
            "target_ms": float(speeds.pass_ms(1)),
            "position_ms": speeds.position_ms,
            "server_draft_ms": ways.server_draft_ms,
            "stated": list(report.known),
        },
        "rates": [_rates(ways, rtt_ms) for rtt_ms in report.rtts_ms],
        "break_even": break_evens(ways),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def break_evens(ways: Ways) -> dict[str, float]:
    """Return up to which round trip, in ms, drafting on the device is faster than each other way; 0: it never is."""
    streaming, colocated = ways.target_only(), ways.colocated().rate
    return {
        "target_only_ms": ways.break_even_ms(ways.edge, streaming),
        "target_only_one_in_flight_ms": ways.break_even_ms(ways.sequential, streaming),
        "colocated_ms": ways.break_even_ms(ways.edge, colocated),
    }


def _rounds(report: Report) -> list[tuple[int, float | None, float]]:
    measured = report.alignment.tokens_per_round
    windows = np.arange(1.0, len(measured) + 1)
    acceptance = min(report.alignment.acceptance, MOST_ACCEPTANCE)
    independent = rates.expected_tokens(acceptance, windows)
    return list(zip(range(1, len(measured) + 1), measured, independent.tolist(), strict=True))


def _laws(found: Distances, report: Report) -> dict[str, Any]:
    return {
        "temperature": law_temperature(report.question.sampling),
        "tv": _spread(found.tv),
        "kl_nats": _spread(found.kl),
        "greedy_agreement": float(found.agrees.mean()),
        "rejection_acceptance": float(found.overlap.mean()),
        "coupled_acceptance_at_least": float(found.coupled_least.mean()),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return mean and quantiles; None for what is infinite, which JSON cannot say."""
    quantiles = zip(QUANTILES, np.quantile(values, QUANTILES, method="higher").tolist(), strict=True)
    found = {"mean": float(values.mean()), **{f"p{100 * share:.0f}": value for share, value in quantiles}}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _rates(ways: Ways, rtt_ms: float) -> dict[str, Any]:
    return {
        "rtt_ms": rtt_ms,
        "one_in_flight": _plan(ways.sequential(rtt_ms)),
        "edge": _plan(ways.edge(rtt_ms)),
        "target_only": {"tokens_per_s": ways.target_only()},
        "colocated": _plan(ways.colocated()),
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {"window": plan.choice.window, "depth": plan.choice.depth, "tokens_per_s": plan.rate}


def show(console: Console, found: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console.print(
        f"target {found['target']}, draft {found['draft']}: {found['texts']} texts, {found['places']} tokens of the "
        f"target's own, T = {found['sampling']['temperature']:g}, seed {found['seed']}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_fit_table(found), _window_table(found), _rate_table(found))
    ends, speeds = found["break_even"], found["speeds"]
    lines = (
        (
            f"at an acceptance of {speeds['acceptance']:.1%}, which rounds of the widest window show, "
            f"{speeds['draft_ms']:.3g} ms a draft token,"
        ),
        (
            f"{speeds['target_ms']:.3g} ms a pass and {speeds['position_ms']:.3g} ms for each further position of one "
            f"(measured here unless stated: {found['machine']})"
        ),
        "drafting on the device is",
        (
            f"  faster than the target alone, streamed, {_until(ends['target_only_ms'])} "
            f"(with one round in flight {_until(ends['target_only_one_in_flight_ms'])})"
        ),
        (
            f"  faster than a verifier that drafts itself, at {speeds['server_draft_ms']:.3g} ms a token, "
            f"{_until(ends['colocated_ms'])}"
        ),
    )
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _until(rtt_ms: float) -> str:
    return f"up to a round trip of {rtt_ms:.3g} ms" if rtt_ms else "at no round trip"


def _fit_table(found: dict[str, Any]) -> Table:
    table = _table("how well it fits", ["", "mean", "p50", "p90", "p99"])
    table.add_row("next token accepted (coupled rule)", f"{found['acceptance']:.1%}")
    laws = found["laws"]
    if laws is None:
        table.add_row("laws: none over the target's ids")
        return table
    table.add_row("  at least, by theory", f"{laws['coupled_acceptance_at_least']:.1%}")
    table.add_row("accepted under the rejection rule: 1 - TV", f"{laws['rejection_acceptance']:.1%}")
    table.add_row("same likeliest token", f"{laws['greedy_agreement']:.1%}")
    for name, key in (("TV", "tv"), ("KL(target || draft), nats", "kl_nats")):
        table.add_row(f"{name}, laws at T = {laws['temperature']:g}", *map(_number, laws[key].values()))
    return table


def _window_table(found: dict[str, Any]) -> Table:
    columns = ["position, window", "accepted", "it and all before", "tokens per round", "if independent"]
    table = _table("by draft position, and by window", columns)
    for place, one in enumerate(found["tokens_per_round"]):
        known = found["by_position"][place] if place < len(found["by_position"]) else None
        shares = (f"{known['acceptance']:.1%}", f"{known['survival']:.1%}") if known else ("", "")
        measured = "" if one["measured"] is None else f"{one['measured']:.2f}"
        table.add_row(str(one["window"]), *shares, measured, f"{one['independent']:.2f}")
    return table


def _rate_table(found: dict[str, Any]) -> Table:
    columns = ["RTT, ms", "one in flight", "window", "device", "window x depth", "target alone", "verifier drafts"]
    table = _table("tokens/s expected of the best window and depth", columns)
    for one in found["rates"]:
        alone, edge = one["one_in_flight"], one["edge"]
        table.add_row(
            f"{one['rtt_ms']:g}",
            f"{alone['tokens_per_s']:.1f}",
            str(alone["window"]),
            f"{edge['tokens_per_s']:.1f}",
            f"{edge['window']} x {edge['depth']}",
            f"{one['target_only']['tokens_per_s']:.1f}",
            f"{one['colocated']['tokens_per_s']:.1f}",
        )
    return table


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.3f}"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table
