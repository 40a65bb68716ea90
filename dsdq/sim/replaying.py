"""Texts that ran live as traces for a scenario: when they were asked for, and which guesses were right. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.learning import guesses_of
from dsdq.sim.observed import Observed
from dsdq.sim.scenario.traces import Arrival
from dsdq.sim.texts import Recording


def arrivals_of(texts: Sequence[Observed]) -> list[Arrival]:
    """Return the requests in the order in which they came, from the first one on; devices are counted from 0."""
    began_s = min(one.began_s for one in texts)
    devices = {device: number for number, device in enumerate(sorted({one.device for one in texts}))}
    return [
        Arrival(at_s=one.began_s - began_s, prompt=one.prompt, output=one.tokens, device=devices[one.device])
        for one in sorted(texts, key=lambda one: one.began_s)
    ]


def recordings_of(texts: Sequence[Observed], mode: Mode) -> list[Recording]:
    """Return each text's guesses by place, up to the last one of which is known whether it was right.

    No guess met the target where it gave a token of its own behind a draft that stood (a bonus) or a stream went on:
    such places are drawn, by luck that is the same each time, with the share of all known guesses that were right.

    Raises:
        ConfigError: none of the mode's drafts met the target.
    """
    known = guesses_of(texts, mode)
    total = sum(len(one) for one in known)
    if not total:
        raise ConfigError(f"trace: expected drafts of the mode {mode.value} that met the target, got none")
    share = sum(sum(one.values()) for one in known) / total
    return [Recording(_right(one, share, random.Random(number))) for number, one in enumerate(known)]  # noqa: S311


def _right(known: Mapping[int, bool], share: float, luck: random.Random) -> str:
    drawn = (luck.random() < share for _ in range(max(known) + 1))
    return "".join("1" if known.get(place, guess) else "0" for place, guess in enumerate(drawn))
