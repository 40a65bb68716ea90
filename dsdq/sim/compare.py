"""Two or more variants of a scenario, held against the first of them seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.replications import differences, replicate, result, way
from dsdq.sim.runners import Runner
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.sweep import Load
from dsdq.sim.variations import Variant, assigned, parts


def variants(load: Load, texts: Sequence[str]) -> dict[str, Variant]:
    """Return the variants of ``name=field=value,field=value,…`` texts; nothing behind the name is the scenario itself.

    Raises:
        ConfigError: one is not of that form, is no scenario, or there are fewer than two.
    """
    found: dict[str, Variant] = {}
    for text in texts:
        name, _, settings = text.partition("=")
        if not name.strip() or name in found:
            raise ConfigError(f"--variant: expected name=field=value,… with a name of its own, got {text!r}")
        sets = assigned(f"--variant {name}", parts(settings)) if settings else {}
        found[name] = Variant(sets, load([f"{field}={value}" for field, value in sets.items()]))
    if len(found) < 2:
        raise ConfigError(f"--variant: expected at least two, got {', '.join(found) or 'none'}")
    return found


def compare(run: Runner, scenario: Scenario, variants: Mapping[str, Variant], seeds: int) -> dict[str, Any]:
    """Return the result of a comparison: each variant, and how all but the first differ from that one.

    Raises:
        ConfigError: with one seed nothing is known of how figures scatter.
    """
    if seeds < 2:
        raise ConfigError(f"--seeds: expected at least 2 to compare with, got {seeds}")
    outcomes = replicate(run, {name: variant.scenario for name, variant in variants.items()}, seeds)
    base, *others = variants
    return result(
        "compare",
        scenario,
        seeds,
        base=base,
        ways={name: way(variant, outcomes[name]) for name, variant in variants.items()},
        differences={name: differences(outcomes[base], outcomes[name]) for name in others},
    )
