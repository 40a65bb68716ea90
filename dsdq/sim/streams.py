"""Luck by name: each purpose has a stream of random numbers of its own, which no other purpose's draws can shift.

A stream follows from the seed, its name and numbers (a device's, a text's), not from when it is asked for. So two
policies meet the same texts, the same right and wrong guesses and the same delays (common random numbers), and what one
process draws in an order, several draw in any.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from random import Random

import numpy as np

_AT_ONCE = 64


class Streams:
    """All streams of one seed, or those of one part of the world, such as a class of devices."""

    def __init__(self, seed: int, *parts: str) -> None:
        self._seed, self._parts = seed, parts
        self._root = blake2b("/".join([str(seed), *parts]).encode(), digest_size=16, person=b"dsdq.sim")

    def of(self, part: str) -> Streams:
        """Return the streams of a part, by its name."""
        return Streams(self._seed, *self._parts, part)

    def _key(self, name: str, numbers: tuple[int, ...]) -> int:
        root = self._root.copy()
        root.update(f"{name}{numbers}".encode())
        return int.from_bytes(root.digest(), "little")

    def generator(self, name: str, *numbers: int) -> np.random.Generator:
        """Return a stream for arrays (Philox, keyed by name and numbers)."""
        return np.random.Generator(np.random.Philox(key=self._key(name, numbers)))

    def random(self, name: str, *numbers: int) -> Random:
        """Return a stream for what asks for single numbers, such as a routing policy."""
        return Random(self._key(name, numbers))  # noqa: S311 - simulated luck, no secret

    def exponentials(self, mean: float, name: str, *numbers: int) -> Iterator[float]:
        """Give exponential times of some mean without end."""
        generator = self.generator(name, *numbers)
        while True:
            yield from generator.exponential(mean, _AT_ONCE).tolist()
