"""Texts that ran live as traces for a scenario: when they were asked for, and which guesses were right. Pure.

Both are in the order in which the texts were asked for, so that a request of one finds its guesses in the other.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pydantic import ValidationError

from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.guesses import MARGIN
from dsdq.sim.learning import guesses_of, names_of
from dsdq.sim.observed import Observed
from dsdq.sim.scenario.mistakes import told
from dsdq.sim.scenario.traces import Arrival
from dsdq.sim.texts import Recording


def arrivals_of(texts: Sequence[Observed]) -> list[Arrival]:
    """Return the requests, timed from the first one on, their devices counted from 0.

    A device makes one text at a time. So texts of one number that were made at the same time, as clients in several
    processes write them, are taken to be of several devices.

    Raises:
        ConfigError: a text is longer than a trace may say.
    """
    ordered = _in_order(texts)
    began_s = ordered[0].began_s
    try:
        return [
            Arrival(at_s=one.began_s - began_s, prompt=one.prompt, output=one.tokens, device=device)
            for one, device in zip(ordered, _devices(ordered), strict=True)
        ]
    except ValidationError as error:
        raise ConfigError(f"trace: {told(error, Arrival)}") from None


def _in_order(texts: Iterable[Observed]) -> list[Observed]:
    return sorted(texts, key=lambda one: one.began_s)


def _devices(ordered: Iterable[Observed]) -> list[int]:
    """Return whose each text is: another one of the same number while the last is not over."""
    until_s, numbers = dict[tuple[int, int], float](), list[int]()
    for one in ordered:
        lane = 0
        while until_s.get((one.device, lane), one.began_s) > one.began_s:
            lane += 1
        until_s[one.device, lane] = one.began_s + one.answers[-1].at_ms / 1000
        numbers.append(list(until_s).index((one.device, lane)))
    return numbers


def recordings_of(texts: Sequence[Observed], mode: Mode) -> list[Recording]:
    """Return each text's guesses by place; what one run of a text shows goes for all of them.

    No guess met the target where it gave a token of its own behind a draft that stood (a bonus), or where a stream went
    on: such places are drawn, by luck that is the same each time, with the share of all known guesses that were right.

    Raises:
        ConfigError: none of the mode's drafts met the target.
    """
    ordered = _in_order(texts)
    known = guesses_of(ordered, mode)
    if not known:
        raise ConfigError(f"trace: expected drafts of the mode {mode.value} that met the target, got none")
    share = fmean(right for guesses in known.values() for right in guesses.values())
    return [
        Recording(_right(known.get(name, {}), one.tokens + MARGIN, share, random.Random(name)))  # noqa: S311
        for name, one in zip(names_of(ordered), ordered, strict=True)
    ]


def _right(known: Mapping[int, bool], places: int, share: float, luck: random.Random) -> str:
    drawn = [luck.random() < share for _ in range(places)]
    return "".join("1" if known.get(place, guess) else "0" for place, guess in enumerate(drawn))
