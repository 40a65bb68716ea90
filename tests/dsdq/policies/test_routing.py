"""Where sessions go: by expected wait, and spread as each policy promises."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from dsdq.policies.routing import (
    POLICIES,
    expected_wait_ms,
    power_of_two,
    prefix_aware,
    prefix_of,
    round_robin,
    sessions_to_take,
    shortest_queue,
)


@dataclass(frozen=True)
class Worker:
    wid: str
    sessions: int = 0
    slots: int = 10
    row_ms: float = 1.0


RNG = random.Random


@pytest.mark.parametrize("name", POLICIES)
def test_one_verifier_is_taken_as_it_is(name: str) -> None:
    assert POLICIES[name](RNG(1))([Worker("a", 9)], b"").wid == "a"


def test_of_two_verifiers_the_less_loaded_one_is_taken() -> None:
    workers = [Worker("full", 9), Worker("idle", 1)]
    assert {power_of_two(RNG(seed))(workers, b"").wid for seed in range(20)} == {"idle"}


@pytest.mark.parametrize("name", ["power-of-two", "jsq"])
def test_load_is_expected_wait_and_not_the_number_of_sessions(name: str) -> None:
    workers = [Worker("fast", sessions=6, row_ms=1.0), Worker("slow", sessions=2, row_ms=9.0)]
    assert {POLICIES[name](RNG(seed))(workers, b"").wid for seed in range(20)} == {"fast"}


def test_a_verifier_that_has_not_stepped_yet_is_taken_to_be_as_fast_as_the_others() -> None:
    new, old = Worker("new", row_ms=0.0), Worker("old", row_ms=4.0)
    assert expected_wait_ms(new, [new, old]) == expected_wait_ms(old, [new, old])


def test_a_full_verifier_is_worse_than_a_slower_one_with_places() -> None:
    full, slow = Worker("full", sessions=10, slots=10), Worker("slow", sessions=10, slots=20, row_ms=1.5)
    assert shortest_queue(RNG(1))([full, slow], b"").wid == "slow"


def test_the_most_loaded_of_many_is_never_taken_and_others_all_are() -> None:
    workers = [Worker(str(n), sessions=n) for n in range(5)]
    choose = power_of_two(RNG(7))
    assert {choose(workers, b"").wid for _ in range(200)} == {"0", "1", "2", "3"}


def test_equal_queues_are_joined_evenly() -> None:
    choose = shortest_queue(RNG(3))
    taken = Counter(choose([Worker("a"), Worker("b"), Worker("c", 5)], b"").wid for _ in range(400))
    assert set(taken) == {"a", "b"}
    assert min(taken.values()) > 120


def test_round_robin_takes_one_after_the_other_in_whatever_order_they_are_listed() -> None:
    workers, choose, rng = [Worker(name) for name in "abc"], round_robin(RNG(5)), RNG(6)
    taken = [choose(rng.sample(workers, 3), b"").wid for _ in range(9)]
    assert taken[:3] == taken[3:6] == taken[6:]
    assert set(taken) == set("abc")


def test_prompts_that_begin_alike_meet_and_others_spread() -> None:
    workers = [Worker(name) for name in "abcd"]
    homes = {prefix_aware(RNG(seed))(workers, prefix_of("x" * 300 + str(seed))).wid for seed in range(20)}
    assert len(homes) == 1
    others = {prefix_aware(RNG(1))(workers, prefix_of([number])).wid for number in range(50)}
    assert others == set("abcd")


def test_a_prefix_leaves_its_home_when_that_is_crowded() -> None:
    home = prefix_aware(RNG(1))([Worker("a"), Worker("b")], b"prompt").wid
    workers = [Worker(name, sessions=9 if name == home else 1) for name in "ab"]
    assert prefix_aware(RNG(1))(workers, b"prompt").wid != home


def test_a_verifier_that_leaves_moves_only_its_own_prompts() -> None:
    workers = [Worker(name) for name in "abcd"]
    for number in range(50):
        before = prefix_aware(RNG(1))(workers, bytes([number])).wid
        after = prefix_aware(RNG(1))([one for one in workers if one.wid != "d"], bytes([number])).wid
        assert before in {"d", after}


def test_sessions_move_to_a_verifier_that_has_much_less_to_do() -> None:
    assert sessions_to_take(Worker("me"), [Worker("a", 9), Worker("b", 3)]) == (Worker("a", 9), 4)
    assert sessions_to_take(Worker("me", 1, slots=3), [Worker("a", 9)]) == (Worker("a", 9), 2)


@pytest.mark.parametrize(
    ("me", "other"),
    [
        (Worker("me", 5), Worker("a", 9)),  # not twice as loaded
        (Worker("me", 10), Worker("a", 100)),  # no place
        (Worker("me", 0), Worker("a", 1)),  # nothing to gain
        (Worker("me", 0, row_ms=50.0), Worker("a", 9)),  # too slow to help
    ],
)
def test_sessions_stay_where_moving_gains_nothing(me: Worker, other: Worker) -> None:
    assert sessions_to_take(me, [other]) is None
