from __future__ import annotations

import random
from dataclasses import dataclass

from dsdq.policies.routing import power_of_two


@dataclass(frozen=True)
class Worker:
    name: str
    sessions: int
    slots: int = 10


def test_one_verifier_is_taken_as_it_is() -> None:
    assert power_of_two([Worker("a", 9)], random.Random(1)).name == "a"


def test_of_two_verifiers_the_less_loaded_one_is_taken() -> None:
    workers = [Worker("full", 9), Worker("idle", 1)]
    assert {power_of_two(workers, random.Random(seed)).name for seed in range(20)} == {"idle"}


def test_load_is_relative_to_what_a_verifier_can_hold() -> None:
    workers = [Worker("big", sessions=20, slots=100), Worker("small", sessions=5, slots=10)]
    assert power_of_two(workers, random.Random(1)).name == "big"


def test_the_most_loaded_of_many_is_never_taken_and_others_all_are() -> None:
    workers = [Worker(str(n), sessions=n) for n in range(5)]
    rng = random.Random(7)
    taken = {power_of_two(workers, rng).name for _ in range(200)}
    assert taken == {"0", "1", "2", "3"}
