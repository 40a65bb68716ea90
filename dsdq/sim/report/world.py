"""What was simulated: tables of devices with their links, of verifiers, of workloads. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from dsdq.sim.report.layout import section, table
from dsdq.sim.report.markup import tag
from dsdq.sim.scenario.model import Arrivals, Devices, Link, Scenario
from dsdq.sim.scenario.workload import Acceptance, Lengths


def world(scenario: Scenario) -> Element:
    """Return the section of a scenario's world."""
    window = scenario.window
    deciding = (
        f"Windows: {window.policy}, at most {window.max_window} tokens and {window.max_depth} in flight. "
        f"Routing: {scenario.routing.policy}. Order of a batch: {scenario.batching.order}."
    )
    beside = tag("div", _verifiers(scenario), _workloads(scenario), class_="tables")
    return section("The world", _devices(scenario), beside, note=deciding)


def _devices(scenario: Scenario) -> Element:
    rows = [
        (name, f"{one.count:,}", _profile(one), f"{one.draft_ms:g}", _link(one.link), _arrivals(one.arrivals))
        for name, one in scenario.devices.items()
    ]
    head = ("Devices", "count", "profile", "ms a draft token", "link", "they ask")
    return table("Devices and their links", head, rows)


def _profile(devices: Devices) -> str:
    return devices.profile or "own figures"


def _link(link: Link) -> str:
    """Return a link in few words."""
    found = "round trip by a trace" if link.trace else f"{link.rtt_ms:g} ms round trip"
    if link.jitter_ms:
        found += f" + {link.jitter_ms:g} ms jitter"
    if link.up_kbps or link.down_kbps:
        found += f", {_mbps(link.up_kbps)} up, {_mbps(link.down_kbps)} down"
    return found + (f", {link.loss:.2g} lost" if link.loss else "")


def _mbps(kbps: float) -> str:
    return f"{kbps / 1000:g} Mbit/s" if kbps else "any rate"


def _arrivals(arrivals: Arrivals) -> str:
    if arrivals.per_s is not None:
        return f"{arrivals.per_s:g} a second"
    if arrivals.per_device_per_s is not None:
        return f"{arrivals.per_device_per_s:g} a second each"
    if arrivals.think_s is not None:
        return f"each {arrivals.think_s:g} s behind its last text" if arrivals.think_s else "one text behind another"
    return "as a trace says"


def _verifiers(scenario: Scenario) -> Element:
    one = scenario.verifiers
    each = ((one.row_ms, "row"), (one.position_ms, "position"), (one.context_ms_per_1k, "1k of context"))
    step = " + ".join((f"{one.step_ms:g}", *(f"{ms:g} a {what}" for ms, what in each if ms)))
    row = (f"{one.count:,}", one.profile or "own figures", f"{one.slots:,}", step)
    return table("Verifiers", ("Verifiers", "profile", "sessions each", "ms a step"), [row])


def _workloads(scenario: Scenario) -> Element:
    used = {one.workload for one in scenario.devices.values()}
    rows = [
        (name, _lengths(work.prompt), _lengths(work.output), _acceptance(work.acceptance))
        for name, work in scenario.workloads.items()
        if name in used
    ]
    return table("Workloads", ("Workload", "prompt tokens", "output tokens", "acceptance"), rows)


def _lengths(lengths: Lengths) -> str:
    return f"{lengths.mean:g}" + (f" (variation {lengths.variation:g})" if lengths.variation else "")


def _acceptance(acceptance: Acceptance) -> str:
    if acceptance.trace is not None:
        return "by a trace"
    if acceptance.by_place is not None:
        return "by place: " + ", ".join(f"{one:g}" for one in acceptance.by_place)
    return f"{acceptance.mean:g}"
