"""What goes wrong when in a chaos run: a function of its seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from dsdq.testing.proxy import NO_FAULTS, Faults, Line


class Act(StrEnum):
    """One thing that goes wrong.

    A verifier is killed (SIGKILL), told to leave (SIGTERM), or stopped past its lease and continued. Redis is restarted
    or killed and started again on its folder. Connections are cut, or stall; ``WEATHER`` changes what happens to
    messages from now on.
    """

    KILL_VERIFIER = "kill -9 a verifier"
    END_VERIFIER = "SIGTERM a verifier"
    STOP_VERIFIER = "SIGSTOP a verifier past its lease"
    RESTART_REDIS = "restart Redis"
    KILL_REDIS = "kill -9 Redis"
    CUT = "cut connections"
    STALL = "stall connections"
    WEATHER = "change the weather"


PERIODS_S = {
    Act.KILL_VERIFIER: (4.0, 8.0),
    Act.END_VERIFIER: (15.0, 25.0),
    Act.STOP_VERIFIER: (10.0, 16.0),
    Act.RESTART_REDIS: (35.0, 50.0),
    Act.KILL_REDIS: (25.0, 45.0),
    Act.CUT: (3.0, 7.0),
    Act.STALL: (10.0, 18.0),
    Act.WEATHER: (4.0, 8.0),
}
"""The least and the most time between two acts of a kind."""

KILLS = 3


@dataclass(frozen=True, slots=True)
class Event:
    """An act at ``at_s`` seconds from the start.

    ``choice``, from 0 to below 1, chooses a verifier; ``share`` of the connections are struck; what lasts, lasts for
    ``lasts_s``.
    """

    at_s: float
    act: Act
    choice: float
    share: float
    lasts_s: float
    faults: Faults


def draw(rng: random.Random, seconds: float, lease_s: float) -> list[Event]:
    """Return the events of a run of ``seconds``, in order."""
    events = []
    for act, (least_s, most_s) in PERIODS_S.items():
        at_s = rng.uniform(0.5, most_s / 2)
        while at_s < seconds:
            lasts_s = rng.uniform(1.25, 2.0) * lease_s if act is Act.STOP_VERIFIER else rng.uniform(0.2, 1.5) * lease_s
            events.append(Event(at_s, act, rng.random(), rng.uniform(0.2, 1.0), lasts_s, draw_weather(rng)))
            at_s += rng.uniform(least_s, most_s)
    return sorted(events, key=lambda event: event.at_s)


def draw_kills(rng: random.Random, seconds: float, lease_s: float) -> list[Event]:
    """Return :data:`KILLS` kills of verifiers in ``seconds``, in order, and nothing else.

    They are spread, so that a verifier with a real model can start in between.
    """
    part_s = seconds / KILLS
    times_s = [part_s * (number + rng.uniform(0.2, 0.5)) for number in range(KILLS)]
    return [Event(at_s, Act.KILL_VERIFIER, rng.random(), 1.0, lease_s, NO_FAULTS) for at_s in times_s]


def draw_weather(rng: random.Random) -> Faults:
    """Return what happens to messages for a while: one time in four, nothing."""
    if rng.random() < 0.25:
        return NO_FAULTS
    return Faults(
        up=_draw_line(rng),
        down=_draw_line(rng),
        lose_request=rng.choice((0.0, 0.002, 0.005)),
        lose_reply=rng.choice((0.0, 0.002, 0.005)),
        duplicate=rng.choice((0.0, 0.05, 0.2)),
    )


def _draw_line(rng: random.Random) -> Line:
    return Line(
        delay_ms=rng.choice((0.0, 1.0, 5.0)),
        jitter_ms=rng.choice((0.0, 5.0, 30.0)),
        bytes_per_s=rng.choice((None, None, 100_000.0)),
    )
