"""Scenarios that take milliseconds, and runners that simulate nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.runners import Runner
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.variations import varied

SMALL = Scenario.model_validate(
    {
        "name": "small",
        "duration_s": 3.0,
        "devices": {
            "phones": {"count": 3, "draft_ms": 4.0, "link": {"rtt_ms": 20.0}, "arrivals": {"think_s": 0.3}},
        },
        "verifiers": {"step_ms": 20.0},
        "workloads": {"default": {"output": {"mean": 24.0, "variation": 0.4, "least": 4, "most": 60}}},
        "window": {"policy": "static:3", "max_window": 8, "max_depth": 2},
    }
)


def small(**sets: object) -> Scenario:
    """Return the small scenario with some fields set; ``__`` stands for a dot."""
    return varied(SMALL, {name.replace("__", "."): value for name, value in sets.items()}).scenario


def outcome(seed: int, **figures: float) -> Outcome:
    return Outcome(seed, figures, {}, {}, {})


def reckoning(figures: Callable[[Scenario], dict[str, float]], asked: list[Scenario] | None = None) -> Runner:
    """Return a runner that reckons figures; it notes what it was asked for, and does the last task first."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        for place, task in reversed(list(enumerate(tasks))):
            if asked is not None:
                asked.append(task.scenario)
            yield place, outcome(task.scenario.seed, **{"finished": 1.0, "refused": 0.0} | figures(task.scenario))

    return run
