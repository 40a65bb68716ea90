"""One simulation: a scenario and its seed, to the record of what happened."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dsdq.policies.window import load_policy
from dsdq.sim.cloud import Cloud
from dsdq.sim.fleet import Fleet, LoadPolicy
from dsdq.sim.kernel import Kernel
from dsdq.sim.nodes import Nodes
from dsdq.sim.record import Log, Record
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.scenario.traces import Traces
from dsdq.sim.setting import Setting
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Texts

NO_TRACES = Traces()


@dataclass(frozen=True, slots=True)
class World:
    """A scenario in which nothing has happened yet: its clock, its verifiers, and the notes that are taken."""

    kernel: Kernel
    cloud: Cloud
    record: Record


def simulate(
    scenario: Scenario, *, traces: Traces = NO_TRACES, log: Log | None = None, load: LoadPolicy = load_policy
) -> Record:
    """Let everything happen that a scenario says; every request that has begun is finished, refused, or left.

    Args:
        scenario: what is simulated, its seed included.
        traces: what its traces say (:func:`dsdq.sim.scenario.traces.read_traces`).
        log: is told every event.
        load: makes each text's window policy, from the scenario's name for it and what is on offer.
    """
    world = begin(scenario, traces=traces, log=log, load=load)
    with _uncollected():
        world.kernel.run()
    world.record.events = world.kernel.events
    return world.record


def begin(
    scenario: Scenario, *, traces: Traces = NO_TRACES, log: Log | None = None, load: LoadPolicy = load_policy
) -> World:
    """Make a scenario's world, its first events planned; see :func:`simulate`."""
    kernel, streams = Kernel(), Streams(scenario.seed)
    record = Record(1000 * scenario.warm_up_s, 1000 * (scenario.duration_s - scenario.cool_down_s), log)
    cloud = Cloud(kernel, scenario, streams, record)
    nodes = Nodes(kernel, scenario, streams, record) if scenario.way is Way.PARALLEL else None
    for name, devices in scenario.devices.items():
        workload = scenario.workloads[devices.workload]
        own = scenario.verifiers.draft is not None
        texts = Texts(workload, streams.of(name), traces.recordings, own=own)
        setting = Setting(
            kernel,
            cloud,
            scenario.broker,
            record,
            scenario.window.max_window,
            workload.known_length,
            scenario.broker.loss > 0,
            nodes,
        )
        arrivals = traces.arrivals.get(devices.arrivals.trace or "", ())
        Fleet(name, scenario, setting, streams.of(name), texts, arrivals, load).begin()
    return World(kernel, cloud, record)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the cycle collector out: texts that are over hold no cycles, and looking for some takes a third of a run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
