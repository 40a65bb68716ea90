"""Simulated time: what is still to happen, earliest first; what falls on one moment happens in the order of planning.

One heap of tuples and one loop. A process for each device (SimPy's way) costs several times as much for each event, and
nothing here waits for more than one thing at a time; ``bench/sim.py`` holds both against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Call = Callable[[Any], None]


class Kernel:
    """The clock, in milliseconds since the beginning, and the events."""

    __slots__ = ("_heap", "_planned", "events", "now_ms")

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Call, Any]] = []
        self._planned = 0

    def at(self, time_ms: float, call: Call, argument: object = None) -> None:
        """Let ``call(argument)`` happen at a time that is not past."""
        self._planned += 1
        heappush(self._heap, (time_ms, self._planned, call, argument))

    def after(self, delay_ms: float, call: Call, argument: object = None) -> None:
        """Let ``call(argument)`` happen in so many milliseconds."""
        self._planned += 1
        heappush(self._heap, (self.now_ms + delay_ms, self._planned, call, argument))

    def advance(self) -> bool:
        """Let the next thing happen; False if nothing is left."""
        if not self._heap:
            return False
        self.now_ms, _, call, argument = heappop(self._heap)
        self.events += 1
        call(argument)
        return True

    def run(self) -> None:
        """Let everything happen."""
        heap, events = self._heap, 0
        while heap:
            self.now_ms, _, call, argument = heappop(heap)
            events += 1
            call(argument)
        self.events += events
