"""A scenario's numbers from texts that ran live, and from ``bench/engine.py``. Pure; how well they fit is said too.

A verdict says what its pass took and what it waited for beside it; the rest is the link's, known or not, and the
programs'. What the simulation does not explain of the time to a first token is the device's beginning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import numpy as np

from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.figures import figures
from dsdq.sim.fitting import LEAST_STEP_MS, Pass, StepFit, fit_steps
from dsdq.sim.learning import acceptance_of
from dsdq.sim.observed import Answer, Observed
from dsdq.sim.run import simulate
from dsdq.sim.scenario.deciding import Routing, Window
from dsdq.sim.scenario.model import Arrivals, Broker, Devices, Link, OwnDraft, Scenario, Verifiers
from dsdq.sim.scenario.traces import Arrival
from dsdq.sim.scenario.workload import Acceptance, Lengths, Workload

DEVICES, WORKLOAD = "live", "default"
"""The names of the scenario's devices, and of what they ask for."""

MOST_VARIATION = 1.0
DIGITS = 5

SIMULATED_TEXTS, BEGINNINGS = 64, 8
"""How many texts are simulated for figures, and of each kind for the time that they begin with."""

NEVER_S = 1e9
"""Devices that trace a text have just connected, or ask for one after the other: they know who serves."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A scenario in whose numbers the texts would have come as they did, and notes on how well they fit."""

    scenario: Scenario
    notes: tuple[str, ...]


def calibrate(texts: Sequence[Observed], engine: Mapping[str, Any] | None = None) -> Calibration:
    """Return the world that texts ran in.

    Args:
        texts: as :func:`dsdq.sim.observed.read_observed` reads them, at least one.
        engine: the JSON of ``bench/engine.py``; its steps, of many rows, take the place of those of the texts.

    Raises:
        ConfigError: the texts do not show what a pass takes, or ``engine`` is not what that benchmark writes.
    """
    steps = fit_steps(_passes(texts) if engine is None else engine_passes(engine))
    network = _network(texts)
    devices = Devices(
        count=len({one.device for one in texts}),
        draft_ms=_draft_ms(texts),
        round_ms=_round_ms(texts),
        link=network.link,
        arrivals=Arrivals(think_s=0.0),
    )
    scenario = Scenario(
        name="calibrated",
        about="The world of a live trace",
        duration_s=simulated_s(texts, devices.count),
        devices={DEVICES: devices},
        verifiers=_verifiers(texts, steps),
        workloads={WORKLOAD: _workload(texts)},
        broker=_broker(texts, network),
        window=Window(
            policy=Counter(one.policy for one in texts).most_common(1)[0][0],
            max_window=texts[0].max_window,
            max_depth=texts[0].max_depth,
        ),
        routing=Routing(trust_alone_s=NEVER_S),
    )
    begin_ms = _begin_ms(scenario, texts)
    whole = scenario.model_copy(update={"devices": {DEVICES: devices.model_copy(update={"begin_ms": begin_ms})}})
    exact = Scenario.model_validate(_rounded(whole.model_dump()))
    return Calibration(exact, tuple(_notes(texts, steps, network)))


def _rounded(value: Any) -> Any:  # noqa: ANN401 - a document
    """Return a document with all numbers as exact as anything is measured."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def at_terms(scenario: Scenario, text: Observed) -> Scenario:
    """Return a calibrated scenario with a text's own terms: its link, where that is known, policy and bounds.

    Recorded texts are taken to be their devices' first ones: policies had nothing to remember.
    """
    devices = scenario.devices[DEVICES].model_copy(update={"remembers": False})
    if text.rtt_ms is not None:
        link = devices.link.model_copy(update={"rtt_ms": text.rtt_ms, "jitter_ms": text.jitter_ms})
        devices = devices.model_copy(update={"link": link})
    window = scenario.window.model_copy(
        update={"policy": text.policy, "max_window": text.max_window, "max_depth": text.max_depth}
    )
    return scenario.model_copy(update={"devices": {DEVICES: devices}, "window": window})


def asking(scenario: Scenario, arrivals: Sequence[Arrival], trace: str) -> Scenario:
    """Return a calibrated scenario whose devices ask as in a trace of these requests, until the last of them."""
    count = 1 + max(one.device or 0 for one in arrivals)
    asked = {"count": count, "arrivals": Arrivals(trace=trace)}
    devices = {DEVICES: scenario.devices[DEVICES].model_copy(update=asked)}
    return scenario.model_copy(update={"devices": devices, "duration_s": math.floor(arrivals[-1].at_s) + 1.0})


def guessing(scenario: Scenario, trace: str) -> Scenario:
    """Return a calibrated scenario whose devices guess as in a trace of recordings."""
    workload = scenario.workloads[WORKLOAD].model_copy(update={"acceptance": Acceptance(trace=trace)})
    return scenario.model_copy(update={"workloads": {WORKLOAD: workload}})


def simulated_s(texts: Sequence[Observed], devices: int) -> float:
    """Return for how long so many devices are to ask for texts like these, for figures that luck hardly moves."""
    return max(SIMULATED_TEXTS / devices * fmean(one.answers[-1].at_ms for one in texts) / 1000, 1.0)


# The verifier


def engine_passes(engine: Mapping[str, Any]) -> list[Pass]:
    """Return the steps of ``bench/engine.py``: by sessions and window, ``ms.ROWSxWINDOW.step``.

    Raises:
        ConfigError: the document is not that benchmark's.
    """
    try:
        passes = [
            Pass(float(rows), float(rows) * float(window), float(spent["step"]))
            for name, spent in engine["ms"].items()
            for rows, window in [name.split("x")]
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        msg = "engine: expected the JSON of bench/engine.py with steps as ms.ROWSxWINDOW.step, got something else"
        raise ConfigError(msg) from None
    if not all(
        math.isfinite(value) and value > 0 for one in passes for value in (one.rows, one.positions, one.took_ms)
    ):
        raise ConfigError("engine: expected rows, windows and milliseconds above 0 in ms.ROWSxWINDOW.step")
    return passes


def _passes(texts: Sequence[Observed]) -> list[Pass]:
    """Return the passes behind each text's first; the rows of one are taken to be alike."""
    return [
        Pass(one.rows, one.rows * (one.judged + 1.0), one.verify_ms)
        for one in _later(texts)
        if one.mode is not Mode.COLOCATED
    ]


def _verifiers(texts: Sequence[Observed], steps: StepFit) -> Verifiers:
    return Verifiers(
        step_ms=steps.step_ms,
        row_ms=steps.row_ms,
        position_ms=steps.position_ms,
        prefill_ms=_prefill_ms(texts, steps),
        variation=min(steps.error_ms / max(steps.mean_ms, LEAST_STEP_MS), MOST_VARIATION),
        between_ms=_between_ms(texts),
        draft=_own_draft(texts, steps),
    )


def _prefill_ms(texts: Sequence[Observed], steps: StepFit) -> float | None:
    """Return what a prompt's position takes: what texts that began as streams waited for beyond a pass; None if none.

    Another text's pass may have been waited for too, so only those count that ran alone.
    """
    first = [
        (one.prompt - 1, one.answers[0].queue_ms + one.answers[0].verify_ms)
        for one in texts
        if one.answers[0].mode is Mode.TARGET_ONLY and one.answers[0].rows == 1 and one.prompt > 1
    ]
    if not first:
        return None
    alone_ms = steps.step_ms + steps.row_ms + steps.position_ms
    return max(sum(took_ms - alone_ms for _, took_ms in first) / sum(prompt for prompt, _ in first), 0.0)


def _own_draft(texts: Sequence[Observed], steps: StepFit) -> OwnDraft | None:
    """Return what the verifier's own drafter takes: what co-located steps take beyond the pass itself.

    One that has drafted nothing behind a text's first pass is there all the same; what it takes is not known.
    """
    own = [one for one in _later(texts) if one.mode is Mode.COLOCATED and one.judged]
    if not own:
        drafts = any(answer.mode is Mode.COLOCATED for one in texts for answer in one.answers)
        return OwnDraft(step_ms=0.0) if drafts else None
    spare_ms = sum(
        one.verify_ms - steps.step_ms - one.rows * (steps.row_ms + steps.position_ms * (one.judged + 1)) for one in own
    )
    return OwnDraft(step_ms=max(spare_ms / sum(one.judged for one in own), 0.0))


def _between_ms(texts: Sequence[Observed]) -> float:
    """Return what a verifier takes between two steps: what streams take beyond their passes, on the shortest link."""
    streams = [one for one in texts if all(answer.mode is not Mode.SPECULATE for answer in one.answers)]
    nearest = min((one.rtt_ms or 0.0 for one in streams), default=0.0)
    beyond_ms = [
        (one.answers[-1].at_ms - one.answers[0].at_ms - sum(answer.verify_ms for answer in one.answers[1:]))
        / (len(one.answers) - 1)
        for one in streams
        if (one.rtt_ms or 0.0) == nearest and len(one.answers) > 1
    ]
    return max(median(beyond_ms), 0.0) if beyond_ms else 0.0


# The device


def _draft_ms(texts: Sequence[Observed]) -> float:
    drafted = sum(one.drafted for one in texts)
    return sum(one.draft_ms for one in texts) / drafted if drafted else 0.0


def _round_ms(texts: Sequence[Observed]) -> float:
    """Return what a device takes from a verdict that refuted its draft to the next window, beside drafting that."""
    draft_ms = _draft_ms(texts)
    beyond_ms = [
        after.at_ms - after.waited_ms - before.at_ms - after.judged * draft_ms
        for one in texts
        for before, after in pairwise(one.answers)
        if before.mode is after.mode is Mode.SPECULATE and before.kinds.endswith("c")
    ]
    return max(fmean(beyond_ms), 0.0) if beyond_ms else 0.0


def _begin_ms(scenario: Scenario, texts: Sequence[Observed]) -> float:
    """Return what the simulation does not explain of the time to the first token, on average over all terms."""
    terms: dict[tuple[str, float | None], list[Observed]] = {}
    for one in texts:
        terms.setdefault((one.policy, one.rtt_ms), []).append(one)
    missed_ms, brief_s = list[float](), scenario.duration_s * BEGINNINGS / SIMULATED_TEXTS
    for alike in terms.values():
        few = at_terms(scenario, alike[0]).model_copy(update={"duration_s": brief_s})
        simulated = figures(few, simulate(few))
        missed_ms += [one.ttft_ms - simulated["ttft_ms"] for one in alike]
    return max(fmean(missed_ms), 0.0)


# The link


@dataclass(frozen=True, slots=True)
class _Network:
    """A link, what Redis and programs add in each direction, and by how much round trips miss that on average."""

    link: Link
    latency_ms: float
    error_ms: float
    answers: int


def _network(texts: Sequence[Observed]) -> _Network:
    """Return what answers to drafts show: they wait for nothing but link, queue and pass."""
    shown = [
        (one, answer.network_ms)
        for one in texts
        for answer in one.answers[1:]
        if answer.mode is Mode.SPECULATE and answer.network_ms > 0
    ]
    known = [one for one in texts if one.rtt_ms is not None]
    if not shown:
        link = Link(rtt_ms=known[0].rtt_ms or 0.0, jitter_ms=known[0].jitter_ms) if known else Link(rtt_ms=0.0)
        return _Network(link, 0.0, 0.0, 0)
    if len(known) < len(texts):
        times = np.asarray([network_ms for _, network_ms in shown])
        least_ms = float(np.percentile(times, 5))
        link = Link(rtt_ms=least_ms, jitter_ms=max(float(times.mean()) - least_ms, 0.0))
        return _Network(link, 0.0, float(np.abs(times - times.mean()).mean()), len(shown))
    beyond = np.asarray([network_ms - (one.rtt_ms or 0.0) - one.jitter_ms for one, network_ms in shown])
    link = Link(rtt_ms=texts[0].rtt_ms or 0.0, jitter_ms=texts[0].jitter_ms)
    mean_ms = float(beyond.mean())
    return _Network(link, max(mean_ms / 2, 0.0), float(np.abs(beyond - mean_ms).mean()), len(shown))


def _broker(texts: Sequence[Observed], network: _Network) -> Broker:
    """Return latency and message sizes; what a verdict's bytes are made of is seen where texts have other rounds."""
    terms = np.asarray([(len(one.answers), one.tokens) for one in texts], dtype=np.float64)
    sizes = np.asarray([one.bytes_down for one in texts], dtype=np.float64)
    broker = Broker(latency_ms=network.latency_ms)
    if np.linalg.matrix_rank(terms) < terms.shape[1]:
        return broker
    message, token = np.linalg.lstsq(terms, sizes, rcond=None)[0]
    if min(message, token) <= 0:
        return broker
    return broker.model_copy(update={"message_bytes": float(message), "token_bytes": float(token)})


# The texts


def _workload(texts: Sequence[Observed]) -> Workload:
    return Workload(
        prompt=Lengths(mean=fmean(one.prompt for one in texts)),
        output=Lengths(mean=fmean(one.max_tokens or one.tokens for one in texts)),
        acceptance=acceptance_of(texts, Mode.SPECULATE) or Acceptance(),
        own_acceptance=acceptance_of(texts, Mode.COLOCATED),
        known_length=all(one.max_tokens for one in texts),
    )


def _later(texts: Sequence[Observed]) -> Iterator[Answer]:
    """Give all verdicts but each text's first, whose pass may feed a prompt too."""
    for one in texts:
        yield from one.answers[1:]


def _notes(texts: Sequence[Observed], steps: StepFit, network: _Network) -> Iterator[str]:
    yield f"{len(texts)} texts of {sum(one.tokens for one in texts)} tokens"
    yield (
        f"steps: {steps.passes} passes, off by {steps.error_share:.1%} on average; "
        f"root mean square {steps.error_ms:.2f} ms"
    )
    if network.answers:
        yield f"link: {network.answers} round trips, off by {network.error_ms:.2f} ms on average"
    else:
        yield "link: no answer to a draft, so nothing was learnt of it"
