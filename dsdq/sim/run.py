"""One simulation: a scenario and its seed, to the record of what happened."""

from __future__ import annotations

from dsdq.policies.window import load_policy
from dsdq.sim.cloud import Cloud
from dsdq.sim.device import Setting
from dsdq.sim.fleet import Fleet, LoadPolicy
from dsdq.sim.kernel import Kernel
from dsdq.sim.record import Log, Record
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Recordings, Texts


def simulate(
    scenario: Scenario,
    *,
    recordings: Recordings | None = None,
    log: Log | None = None,
    load: LoadPolicy = load_policy,
) -> Record:
    """Let everything happen that a scenario says; every request that has begun is finished, refused, or left.

    Args:
        scenario: what is simulated, its seed included.
        recordings: the texts of its acceptance traces.
        log: is told every event.
        load: makes each text's window policy, from the scenario's name for it and what is on offer.
    """
    kernel, streams = Kernel(), Streams(scenario.seed)
    record = Record(1000 * scenario.warm_up_s, 1000 * scenario.duration_s, log)
    cloud = Cloud(kernel, scenario, streams, record)
    for number, (name, devices) in enumerate(scenario.devices.items()):
        workload = scenario.workloads[devices.workload]
        own = scenario.verifiers.draft is not None
        texts = Texts(workload, number, streams, recordings or {}, own=own)
        setting = Setting(
            kernel,
            cloud,
            scenario.broker,
            record,
            scenario.window.max_window,
            workload.known_length,
            scenario.broker.loss > 0,
        )
        Fleet(name, scenario, setting, streams, texts, load).begin()
    kernel.run()
    record.events = kernel.events
    return record
