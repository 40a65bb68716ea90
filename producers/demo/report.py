"""The demo's last word: what was measured, and whether the text is the target's own."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from producers.demo.events import Finished


@dataclass(frozen=True, slots=True)
class Reference:
    """The same prompts decoded by the target alone: token ids per prompt, tie positions, seconds in all.

    ``near_ties[i]`` holds the output positions of prompt i at which the reference's two best scores are so close that
    floating-point rounding may decide.
    """

    name: str
    ids: list[list[int]]
    near_ties: list[frozenset[int]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Token ids against the reference: prompts that are equal, equal up to a near-tie, and not equal."""

    equal: int
    near_tie: int
    different: int

    @property
    def identical(self) -> bool:
        """Say whether every text is the target's own."""
        return self.different == 0


def compare(finished: Sequence[Finished], reference: Reference) -> Comparison:
    """Compare token ids prompt by prompt; a first difference at a near-tie of the reference is counted apart."""
    equal = near_tie = different = 0
    for one in finished:
        wanted = reference.ids[one.prompt]
        if one.ids == wanted:
            equal += 1
            continue
        shorter = min(len(one.ids), len(wanted))
        first = next((i for i in range(shorter) if one.ids[i] != wanted[i]), shorter)
        if first in reference.near_ties[one.prompt]:
            near_tie += 1
        else:
            different += 1
    return Comparison(equal, near_tie, different)


def figures(finished: Sequence[Finished], seconds: float, reference: Reference) -> dict[str, Any]:
    """Return the run's figures. ``seconds`` is the wall time from the first prompt to the last token."""
    total = {
        key: sum(_number(one, key) for one in finished)
        for key in (
            "committed_tokens",
            "drafted_tokens",
            "judged_tokens",
            "accepted_tokens",
            "wasted_tokens",
            "rounds",
            "rounds_ahead",
            "bytes_up",
            "bytes_down",
        )
    }
    tokens = max(total["committed_tokens"], 1)
    trips = sorted(trip for one in finished for trip in _numbers(one, "round_trips_ms"))
    batches = [rows for one in finished for rows in _numbers(one, "batch_rows")]
    percentile = quantiles(trips, n=100, method="inclusive") if len(trips) > 1 else trips * 99
    comparison = compare(finished, reference)
    own, alone = total["committed_tokens"] / seconds, sum(map(len, reference.ids)) / reference.seconds
    return {
        "prompts": len(finished),
        "committed_tokens": int(total["committed_tokens"]),
        "tokens_per_s": own,
        "acceptance_rate": total["accepted_tokens"] / max(total["judged_tokens"], 1),
        "wasted_drafts": total["wasted_tokens"] / max(total["drafted_tokens"], 1),
        "rounds_ahead": total["rounds_ahead"] / max(total["rounds"], 1),
        "tokens_per_round": total["committed_tokens"] / max(total["rounds"], 1),
        "bytes_up_per_token": total["bytes_up"] / tokens,
        "bytes_down_per_token": total["bytes_down"] / tokens,
        "round_trip_p50_ms": percentile[49] if percentile else 0.0,
        "round_trip_p99_ms": percentile[98] if percentile else 0.0,
        "ttft_mean_ms": mean(_number(one, "ttft_ms") for one in finished),
        # A verdict of a batch of n is one nth of a step: verdicts / steps is the mean batch.
        "verifier_mean_batch": len(batches) / max(sum(1 / rows for rows in batches), 1e-9),
        "reference": reference.name,
        "reference_tokens_per_s": alone,
        "ratio_vs_reference": own / alone,
        "identical": comparison.identical,
        "near_ties": comparison.near_tie,
        "machine": f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
    }


ROWS = (
    ("tokens/s, all devices together", "tokens_per_s", "{:.1f}"),
    ("acceptance rate of draft tokens that were judged", "acceptance_rate", "{:.1%}"),
    ("share of draft tokens behind a rejected one", "wasted_drafts", "{:.1%}"),
    ("rounds sent while another was on its way", "rounds_ahead", "{:.1%}"),
    ("committed tokens per round", "tokens_per_round", "{:.2f}"),
    ("bytes up per committed token", "bytes_up_per_token", "{:.1f}"),
    ("bytes down per committed token", "bytes_down_per_token", "{:.1f}"),
    ("round trip p50, ms", "round_trip_p50_ms", "{:.1f}"),
    ("round trip p99, ms", "round_trip_p99_ms", "{:.1f}"),
    ("mean time to first token, ms", "ttft_mean_ms", "{:.1f}"),
    ("verifier's mean batch, sessions", "verifier_mean_batch", "{:.2f}"),
    ("target alone, tokens/s", "reference_tokens_per_s", "{:.1f}"),
    ("ratio", "ratio_vs_reference", "{:.2f}x"),
)


def show(console: Console, result: dict[str, Any]) -> None:
    """Print the table and the verdict."""
    table = Table(title=f"{result['prompts']} prompts, {result['committed_tokens']} tokens")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for label, key, form in ROWS:
        table.add_row(label, form.format(result[key]))
    console.print(table)
    console.print(f"target alone: {result['reference']}, one prompt after another, same run", highlight=False)
    if result["near_ties"]:
        console.print(f"first difference at a near-tie of the reference (gap < 1e-5): {result['near_ties']} prompts")
    console.print(f"identical to target-only decoding: {'yes' if result['identical'] else 'NO'}", highlight=False)


def _number(one: Finished, key: str) -> float:
    value = one.stats[key]
    return float(value) if isinstance(value, (int, float)) else 0.0


def _numbers(one: Finished, key: str) -> list[float]:
    value = one.stats[key]
    return value if isinstance(value, list) else []
