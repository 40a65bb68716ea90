"""What a report says of each kind of result, and that nothing of a result is taken for markup."""

from __future__ import annotations

import re
import tomllib
from html import unescape
from html.parser import HTMLParser

import pytest

from dsdq.sim.report import report
from dsdq.sim.report.ways import window_name
from dsdq.sim.results import Result
from dsdq.sim.rows import with_reach
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.variations import varied
from dsdq.sim.wording import number
from tests.dsdq.sim.report.results import HOSTILE, compared, planned, ran, swept
from tests.dsdq.sim.small import SMALL, small


def headings(page: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", page)


def pictures(page: str) -> list[str]:
    """Return the titles of all pictures."""
    return [unescape(label).split(". ")[0] for label in re.findall(r'role="img" aria-label="(.*?)"', page)]


def commands(page: str) -> list[str]:
    return [unescape(text) for text in re.findall(r"<pre>(dsdq .*?)</pre>", page)]


class Reader(HTMLParser):
    """Reads a page as a browser does."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.texts = set[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.texts += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_run_is_shown_with_all_its_pictures() -> None:
    found = ran()
    page = report([found])
    assert headings(page) == [
        "The world",
        "Side by side",
        "Latencies",
        "Over time",
        "Where the time of a token goes",
        "Windows",
        "All figures: latency, waste, energy, cost",
        "Once more",
    ]
    assert {"Throughput", "Time per token (TPOT)", "Tokens a second", "Windows of changing"} <= set(pictures(page))
    assert "<b>target-only</b>: always target-only" in page
    for name, way in found.ways.items():
        assert f"{name}: {with_reach(way, 'tokens_per_s')}" in page
        assert f"<td>{number(way.value('ttft_ms_p95'))}</td>" in page
    assert commands(page) == ["dsdq sim run scenario.toml --seeds 2"]


def test_a_run_without_baselines_is_repeated_without_them() -> None:
    found = ran(seeds=1)
    alone = found.model_copy(update={"ways": {"distributed": found.ways["distributed"]}})
    assert commands(report([alone])) == ["dsdq sim run scenario.toml --seeds 1 --no-baselines"]


def test_figures_of_one_seed_have_no_whiskers() -> None:
    page = report([ran(seeds=1)])
    assert "with seed 1." in page
    assert 'class="whisker"' not in page
    assert "±" not in page
    assert 'class="whisker"' in report([ran(seeds=2)])


def test_what_is_not_measured_is_said() -> None:
    assert "3 s, of which the first 1 s are not measured" in report([ran(small(warm_up_s=1.0), 1)])
    cooled = report([ran(small(warm_up_s=1.0, cool_down_s=0.5), 1)])
    assert "of which the first 1 s and the last 0.5 s are not measured" in cooled


def test_a_comparison_says_what_can_be_told_apart() -> None:
    page = report([compared()])
    assert "Against base" in headings(page)
    assert {"other against base", "Latencies"} & set(pictures(page)) == {"other against base"}
    assert re.search(r"Time per token \(TPOT\): 1\.[0-9]+ times;", page)  # slower, and told apart
    assert commands(page) == [
        "dsdq sim compare scenario.toml --seeds 3 --variant base= --variant other=verifiers.step_ms=30.0"
    ]


def test_a_sweep_has_a_line_for_each_combination_of_the_other_fields() -> None:
    page = report([swept("window.policy=static:1,static:3", "devices.*.link.rtt_ms=200,10,50")])
    assert "Over devices.*.link.rtt_ms" in headings(page)
    assert {"tokens/s", "TTFT, ms", "TPOT, ms", "acceptance"} <= set(pictures(page))
    (label,) = re.findall(r'aria-label="TPOT, ms\. (.*?)"', page)
    assert re.fullmatch(
        r"Over devices\.\*\.link\.rtt_ms: "
        r"policy = static:1: \S+ at 10 to \S+ at 200; policy = static:3: \S+ at 10 to \S+ at 200",
        label,
    )
    assert page.count('scope="row">') >= 6
    assert "'devices.*.link.rtt_ms=200,10,50'" in commands(page)[0]  # a shell would look for files


def test_a_sweep_of_words_has_bars_and_the_figures_that_are_asked_for() -> None:
    page = report([swept("window.policy=static:1,target-only")], ["ttft_ms", "acceptance", "evictions"])
    assert pictures(page) == ["TTFT, ms", "acceptance"]  # nothing was evicted


def test_a_plan_shows_how_many_verifiers_and_where_drafting_pays() -> None:
    page = report([planned()])
    assert headings(page)[1:3] == ["Capacity", "Where drafting on devices pays"]
    curve = re.search(r"How many verifiers it takes\. Over verifiers: distributed: 50 at 1 to (.*?);", page)
    assert curve is not None
    assert "better than target-only: up to a round trip of 48.4 ms" in page  # 100 + 48.4 < 0.99 × 150
    assert "better than co-located: nowhere" in page
    assert "--good 0.95 --objective e2e_ms" in commands(page)[0]


@pytest.mark.parametrize("kind", ["run", "compare"])
def test_no_text_of_a_result_is_markup(kind: str) -> None:
    found = ran(varied(SMALL, {"about": HOSTILE}).scenario, 1) if kind == "run" else compared(HOSTILE)
    read = Reader()
    read.feed(report([found]))
    assert "script" not in read.tags
    assert {"svg", "text", "table", "details"} <= read.tags
    assert any(HOSTILE in text for text in read.texts)


def test_the_scenario_can_be_run_again() -> None:
    scenario = small(about=HOSTILE, duration_s=2.5)
    page = report([ran(scenario, 1)])
    (text,) = re.findall(r"</summary><pre>(.*?)</pre>", page, re.DOTALL)
    assert Scenario.model_validate(tomllib.loads(unescape(text))) == scenario


def test_several_results_have_contents() -> None:
    page = report([ran(seeds=1), compared()])
    assert re.findall(r'<a href="(.*?)">(.*?)</a>', page) == [
        ("#result-1", "small: run"),
        ("#result-2", "small: comparison"),
    ]
    assert [page.count(f'id="result-{place}"') for place in (1, 2)] == [1, 1]


def test_a_page_loads_nothing() -> None:
    page = report([ran(seeds=1)])
    assert re.findall(r"""(?:src|href)=["'](?!data:,|#)|url\(|@import""", page) == []
    assert "default-src 'none'" in page


def test_a_result_in_which_nothing_was_finished_is_shown_all_the_same() -> None:
    page = report([ran(small(devices__phones__leave=1.0), 1)])
    assert "Side by side" in headings(page)
    assert "requests given up" in page
    assert "requests refused" not in page  # what did not happen is not shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("8x2", "8 tokens (devices draft, 2 in flight)"),
        ("1x1", "1 token (devices draft, 1 in flight)"),
        ("co-located:3", "3 tokens (co-located)"),
        ("target-only", "target-only"),
    ],
)
def test_windows_in_words(name: str, said: str) -> None:
    assert window_name(name) == said


def test_a_sweep_without_what_it_varied_is_refused() -> None:
    document = swept("verifiers.step_ms=20,30", seeds=1).model_dump()
    document["vary"]["verifiers.step_ms"] = ["20", "31"]
    with pytest.raises(ValueError, match=r"expected way .* to set verifiers.step_ms to one of 20, 31, got 30"):
        Result.model_validate(document)
