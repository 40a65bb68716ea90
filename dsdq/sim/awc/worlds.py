"""Random worlds: workload, network, devices and load, as wide as a device may meet them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dsdq.policies.window.ways import DEPTHS, WINDOWS
from dsdq.sim.scenario.deciding import Window
from dsdq.sim.scenario.model import Arrivals, Broker, Devices, Link, OwnDraft, Scenario, Verifiers
from dsdq.sim.scenario.workload import Acceptance, Lengths, Workload

MAX_WINDOW, MAX_DEPTH = WINDOWS[-1], DEPTHS[-1]
SINGLE_TOKENS, FLEET_TOKENS = 320, 1200
_SINGLE = 0.6
_OWN_DRAFT = 0.5
_STEERED = 0.75


@dataclass(frozen=True, slots=True)
class World:
    """One verifier and the devices that draft for it. Times in milliseconds.

    Attributes:
        seed: of all luck in it.
        sessions: devices that make a text at a time.
        tokens: of each text.
        acceptance: α of the devices' drafters, on average over texts, between which it deviates by
        between: so much.
        first: φ, behind a wrong guess; α if None.
        draft_ms: a device's time for a token.
        rtt_ms: round trip.
        jitter_ms: what it takes longer, on average.
        step_ms: of a verifier's step, without
        row_ms: what each session adds, and
        position_ms: what each position adds.
        variation: deviation of a step's time, over its mean.
        between_ms: what a verifier's program takes between steps,
        round_ms: and a device's for each round.
        latency_ms: of Redis, in each direction.
        own_draft_ms: a pass of the verifier's own drafter; None if it has none.
        own_acceptance: α of that.
        own_first: φ of that.
        steered: whether the verifier asks for narrower windows under load.
    """

    seed: int
    sessions: int
    tokens: int
    acceptance: float
    between: float
    first: float | None
    draft_ms: float
    rtt_ms: float
    jitter_ms: float
    step_ms: float
    row_ms: float
    position_ms: float
    variation: float
    between_ms: float
    round_ms: float
    latency_ms: float
    own_draft_ms: float | None
    own_acceptance: float
    own_first: float | None
    steered: bool

    def scenario(self, policy: str) -> Scenario:
        """Return it as a scenario in which all devices follow a policy.

        One device makes one text. Those of a fleet begin one after the other, each again when it has made its text.
        """
        think_s = 0.0 if self.sessions == 1 else 0.3 * self.tokens * (self.step_ms + self.rtt_ms / 4) / 1000
        return Scenario(
            name="awc",
            seed=self.seed,
            duration_s=max(2 * think_s, 1e-3),
            devices={
                "all": Devices(
                    count=self.sessions,
                    draft_ms=self.draft_ms,
                    round_ms=self.round_ms,
                    link=Link(rtt_ms=self.rtt_ms, jitter_ms=self.jitter_ms),
                    arrivals=Arrivals(think_s=think_s),
                )
            },
            verifiers=Verifiers(
                step_ms=self.step_ms,
                row_ms=self.row_ms,
                position_ms=self.position_ms,
                variation=self.variation,
                between_ms=self.between_ms,
                slots=256,
                draft=None if self.own_draft_ms is None else OwnDraft(step_ms=self.own_draft_ms),
            ),
            workloads={
                "default": Workload(
                    output=Lengths(mean=self.tokens, most=100_000),
                    acceptance=Acceptance(mean=self.acceptance, first=self.first, between=self.between),
                    own_acceptance=Acceptance(mean=self.own_acceptance, first=self.own_first, between=self.between),
                )
            },
            broker=Broker(latency_ms=self.latency_ms),
            window=Window(policy=policy, max_window=MAX_WINDOW, max_depth=MAX_DEPTH, steered=self.steered),
        )


def draw(luck: np.random.Generator) -> World:
    """Return a random world. Sizes are log-uniform, shares uniform; three in five worlds have one session."""
    sessions = 1 if luck.random() < _SINGLE else round(_between(luck, 2, 64))
    step_ms, rtt_ms = _between(luck, 5, 60), _between(luck, 1, 300) * (luck.random() > 0.1)
    acceptance, first = _shares(luck)
    own_acceptance, own_first = (acceptance, first) if luck.random() < 0.4 else _shares(luck)
    return World(
        seed=int(luck.integers(1 << 40)),
        sessions=sessions,
        tokens=SINGLE_TOKENS if sessions == 1 else max(64, min(160, FLEET_TOKENS // sessions)),
        acceptance=acceptance,
        between=luck.uniform(0, 0.15) * (luck.random() < 0.5),
        first=first,
        draft_ms=_between(luck, 0.2, 20),
        rtt_ms=rtt_ms,
        jitter_ms=rtt_ms * luck.choice([0.0, 0.05, 0.1, 0.3]) + (0.5 if sessions > 1 else 0.0),
        step_ms=step_ms,
        row_ms=step_ms * luck.uniform(0, 0.01),
        position_ms=step_ms * _between(luck, 3e-4, 0.03),
        variation=float(luck.choice([0.0, 0.02, 0.05, 0.15])),
        between_ms=_between(luck, 0.05, 8),
        round_ms=_between(luck, 0.05, 4),
        latency_ms=_between(luck, 0.1, 3),
        own_draft_ms=_between(luck, 0.2, 10) if luck.random() < _OWN_DRAFT else None,
        own_acceptance=own_acceptance,
        own_first=own_first,
        steered=bool(luck.random() < _STEERED),
    )


def _shares(luck: np.random.Generator) -> tuple[float, float | None]:
    """Return α and φ of a drafter: a model, or one that looks up what it has read and seldom begins right."""
    acceptance = luck.uniform(0.05, 0.95)
    if luck.random() < 0.6:
        return acceptance, None
    return acceptance, min(acceptance * luck.uniform(0.2, 1.1), 1.0)


def _between(luck: np.random.Generator, least: float, most: float) -> float:
    return math.exp(luck.uniform(math.log(least), math.log(most)))
