"""An alignment as a picture: acceptance by position, tokens per round, rates over the round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsdq.alignment.speeds import Ways
from dsdq.errors import ConfigError

_POINTS = 60


def draw(file: Path, found: dict[str, Any], ways: Ways) -> None:
    """Write the picture; the file's name says in which format.

    Raises:
        ConfigError: it cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(13, 4), layout="constrained")
    positions, rounds, over_rtt = figure.subplots(1, 3)
    figure.suptitle(f"{found['draft']} for {found['target']}, T = {found['sampling']['temperature']:g}")
    numbers = [one["position"] for one in found["by_position"]]
    positions.plot(numbers, [one["acceptance"] for one in found["by_position"]], "o-", label="accepted")
    positions.plot(numbers, [one["survival"] for one in found["by_position"]], "o-", label="it and all before")
    positions.set(xlabel="position in the window", ylabel="share", ylim=(0, 1.02))
    windows = [one["window"] for one in found["tokens_per_round"]]
    measured = [np.nan if one["measured"] is None else one["measured"] for one in found["tokens_per_round"]]
    rounds.plot(windows, measured, "o-", label="measured")
    rounds.plot(windows, [one["independent"] for one in found["tokens_per_round"]], "--", label="if independent")
    rounds.set(xlabel="window", ylabel="tokens per round", ylim=(0, None))
    _over_rtt(over_rtt, found, ways)
    for part in (positions, rounds, over_rtt):
        part.legend()
        part.grid(visible=True, alpha=0.3)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        msg = f"--plot {file}: expected a file to write a picture to, such as fit.png: {error}"
        raise ConfigError(msg) from error


def _over_rtt(part: Any, found: dict[str, Any], ways: Ways) -> None:  # noqa: ANN401 - matplotlib's axes
    most_ms = max(2 * found["break_even"]["target_only_ms"], *(one["rtt_ms"] for one in found["rates"]), 10.0)
    trips = np.linspace(0, most_ms, _POINTS)
    part.plot(trips, [ways.edge(trip).rate for trip in trips], label="device drafts")
    part.plot(trips, [ways.sequential(trip).rate for trip in trips], label="device, one in flight")
    part.axhline(ways.target_only(), color="black", linestyle=":", label="target alone")
    part.axhline(ways.colocated().rate, color="black", linestyle="--", label="verifier drafts")
    part.axvline(found["break_even"]["target_only_ms"], color="gray", alpha=0.5)
    part.set(xlabel="round trip, ms", ylabel="tokens/s", ylim=(0, None))
