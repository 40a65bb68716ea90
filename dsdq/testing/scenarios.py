"""What a chaos run is made of, by its target: who asks for which texts, what goes wrong when, and what is right."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsdq.contract import Sampling
from dsdq.errors import ConfigError
from dsdq.models.names import HASH_TARGET
from dsdq.testing import hashed
from dsdq.testing.devices import Habits
from dsdq.testing.records import Decoder
from dsdq.testing.schedule import Event, draw, draw_kills

PAIR_TARGET = "builtin/target"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run's habits of devices, its schedule and its usual size.

    A verifier is struck while at least ``working`` of them work: where starting takes long, one is to be left.

    ``schedule`` is given a source of chance, the seconds of faults and the lease in seconds; ``load_decoder`` returns
    what gives the right texts, and is called when everything else has ended.
    """

    target: str
    habits: Sequence[Habits]
    schedule: Callable[[random.Random, float, float], list[Event]]
    load_decoder: Callable[[], Decoder]
    seconds: float
    devices: int
    verifiers: int
    working: int = 1


def _hash_decoder() -> Decoder:
    return hashed.decode


def _pair_decoder() -> Decoder:
    from dsdq.testing.reference import load_reference  # noqa: PLC0415 - needs torch, which the other target does not

    reference = load_reference(PAIR_TARGET)

    def decode(prompt: Sequence[int], max_tokens: int, chosen: Sampling, seed: int, choice: int) -> list[int]:
        """Decode with the reference."""
        if choice:
            msg = f"expected texts of choice 0, got one of choice {choice}: the reference knows no other"
            raise ConfigError(msg)
        return reference.decode(prompt, max_tokens, chosen, seed)

    return decode


SCENARIOS = {
    scenario.target: scenario
    for scenario in (
        Scenario(
            HASH_TARGET,
            habits=(
                Habits(draft="hash:0.8:1"),
                Habits(draft="hash:0.4:1", window=4),
                Habits(draft="hash:0.8:1", window=4, depth=3),
                Habits(draft="none", most_tokens=32),
            ),
            schedule=draw,
            load_decoder=_hash_decoder,
            seconds=180,
            devices=64,
            verifiers=3,
        ),
        Scenario(
            PAIR_TARGET,
            habits=(
                Habits(draft="builtin/draft", window=4, depth=2),
                Habits(draft="ngram", window=4),
                Habits(draft="none", most_tokens=32),
            ),
            schedule=draw_kills,
            load_decoder=_pair_decoder,
            seconds=30,
            devices=6,
            verifiers=2,
            working=2,
        ),
    )
}
"""The scenarios, by target."""


def find_scenario(target: str) -> Scenario:
    """Return the scenario of a target.

    Raises:
        ConfigError: there is none.
    """
    if target not in SCENARIOS:
        msg = f"expected one of the targets {', '.join(SCENARIOS)}, got {target!r}"
        raise ConfigError(msg)
    return SCENARIOS[target]
