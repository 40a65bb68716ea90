"""Which verifier a new session goes to, and when one should take sessions from another. Pure.

Verifiers differ in speed, so what is compared is not how many sessions each holds but how long a round will wait there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import count
from typing import Protocol, TypeVar

PREFIX_UNITS = 64
"""How much of a prompt decides where it goes under ``prefix``: tokens, or four times as many characters."""

CROWDED = 2.0
"""A verifier is left alone by ``prefix`` when it is so many times as loaded as the least loaded one."""

UNEVEN = 2.0
"""Sessions are moved from a verifier that is so many times as loaded as the one that takes them."""

MOVED_AT_ONCE = 4

_RECENT_STEP = 0.2  # weight of the newest step in a verifier's moving average


class Loaded(Protocol):
    """A verifier as its registry entry shows it; figures are as old as its last heartbeat."""

    @property
    def wid(self) -> str:
        """Return its id."""
        ...

    @property
    def sessions(self) -> int:
        """Return how many sessions it holds."""
        ...

    @property
    def slots(self) -> int:
        """Return how many it can hold."""
        ...

    @property
    def row_ms(self) -> float:
        """Return the milliseconds that one session's round takes of a step, 0 before the first."""
        ...


W = TypeVar("W", bound=Loaded)
Policy = Callable[[Sequence[W], bytes], W]
"""Takes at least one verifier and the beginning of the prompt; returns the one to ask."""


def moving_row_ms(row_ms: float, newest_ms: float) -> float:
    """Return a verifier's moving average of what a session's round takes of a step; 0 stands for no step yet."""
    return row_ms + (_RECENT_STEP if row_ms else 1.0) * (newest_ms - row_ms)


def expected_wait_ms(worker: Loaded, others: Sequence[Loaded]) -> float:
    """Return how long one more session's round would wait at a verifier, in milliseconds.

    One that has not stepped yet is taken to be as fast as the others; a full one keeps an ``open`` waiting, which is
    worse than any round.
    """
    known = [one.row_ms for one in others if one.row_ms > 0]
    row_ms = worker.row_ms or (sum(known) / len(known) if known else 1.0)
    turns = 1 + max(0, worker.sessions - worker.slots + 1)
    return row_ms * (worker.sessions + 1) * turns


def power_of_two(rng: random.Random) -> Policy[W]:
    """Take the less loaded of two verifiers drawn at random (Mitzenmacher 2001).

    Devices that all join the shortest queue on a stale figure herd onto one verifier; two random choices do not.
    """

    def _choose(workers: Sequence[W], _prompt: bytes) -> W:
        if len(workers) == 1:
            return workers[0]
        pair = rng.sample(list(workers), 2)
        return min(pair, key=lambda worker: expected_wait_ms(worker, workers))

    return _choose


def shortest_queue(rng: random.Random) -> Policy[W]:
    """Take the verifier with the shortest expected wait (JSQ); one of them at random where several are equal."""

    def _choose(workers: Sequence[W], _prompt: bytes) -> W:
        return min(rng.sample(list(workers), len(workers)), key=lambda worker: expected_wait_ms(worker, workers))

    return _choose


def round_robin(rng: random.Random) -> Policy[W]:
    """Take one after the other, beginning anywhere."""
    turns = count(rng.randrange(1 << 16))

    def _choose(workers: Sequence[W], _prompt: bytes) -> W:
        ordered = sorted(workers, key=lambda worker: worker.wid)
        return ordered[next(turns) % len(ordered)]

    return _choose


def uniform(rng: random.Random) -> Policy[W]:
    """Take any."""

    def _choose(workers: Sequence[W], _prompt: bytes) -> W:
        return rng.choice(list(workers))

    return _choose


def prefix_aware(rng: random.Random) -> Policy[W]:
    """Send prompts that begin alike to one verifier, where their keys and values are, unless it is crowded.

    Which one that is follows from both names alone (rendezvous hashing): devices agree without speaking to each other,
    and a verifier that comes or goes moves only its own share.
    """
    spread: Policy[W] = power_of_two(rng)

    def _choose(workers: Sequence[W], prompt: bytes) -> W:
        home = max(workers, key=lambda worker: blake2b(prompt + worker.wid.encode(), digest_size=8).digest())
        least = min(expected_wait_ms(worker, workers) for worker in workers)
        crowded = home.sessions >= home.slots or expected_wait_ms(home, workers) > CROWDED * least
        return spread(workers, prompt) if crowded and home.sessions else home

    return _choose


POLICIES: dict[str, Callable[[random.Random], Policy[Loaded]]] = {
    "power-of-two": power_of_two,
    "jsq": shortest_queue,
    "round-robin": round_robin,
    "random": uniform,
    "prefix": prefix_aware,
}


def prefix_of(prompt: str | Sequence[int]) -> bytes:
    """Return the beginning of a prompt as ``prefix`` compares it."""
    if isinstance(prompt, str):
        return prompt[: 4 * PREFIX_UNITS].encode(errors="surrogatepass")
    return b"".join(token.to_bytes(4, "little") for token in prompt[:PREFIX_UNITS])


def sessions_to_take(me: Loaded, others: Sequence[W]) -> tuple[W, int] | None:
    """Return from which verifier to take sessions, and how many; None while no other is much more loaded.

    Few at a time: figures are a heartbeat old, and a session that moves is computed again from its beginning.
    """
    crowded = [one for one in others if one.sessions > 1]
    if not crowded or me.sessions >= me.slots:
        return None
    everybody: list[Loaded] = [me, *others]
    worst = max(crowded, key=lambda one: expected_wait_ms(one, everybody))
    uneven = expected_wait_ms(worst, everybody) >= UNEVEN * expected_wait_ms(me, everybody)
    if not uneven or worst.sessions < me.sessions + 2:
        return None
    return worst, min(MOVED_AT_ONCE, (worst.sessions - me.sessions) // 2, me.slots - me.sessions)
