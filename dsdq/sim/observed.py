"""A text as a live device met it, verdict by verdict: what ``dsdq sim calibrate`` learns from.

A trace of them is JSONL, one text a line; ``dsdq generate --trace FILE`` writes one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict

from dsdq.client import GenerationStats, Token, TokenKind
from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.scenario.mistakes import of_file
from dsdq.sim.scenario.parts import NotNegative, Part, Positive, Text
from dsdq.sim.scenario.traces import read_parts, write_parts

Count = Annotated[int, Field(ge=0, le=1 << 40)]

_LETTERS = "".join(sorted(kind.value[0] for kind in TokenKind))


class Answer(Part):
    """One verdict as its device read it.

    Attributes:
        at_ms: since the text was asked for.
        kinds: the first letter of each of its tokens' kind: accepted, correction, bonus, target.
        judged: draft tokens that met the target.
        mode: who drafted them.
        waited_ms: from the publication of its first round, or from the verdict before it in a stream.
        queue_ms: of that, at the verifier before its pass.
        verify_ms: of that, in its pass.
        rows: sessions of the same pass.
    """

    at_ms: NotNegative
    kinds: Annotated[str, Field(pattern=rf"^[{_LETTERS}]+$", max_length=100_000)]
    judged: Count
    mode: Annotated[Mode, Strict(strict=False)] = Mode.SPECULATE
    waited_ms: NotNegative
    queue_ms: NotNegative
    verify_ms: NotNegative
    rows: Annotated[int, Field(ge=1, le=1 << 20)] = 1

    @property
    def network_ms(self) -> float:
        """Return what it was waited for beside queue and pass."""
        return self.waited_ms - self.queue_ms - self.verify_ms


class Observed(Part):
    """One text.

    Attributes:
        policy: as ``dsdq generate --policy`` takes it.
        prompt: tokens of the prompt.
        device: whose it was, as a number.
        text: which it was; those of one number are the same text, whatever it was made under. None: like no other.
        began_s: when it was asked for, on any clock that all texts of a trace share.
        rtt_ms: round trip of the link as far as it is known beforehand, without what the programs take.
        jitter_ms: mean of what a round trip took longer than that.
        max_window: tokens of a window at most.
        max_depth: windows in flight at most.
        max_tokens: of the text; None where only the target knew.
        ttft_ms: from the call to the first token.
        drafted: tokens that the device drafted.
        draft_ms: what that took.
        bytes_up: of messages to the verifier.
        bytes_down: of those from it.
        answers: the verdicts.
    """

    policy: Text
    prompt: Annotated[int, Field(ge=1, le=1 << 30)]
    device: Count = 0
    text: Count | None = None
    began_s: NotNegative = 0.0
    rtt_ms: NotNegative | None = None
    jitter_ms: NotNegative = 0.0
    max_window: Annotated[int, Field(ge=1)] = 32
    max_depth: Annotated[int, Field(ge=1)] = 4
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    ttft_ms: Positive
    drafted: Count = 0
    draft_ms: NotNegative = 0.0
    bytes_up: Count = 0
    bytes_down: Count = 0
    answers: Annotated[tuple[Answer, ...], Field(min_length=1, max_length=1_000_000), Strict(strict=False)]

    @property
    def kinds(self) -> str:
        """Return the first letter of every token's kind."""
        return "".join(one.kinds for one in self.answers)

    @property
    def tokens(self) -> int:
        """Return how many tokens were committed."""
        return sum(len(one.kinds) for one in self.answers)

    @property
    def judged(self) -> int:
        """Return how many draft tokens met the target."""
        return sum(one.judged for one in self.answers)

    @property
    def accepted(self) -> int:
        """Return how many of them stood."""
        return sum(one.kinds.count("a") for one in self.answers)

    @property
    def arrivals(self) -> list[tuple[float, int]]:
        """Return for each verdict its milliseconds since the call, and the tokens that were committed by then."""
        found, committed = list[tuple[float, int]](), 0
        for one in self.answers:
            committed += len(one.kinds)
            found.append((one.at_ms, committed))
        return found

    @property
    def tpot_ms(self) -> float:
        """Return the time between its first verdict and its last, for each token behind the first verdict."""
        (began_ms, first), (ended_ms, last) = self.arrivals[0], self.arrivals[-1]
        return (ended_ms - began_ms) / max(last - first, 1)


class Recorder:
    """Notes the tokens of a generation as they come, by a clock in seconds; asked for when it is made.

    ``stats`` are the generation's own.
    """

    def __init__(self, stats: GenerationStats, clock: Callable[[], float]) -> None:
        self._stats, self._clock, self._began_s = stats, clock, clock()
        self._answers: list[dict[str, Any]] = []  # by verdict; kinds are lists of letters until the end
        self._verdicts, self._judged = 0, 0

    @property
    def took_s(self) -> float:
        """Return the seconds since the text was asked for."""
        return self._clock() - self._began_s

    @property
    def begun(self) -> bool:
        """Say whether a token was noted."""
        return bool(self._answers)

    @property
    def at_verdict(self) -> bool:
        """Say whether the token that is here, and not noted yet, is a verdict's first."""
        return len(self._stats.round_trips_ms) > self._verdicts

    def add(self, token: Token) -> None:
        """Note a token; the first one of a verdict takes the verdict's figures along."""
        stats, kind = self._stats, token.kind.value[0]
        if not self.at_verdict:
            self._answers[-1]["kinds"].append(kind)
            return
        self._verdicts = len(stats.round_trips_ms)
        self._answers.append(
            {
                "at_ms": 1000 * self.took_s,
                "kinds": [kind],
                "judged": stats.judged_tokens - self._judged,
                "mode": Mode(stats.modes[-1]),
                "waited_ms": max(stats.round_trips_ms[-1], 0.0),
                "queue_ms": max(stats.queue_ms[-1], 0.0),
                "verify_ms": stats.verify_ms[-1],
                "rows": max(stats.batch_rows[-1], 1),
            }
        )
        self._judged = stats.judged_tokens

    def observed(self, policy: str, **known: float | None) -> Observed:
        """Return the text; ``known`` are fields of it that only its asker knows.

        Raises:
            ConfigError: nothing was committed.
        """
        if not self._answers:
            raise ConfigError("trace: expected a text with at least one token, got none")
        stats = self._stats
        return Observed.model_validate(
            {
                "policy": policy,
                "prompt": stats.prompt_tokens,
                "began_s": self._began_s,
                "ttft_ms": stats.ttft_ms,
                "drafted": stats.drafted_tokens,
                "draft_ms": stats.draft_ms,
                "bytes_up": stats.bytes_up,
                "bytes_down": stats.bytes_down,
                "answers": tuple(one | {"kinds": "".join(one["kinds"])} for one in self._answers),
                **known,
            }
        )


def read_observed(file: Path) -> tuple[Observed, ...]:
    """Return a trace's texts.

    Raises:
        ConfigError: the file cannot be read, a line is not such a text, or there is none.
    """
    texts = tuple(text for _, text in read_parts(file, Observed))
    if not texts:
        raise ConfigError(f"trace {of_file(file)}: expected at least one line, got none")
    return texts


def append_observed(file: Path, *texts: Observed) -> None:
    """Put texts behind those of a trace; the file is made if it is not there.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_parts(file, texts, append=True)
