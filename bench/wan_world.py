"""What ``bench/wan.py`` compares, and what its runs come to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from dsdq.policies.pipeline import World, simulate
from dsdq.policies.window import Mode, Static, rates
from dsdq.policies.window.planner import WINDOWS
from dsdq.policies.window.rates import Speeds
from dsdq.sim.learning import guesses_of
from dsdq.sim.observed import Observed
from producers.twin.device import DEEPEST, WIDEST

RTTS_MS = (0, 10, 30, 60, 100, 200)
WARM_UP_ROUNDS = 10
ADAPTIVE, LEARNED = "optimal", "awc"
CLOUD_AR, COLOCATED, SYNC, PIPELINED = "cloud-ar", "co-located", "sync", "pipelined"
SINGLE = (CLOUD_AR, COLOCATED, SYNC, PIPELINED)
PEERS = {"speedup_vs_sync": SYNC, "speedup_vs_cloud_ar": CLOUD_AR, "speedup_vs_colocated": COLOCATED}
MODES = (*SINGLE, "backoff", LEARNED, ADAPTIVE)


@dataclass(frozen=True, slots=True)
class Way:
    """A mode and one policy that keeps to it."""

    mode: str
    policy: str

    @property
    def window(self) -> int:
        """Return the fixed window of ``static:WINDOW:DEPTH``."""
        return int(self.policy.split(":")[1])

    @property
    def depth(self) -> int:
        """Return its fixed depth."""
        return int(self.policy.split(":")[2])


Repeat = Mapping[Way, Observed]
"""One text in every way."""


def rate_behind(arrivals: Sequence[tuple[float, int]], tokens: int) -> float:
    """Return tokens per second from the first verdict behind so many tokens to the last one."""
    began_ms, before = next((one for one in arrivals if one[1] >= tokens), arrivals[0])
    ended_ms, last = arrivals[-1]
    return 1000 * (last - before) / (ended_ms - began_ms) if ended_ms > began_ms else 0.0


# Which fixed windows and depths are worth measuring


CALIBRATION = (Way(CLOUD_AR, "target-only"), *(Way(SYNC, f"static:{window}:1") for window in (4, 8, 16)))


def speeds_of(repeats: Sequence[Repeat]) -> Speeds:
    """Return what synchronous runs show, those of target-only too: a pass over one position."""
    flat = [(way, run) for repeat in repeats for way, run in repeat.items() if way.mode == SYNC]
    passes = [(way.window + 1, _pass_ms(run)) for way, run in flat]
    passes += [(1, _pass_ms(run)) for repeat in repeats for way, run in repeat.items() if way.mode == CLOUD_AR]
    position_ms, step_ms = np.polyfit([one[0] for one in passes], [one[1] for one in passes], 1)
    accepted = sum(run.accepted for _, run in flat)
    return Speeds(
        acceptance=min(accepted / max(accepted + sum(run.kinds.count("c") for _, run in flat), 1), 0.98),
        draft_ms=sum(run.draft_ms for _, run in flat) / sum(run.drafted for _, run in flat),
        network_ms=median(one.network_ms for _, run in flat for one in run.answers),
        queue_ms=0.0,
        step_ms=float(step_ms),
        position_ms=max(float(position_ms), 0.0),
    )


def _pass_ms(run: Observed) -> float:
    return median(one.verify_ms for one in run.answers)


def candidates(speeds: Speeds, own_draft_ms: float) -> list[Way]:
    """Return the ways to measure at these speeds: each mode's best by its formula, and what lies beside it.

    Args:
        speeds: of the device.
        own_draft_ms: what the verifier takes to draft a token.
    """
    windows = np.asarray([one for one in WINDOWS if one <= WIDEST], dtype=np.float64)
    flat = int(rates.sequential_rates(speeds, windows).argmax())
    own = int(rates.colocated_rates(speeds, speeds.acceptance, own_draft_ms, windows).argmax())
    return [
        Way(CLOUD_AR, "target-only"),
        *(Way(COLOCATED, f"co-located:{window}") for window in _around(windows, own, (0, -2))),
        *(Way(SYNC, f"static:{window}:1") for window in _around(windows, flat, (0, -2, 2))),
        *(Way(PIPELINED, f"static:{window}:{depth}") for window, depth in _deep(speeds, windows)),
        Way("backoff", "backoff"),
        Way(LEARNED, LEARNED),
        Way(ADAPTIVE, ADAPTIVE),
    ]


def _around(windows: rates.Floats, best: int, places: Sequence[int]) -> list[int]:
    chosen = dict.fromkeys(min(max(best + place, 0), len(windows) - 1) for place in places)
    return [int(windows[place]) for place in chosen]


def _deep(speeds: Speeds, windows: rates.Floats) -> list[tuple[int, int]]:
    """Return the best pair of window and depth, and the best of half the depth."""
    pairs = list(product(windows, range(2, DEEPEST + 1)))
    found = rates.pipelined_rates(
        speeds, np.asarray([one[0] for one in pairs]), np.asarray([one[1] for one in pairs], dtype=np.int64)
    )
    best = pairs[int(found.argmax())]
    shallow = [place for place, one in enumerate(pairs) if one[1] <= max(2, best[1] // 2)]
    beside = pairs[max(shallow, key=lambda place: float(found[place]))]
    return [(int(window), depth) for window, depth in dict.fromkeys((best, beside))]


def qualified(first: Repeat) -> list[Way]:
    """Return each mode's fastest way on the first text: later texts are left to these."""
    best: dict[str, Way] = {}
    for way, run in first.items():
        if way.mode not in best or _whole(run) > _whole(first[best[way.mode]]):
            best[way.mode] = way
    return list(best.values())


def _whole(run: Observed) -> float:
    return rate_behind(run.arrivals, 0)


# What a cell comes to


def summary(repeats: Sequence[Repeat]) -> dict[str, Any]:
    """Return the figures of one variant at one round trip time, for the ways that qualified on the first text."""
    ways = {way.mode: way for way in qualified(repeats[0])}
    found, learned = _rates(repeats, ways, ADAPTIVE), _rates(repeats, ways, LEARNED)
    best, learned_best = _best(found), _best(learned)
    speeds = speeds_of(repeats)
    simulated = [_simulated(ways[PIPELINED], speeds, repeat) for repeat in repeats]
    sync, pipelined = ([_whole(repeat[ways[mode]]) for repeat in repeats] for mode in (SYNC, PIPELINED))
    shares = {key: _ratio(found[ADAPTIVE], found[mode]) for key, mode in PEERS.items() if mode in found}
    return {
        **shares,
        "share_of_best_mode": _ratio(found[ADAPTIVE], found[best]),
        "awc_share_of_best_mode": _ratio(learned[LEARNED], learned[learned_best]),
        "share_of_simulated": _ratio(pipelined, simulated),
        "pipelined_vs_sync": _ratio(pipelined, sync),
        "best_mode": best,
        "speeds": {name: getattr(speeds, name) for name in _SHOWN_SPEEDS},
        "modes": {
            mode: {"policy": way.policy, "tokens_per_s": median(found[mode])}
            | _figures(mode, [repeat[way] for repeat in repeats])
            for mode, way in ways.items()
        },
    }


def _rates(repeats: Sequence[Repeat], ways: Mapping[str, Way], adaptive: str) -> dict[str, list[float]]:
    """Return each mode's rates, text by text, behind the first rounds of an adaptive policy."""
    stretches = [_warm_up_tokens(repeat[ways[adaptive]]) for repeat in repeats]
    return {
        mode: [rate_behind(repeat[way].arrivals, tokens) for repeat, tokens in zip(repeats, stretches, strict=True)]
        for mode, way in ways.items()
    }


def _best(found: Mapping[str, Sequence[float]]) -> str:
    """Return the fastest of the modes that are kept throughout."""
    return max((mode for mode in SINGLE if mode in found), key=lambda mode: median(found[mode]))


_SHOWN_SPEEDS = ("acceptance", "draft_ms", "network_ms", "step_ms", "position_ms")


def _warm_up_tokens(run: Observed) -> int:
    return run.arrivals[min(WARM_UP_ROUNDS, len(run.arrivals) - 1) - 1][1]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of what the same texts came to."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def _figures(mode: str, runs: Sequence[Observed]) -> dict[str, float | None]:
    """Return the figures of a way. What adaptive policies wasted is not known: some drafts may be the verifier's."""
    drafted, tokens = sum(run.drafted for run in runs), sum(len(run.kinds) for run in runs)
    wasted = 1 - sum(run.accepted for run in runs) / drafted if drafted else 0.0
    return {
        "tpot_ms": median(run.tpot_ms for run in runs),
        "ttft_ms": median(run.ttft_ms for run in runs),
        "wasted_drafts": None if mode in {ADAPTIVE, LEARNED} else wasted,
        "bytes_per_token": sum(run.bytes_up + run.bytes_down for run in runs) / tokens,
        "tokens_per_verdict": tokens / sum(len(run.arrivals) for run in runs),
    }


def _simulated(way: Way, speeds: Speeds, repeat: Repeat) -> float:
    """Return the rate of the same text, right and wrong guesses included, in the simulation."""
    world = World(speeds.acceptance, speeds.draft_ms, speeds.network_ms, speeds.step_ms, speeds.position_ms)
    policy = Static(way.window, way.depth)
    # One text, so its guesses are of one: those of windows that the device drafted.
    (known,) = guesses_of(list(repeat.values()), Mode.SPECULATE).values()
    outcome = simulate(policy, world, seed=0, tokens=len(repeat[way].kinds), known=known)
    arrivals, committed = [], 0
    for one in outcome.rounds:
        committed += one.committed
        arrivals.append((one.time_ms, committed))
    return rate_behind(arrivals, 0)
