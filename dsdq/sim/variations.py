"""Scenarios that differ from one in what is compared: settings, seeds, round trips, acceptance, numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dsdq.errors import ConfigError
from dsdq.sim.scenario.layers import resolved, with_settings
from dsdq.sim.scenario.mistakes import told
from dsdq.sim.scenario.model import Arrivals, Devices, Scenario
from dsdq.sim.scenario.workload import Acceptance

MOST_SEEDS = 10_000
_OPENING, _CLOSING = "[{(", "]})"


@dataclass(frozen=True, slots=True)
class Variant:
    """A scenario, and by which settings it differs from the one that it was made of; ``about`` says why so."""

    sets: Mapping[str, Any]
    scenario: Scenario
    about: str = ""


def varied(scenario: Scenario, sets: Mapping[str, Any]) -> Variant:
    """Return a scenario with other values of some fields, each by its path.

    Raises:
        ConfigError: that is no scenario.
    """
    settings = [f"{name}={value}" for name, value in sets.items()]
    document = with_settings(scenario.model_dump(mode="json", exclude_none=True), settings)
    try:
        return Variant(sets, resolved(document, settings))
    except ValidationError as error:
        raise ConfigError(told(error, Scenario)) from None


def seeded(scenario: Scenario, seeds: int) -> list[Scenario]:
    """Return the replications of a scenario: its own seed, and those that follow."""
    return [scenario.model_copy(update={"seed": scenario.seed + number}) for number in range(seeds)]


def with_count(scenario: Scenario, count: int) -> Scenario:
    """Return a scenario with so many verifiers."""
    return scenario.model_copy(update={"verifiers": scenario.verifiers.model_copy(update={"count": count})})


def with_rtt(scenario: Scenario, rtt_ms: float) -> Scenario:
    """Return a scenario in which all links have this round trip, whatever their traces say."""
    return _with_devices(
        scenario,
        {
            name: one.model_copy(update={"link": one.link.model_copy(update={"rtt_ms": rtt_ms, "trace": ()})})
            for name, one in scenario.devices.items()
        },
    )


def with_acceptance(scenario: Scenario, mean: float) -> Scenario:
    """Return a scenario in which each draft token, whoever drafts, is right with this chance if all before it are."""
    given = {"acceptance": Acceptance(mean=mean), "own_acceptance": None}
    workloads = {name: one.model_copy(update=given) for name, one in scenario.workloads.items()}
    return scenario.model_copy(update={"workloads": workloads})


def with_devices(scenario: Scenario, count: int) -> Scenario:
    """Return a scenario with so many devices, its classes in proportion, each device asking as often.

    Raises:
        ConfigError: there are fewer devices than classes.
    """
    classes = scenario.devices
    if count < len(classes):
        raise ConfigError(f"--devices: expected at least one for each of {', '.join(classes)}, got {count}")
    total, before, given, devices = sum(one.count for one in classes.values()), 0, 0, {}
    for number, (name, one) in enumerate(classes.items(), 1):
        before += one.count
        # Up to here in proportion, with one for each class that is still to come.
        share = max(1, min(round(count * before / total), count - len(classes) + number) - given)
        given += share
        devices[name] = one.model_copy(update={"count": share, "arrivals": _scaled(one, share / one.count)})
    return _with_devices(scenario, devices)


def _scaled(devices: Devices, by: float) -> Arrivals:
    per_s = devices.arrivals.per_s
    return devices.arrivals if per_s is None else Arrivals(per_s=per_s * by)


def _with_devices(scenario: Scenario, devices: Mapping[str, Devices]) -> Scenario:
    return scenario.model_copy(update={"devices": devices})


def parts(text: str) -> list[str]:
    """Return what stands between commas, other than those within brackets."""
    return ["".join(part) for part in _parted(text)]


def _parted(text: str) -> Iterator[list[str]]:
    part, depth = list[str](), 0
    for letter in text:
        depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth == 0:
            yield part
            part = []
        else:
            part.append(letter)
    yield part


def assigned(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return names and values of ``name=value`` texts, of fields that a scenario's replications have in common.

    Raises:
        ConfigError: one is not of that form, a name comes twice, or it is the seed's, in which replications differ.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{option}: expected name=value, got {text!r}")
        if name == "seed":
            raise ConfigError(f"{option}: expected another field than seed, got {text!r}; --seeds does that")
        if name in found:
            raise ConfigError(f"{option}: expected each name once, got {name} again")
        found[name] = value
    return found
