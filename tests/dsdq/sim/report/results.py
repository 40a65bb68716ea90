"""Documents of small results, for pages and pictures: really simulated, and of one seed or more."""

from __future__ import annotations

from dsdq.sim.compare import compare
from dsdq.sim.plan import Question, plan
from dsdq.sim.replications import replicate, result, way
from dsdq.sim.results import Result, as_read
from dsdq.sim.runners import here, remembering
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.sweep import grid
from dsdq.sim.variations import Variant, assigned, varied
from tests.dsdq.sim.small import SMALL, reckoning, small

HERE = remembering(here)
"""Nothing is simulated twice."""

HOSTILE = "<script>document.title = 'taken'</script> & \"more\""


def ran(scenario: Scenario = SMALL, seeds: int = 2) -> Result:
    """Return a run beside the cloud alone and a policy that changes its windows."""
    changing = varied(scenario, {"window.policy": "optimal"})
    variants = {
        "distributed": Variant({}, scenario),
        "target-only": Variant({"way": "target-only"}, small(way="target-only")),
        "changing": changing,
    }
    found = replicate(HERE, {name: one.scenario for name, one in variants.items()}, seeds)
    return as_read(result("run", scenario, seeds, ways={name: way(one, found[name]) for name, one in variants.items()}))


def compared(second: str = "other") -> Result:
    return as_read(
        compare(HERE, SMALL, {"base": Variant({}, SMALL), second: varied(SMALL, {"verifiers.step_ms": 30.0})}, 3)
    )


def swept(*vary: str, seeds: int = 2) -> Result:
    cells = grid(lambda settings: varied(SMALL, assigned("--set", settings)).scenario, vary, seeds)
    found = replicate(HERE, {name: one.scenario for name, one in cells.variants.items()}, seeds)
    ways = {name: way(one, found[name]) for name, one in cells.variants.items()}
    return as_read(result("sweep", SMALL, seeds, vary=dict(cells.fields), ways=ways))


def planned() -> Result:
    """Return a plan of a fleet that needs 3 verifiers, and 6 if nobody drafts."""
    needed = {Way.DISTRIBUTED: 3, Way.TARGET_ONLY: 6, Way.COLOCATED: 900}
    real = replicate(HERE, {"": SMALL}, 1)[""][0].figures

    def reckoned(scenario: Scenario) -> dict[str, float]:
        latency = {Way.DISTRIBUTED: 100 + scenario.devices["phones"].link.rtt_ms, Way.TARGET_ONLY: 150.0}
        good = 1.0 if scenario.verifiers.count >= needed[scenario.way] else 0.5
        return real | {"good_share": good, "e2e_ms": latency.get(scenario.way, 90.0), "finished": 9.0, "refused": 0.0}

    return as_read(plan(reckoning(reckoned), SMALL, Question(0.95, "e2e_ms", 2)))
