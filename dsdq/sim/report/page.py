"""A report: one HTML page that needs nothing else, of one or several results. Pure, but for its style sheet's file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from importlib.resources import files
from xml.etree.ElementTree import Element

from dsdq.sim.report import compared, planned, swept, ways
from dsdq.sim.report.layout import section
from dsdq.sim.report.markup import document, tag
from dsdq.sim.report.world import world
from dsdq.sim.results import Result
from dsdq.sim.rows import sentence
from dsdq.sim.scenario import to_toml

_KINDS = {"run": "run", "compare": "comparison", "sweep": "sweep", "plan": "plan"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def report(results: Sequence[Result], figures: Sequence[str] = swept.DEFAULT_FIGURES) -> str:
    """Return the page; ``figures`` are drawn of sweeps."""
    title = ", ".join(dict.fromkeys(one.scenario.name for one in results))
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="content-security-policy", content=_POLICY),
        tag("title", f"{title}: simulated with dsdq"),
        tag("link", rel="icon", href="data:,"),
        tag("style", style),
    )
    top = tag("header", tag("h1", "dsdq"), tag("p", "what simulations found"))
    parts = [_article(one, place, figures) for place, one in enumerate(results, 1)]
    contents = [_contents(results)] if len(results) > 1 else []
    return document(tag("html", head, tag("body", top, tag("main", *contents, *parts)), lang="en"))


def _contents(results: Sequence[Result]) -> Element:
    links = [
        tag("li", tag("a", f"{one.scenario.name}: {_KINDS[one.kind]}", href=f"#result-{place}"))
        for place, one in enumerate(results, 1)
    ]
    return tag("nav", tag("ol", *links), aria_label="Results")


def _article(result: Result, place: int, figures: Sequence[str]) -> Element:
    name = f"title-{place}"
    top = [tag("h2", result.scenario.name, tag("span", _KINDS[result.kind], class_="kind"), id=name)]
    if result.scenario.about:
        top.append(tag("p", result.scenario.about, class_="about"))
    top.append(tag("p", sentence(result), class_="note"))
    parts = [*top, *_findings(result, figures), _repeat(result)]
    return tag("article", *parts, id=f"result-{place}", aria_labelledby=name)


def _findings(result: Result, figures: Sequence[str]) -> Iterator[Element]:
    if result.kind == "sweep":
        yield world(result.scenario)
        yield swept.charts(result, figures)
        yield swept.cells(result, figures)
        return
    if result.kind == "run":
        yield ways.tiles(result)
    yield world(result.scenario)
    if result.kind == "plan":
        yield planned.capacity(result)
        yield planned.break_evens(result)
    yield ways.key_figures(result.ways)
    if result.kind == "compare":
        yield compared.differences(result)
    yield ways.latencies(result.ways)
    yield ways.course(result.ways, result.scenario.warm_up_s)
    yield ways.waits(result.ways)
    yield ways.windows(result.ways)
    yield ways.all_figures(result.ways, result.scenario.prices.currency)


def _repeat(result: Result) -> Element:
    """Return how to do the same again."""
    text = f"Made with dsdq {result.version}. Save the scenario as scenario.toml; then:"
    scenario = tag(
        "details", tag("summary", "The scenario, with all that it left out"), tag("pre", to_toml(result.scenario))
    )
    return section("Once more", tag("p", text), tag("pre", shlex.join(_command(result))), scenario)


def _command(result: Result) -> Iterator[str]:
    yield from ("dsdq", "sim", result.kind, "scenario.toml", "--seeds", str(len(result.seeds)))
    if result.kind == "run" and len(result.ways) == 1:
        yield "--no-baselines"
    if result.kind == "compare":
        for name, way in result.ways.items():
            yield from ("--variant", f"{name}={','.join(f'{field}={value}' for field, value in way.set.items())}")
    for name, values in result.vary.items():
        yield from ("--vary", f"{name}={','.join(values)}")
    if result.good is not None:
        yield from ("--good", f"{result.good:g}")
    if result.objective is not None:
        yield from ("--objective", result.objective)
