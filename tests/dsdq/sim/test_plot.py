"""Pictures of results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim import plot
from dsdq.sim.results import Result
from tests.dsdq.sim.report.results import ran, swept
from tests.dsdq.sim.small import small

pytest.importorskip("matplotlib", reason="needs dsdq[sim]")


def drawn(result: Result, folder: Path) -> list[str]:
    """Draw a result, and return the picture's texts, as it has them in comments."""
    file = folder / "picture.svg"
    plot.draw(result, file)
    return re.findall(r"<!-- (.*?) -->", file.read_text())


@pytest.mark.parametrize("seeds", [1, 2])
def test_ways_are_drawn_side_by_side(tmp_path: Path, seeds: int) -> None:
    result = ran(seeds=seeds)
    texts = drawn(result, tmp_path)
    assert {"TTFT, ms", "TPOT, ms", "tokens/s, with 95 % confidence", "share of verdicts"} <= set(texts)
    for name, way in result.ways.items():
        assert texts.count(name) == 2  # in the legend, and beside its bar
        assert f"{way.value('tokens_per_s'):.4g}" in texts
    assert "3x1" in texts or "3x2" in texts  # windows of the first way
    assert f"small: run, {seeds} seed{'s' * (seeds > 1)}" in texts


@pytest.mark.parametrize("suffix", plot.PICTURES)
def test_a_picture_is_of_the_kind_that_its_name_says(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"run{suffix}"
    plot.draw(ran(seeds=1), file)
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert file.read_bytes().startswith(begins[suffix])


def test_a_sweep_is_drawn_over_the_numbers_that_varied(tmp_path: Path) -> None:
    texts = drawn(swept("window.policy=static:1,static:2", "devices.*.link.rtt_ms=50,10"), tmp_path)
    assert texts.count("devices.*.link.rtt_ms") == 6
    assert [text for text in texts if " = " in text] == ["policy = static:1", "policy = static:2"]
    assert {"tokens/s", "TTFT, ms", "acceptance"} <= set(texts)


def test_a_sweep_of_words_has_a_bar_for_each(tmp_path: Path) -> None:
    texts = drawn(swept("window.policy=static:1,target-only", seeds=1), tmp_path)
    assert [texts.count(f"window.policy={name}") for name in ("static:1", "target-only")] == [6, 5]  # nobody accepts


def test_a_sweep_of_nothing_is_one_way(tmp_path: Path) -> None:
    assert {"TTFT, ms", "share of verdicts"} <= set(drawn(swept(seeds=1), tmp_path))


def test_what_is_too_much_for_a_picture_is_counted(tmp_path: Path) -> None:
    result = swept("window.policy=" + ",".join(f"static:{size}" for size in range(1, 9)), "duration_s=1,2", seeds=1)
    assert not any("not drawn" in text for text in drawn(result, tmp_path))
    more = swept("window.policy=" + ",".join(f"static:{size}:{depth}" for depth in (1, 2) for size in range(1, 6)))
    assert "small: sweep, 2 seeds (2 more of them not drawn)" in drawn(more, tmp_path)


def test_any_result_is_drawn(tmp_path: Path) -> None:
    result = ran(small(devices__phones__leave=1.0), 1)  # in which nothing was finished
    odd = {"figures": {}, "intervals": {"tokens_per_s": (9.0, 1.0)}, "windows": {}, "quantiles": {"ttft_ms": [3.0]}}
    ways = {"a $way$ \\of": result.ways["target-only"], "odd": result.ways["distributed"].model_copy(update=odd)}
    assert "a $way$ \\of" in drawn(result.model_copy(update={"ways": ways}), tmp_path)


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out .*expected a file that can be written, got: No such file"):
        plot.draw(ran(seeds=1), tmp_path / "none" / "run.png")
