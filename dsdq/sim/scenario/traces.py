"""What ran live, to be simulated again: when requests came, and which draft tokens were right. JSONL, one a line.

Everything is bounded, and what is wrong is told in one line with the file and the line's number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Self, TypeVar

from pydantic import Field, Strict, ValidationError, model_validator

from dsdq.errors import ConfigError
from dsdq.sim.files import lines, readable
from dsdq.sim.scenario.mistakes import of_file, told
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.scenario.parts import Name, NotNegative, Part, Share
from dsdq.sim.texts import Recording, Recordings

MAX_LINES = 1_000_000
MAX_LINE_BYTES = 4_000_000
MAX_BYTES = 1_000_000_000
MAX_TEXT_TOKENS = 200_000

Tokens = Annotated[int, Field(ge=1, le=MAX_TEXT_TOKENS)]


class Arrival(Part):
    """A request as it came.

    Attributes:
        at_s: seconds since the trace began.
        prompt: tokens of the prompt.
        output: tokens of the answer.
        device: which of its class it came from, counted from 0; any if it is not given.
        tenant: whose it was; the class's if it is not given.
    """

    at_s: NotNegative
    prompt: Tokens
    output: Tokens
    device: Annotated[int, Field(ge=0, lt=10_000_000)] | None = None
    tenant: Name | None = None


class _Recording(Part):
    """A text, and which guesses of the draft model were right.

    Attributes:
        right: for each of its tokens 1 if the draft's guess for it, behind the text before it, was right, else 0.
        confidences: likewise, the probability that the draft gave its guess.
    """

    right: Annotated[str, Field(pattern=r"^[01]+$", max_length=MAX_TEXT_TOKENS)]
    confidences: Annotated[tuple[Share, ...], Strict(strict=False)] = ()

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if self.confidences and len(self.confidences) != len(self.right):
            msg = f"confidences: expected {len(self.right)}, one for each of right, got {len(self.confidences)}"
            raise ValueError(msg)
        return self


P = TypeVar("P", bound=Part)
T = TypeVar("T")


def read_arrivals(file: Path) -> tuple[Arrival, ...]:
    """Return a trace's requests.

    Raises:
        ConfigError: the file cannot be read, a line is not a request, or a request came before the one above it.
    """
    arrivals: list[Arrival] = []
    for number, arrival in read_parts(file, Arrival):
        if arrivals and arrival.at_s < arrivals[-1].at_s:
            last_s = arrivals[-1].at_s
            raise ConfigError(f"{_line(file, number)}: at_s: expected at least {last_s:g}, got {arrival.at_s:g}")
        arrivals.append(arrival)
    return _some(file, arrivals)


def read_recordings(file: Path) -> tuple[Recording, ...]:
    """Return a trace's texts.

    Raises:
        ConfigError: the file cannot be read, or a line is not such a text.
    """
    return _some(file, [Recording(text.right, text.confidences) for _, text in read_parts(file, _Recording)])


@dataclass(frozen=True, slots=True)
class Traces:
    """What a scenario's traces say, by their names in it: of acceptance and of arrivals."""

    recordings: Recordings = field(default_factory=dict)
    arrivals: Mapping[str, Sequence[Arrival]] = field(default_factory=dict)


def read_traces(scenario: Scenario) -> Traces:
    """Return a scenario's traces, as :func:`dsdq.sim.run.simulate` takes them.

    Raises:
        ConfigError: one cannot be read, or names a device or a tenant that the scenario does not have.
    """
    arrivals = {}
    for name, devices in scenario.devices.items():
        trace = devices.arrivals.trace
        if trace is not None:
            arrivals[trace] = found = read_arrivals(Path(trace))
            _check_known(scenario, name, Path(trace), found)
    return Traces(_recordings(scenario), arrivals)


def _check_known(scenario: Scenario, name: str, file: Path, arrivals: Sequence[Arrival]) -> None:
    count = scenario.devices[name].count
    for number, one in enumerate(arrivals, 1):
        if one.device is not None and one.device >= count:
            expected = f"device: expected less than devices.{name}.count ({count}), got {one.device}"
            raise ConfigError(f"trace {of_file(file)}, request {number:,}: {expected}")
        if one.tenant is not None and one.tenant not in scenario.tenants:
            known = ", ".join(scenario.tenants)
            raise ConfigError(
                f"trace {of_file(file)}, request {number:,}: tenant: expected one of {known}, got {one.tenant!r}"
            )


def _recordings(scenario: Scenario) -> Recordings:
    accepted = [
        acceptance
        for workload in scenario.workloads.values()
        for acceptance in (workload.acceptance, workload.own_acceptance)
        if acceptance is not None
    ]
    return {one.trace: read_recordings(Path(one.trace)) for one in accepted if one.trace is not None}


def write_arrivals(file: Path, arrivals: Iterable[Arrival]) -> None:
    """Write a trace of requests.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_parts(file, arrivals)


def write_recordings(file: Path, texts: Iterable[Recording]) -> None:
    """Write a trace of texts.

    Raises:
        ConfigError: the file cannot be written, or a text is not one that could be read again.
    """
    try:
        write_parts(file, (_Recording(right=text.right, confidences=text.confidences) for text in texts))
    except ValidationError as error:
        raise ConfigError(f"trace {of_file(file)}: {told(error, _Recording)}") from None


def write_parts(file: Path, parts: Iterable[Part], *, append: bool = False) -> None:
    """Write a trace, one part a line; ``append`` puts them behind what is there.

    Raises:
        ConfigError: the file cannot be written.
    """
    with lines("trace", file, append=append) as write:
        for part in parts:
            write(part.model_dump_json(exclude_defaults=True))


def read_parts(file: Path, kind: type[P]) -> Iterator[tuple[int, P]]:
    """Yield each line's number, from 1, and what it says; empty lines are passed over.

    Raises:
        ConfigError: the file cannot be read, or a line is no such part.
    """
    with readable("trace", file), file.open("rb") as stream:
        for number, line in _lines(file, stream):
            if line.strip():
                yield number, _part(file, number, line, kind)


def _part(file: Path, number: int, line: bytes, kind: type[P]) -> P:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise ConfigError(f"{_line(file, number)}: {told(error, kind)}") from None


def _lines(file: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = total = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number, total = number + 1, total + len(line)
        for what, most, got in (
            ("lines", MAX_LINES, number),
            ("bytes in a line", MAX_LINE_BYTES, len(line)),
            ("bytes", MAX_BYTES, total),
        ):
            if got > most:
                raise ConfigError(f"{_line(file, number)}: expected at most {most:,} {what}, got more")
        yield number, line


def _some(file: Path, parts: list[T]) -> tuple[T, ...]:
    if not parts:
        raise ConfigError(f"trace {of_file(file)}: expected at least one line, got none")
    return tuple(parts)


def _line(file: Path, number: int) -> str:
    return f"trace {of_file(file)}, line {number:,}"
