"""What a request asks for: how long prompt and text are, and which guesses of the text are right. All by its number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dsdq.sim.guesses import Guesses, drawn, recorded
from dsdq.sim.scenario.workload import Acceptance, Lengths, Workload
from dsdq.sim.streams import Streams


@dataclass(frozen=True, slots=True)
class Recording:
    """One text's guesses as a live run has shown them: ``1`` and ``0`` by place, and the drafter's confidences."""

    right: str
    confidences: tuple[float, ...] = ()


Recordings = Mapping[str, Sequence[Recording]]
"""By the name that a scenario's ``acceptance.trace`` says."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens of a prompt and of the text behind it; the guesses of the device's drafter, and of a verifier's own."""

    prompt: int
    output: int
    guesses: tuple[Guesses, Guesses]


class Texts:
    """The texts of one workload, as one class of devices asks for them; ``streams`` are that class's."""

    def __init__(self, workload: Workload, streams: Streams, recordings: Recordings, *, own: bool) -> None:
        self._workload, self._streams, self._recordings, self._own = workload, streams, recordings, own

    def text(self, *numbers: int, lengths: tuple[int, int] | None = None) -> Text:
        """Return a text by its numbers; it may have ``lengths`` that are known."""
        workload = self._workload
        luck = self._streams.generator("text", *numbers)
        prompt, output = length(workload.prompt, luck), length(workload.output, luck)
        if lengths is not None:
            prompt, output = lengths
        guesses = self._guesses(workload.acceptance, output, luck, numbers)
        own = guesses
        if self._own:
            luck = self._streams.generator("own guesses", *numbers)
            own = self._guesses(workload.own_acceptance or workload.acceptance, output, luck, numbers)
        return Text(prompt, output, (guesses, own))

    def _guesses(
        self, acceptance: Acceptance, output: int, luck: np.random.Generator, numbers: tuple[int, ...]
    ) -> Guesses:
        if acceptance.trace is None:
            return drawn(acceptance, output, luck)
        recordings = self._recordings[acceptance.trace]
        recording = recordings[sum(numbers) % len(recordings)]
        return recorded(recording.right, output, recording.confidences)


def length(lengths: Lengths, luck: np.random.Generator) -> int:
    """Draw a length in tokens."""
    if not lengths.variation:
        return round(lengths.mean)
    spread = math.log1p(lengths.variation**2)
    drawn_tokens = luck.lognormal(math.log(lengths.mean) - spread / 2, math.sqrt(spread))
    return min(max(round(drawn_tokens), lengths.least), lengths.most)
