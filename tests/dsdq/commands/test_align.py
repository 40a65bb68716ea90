"""`dsdq align`, with the models that it is made for and with small ones of random weights."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from dsdq import cli
from dsdq.alignment import sides
from dsdq.testing.tiny import make_tiny, make_tokenizer

ROOT = Path(__file__).parents[3]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
SHORT = ("--max-tokens", "24", "--max-window", "6", "--max-depth", "2")

Align = Callable[..., dict[str, Any]]
Refuse = Callable[..., str]


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find commands and sides as this tree declares them, whatever is installed."""

    def find(group: str, **wanted: str) -> EntryPoints:
        points = EntryPoints(EntryPoint(name, value, group) for name, value in DECLARED[group].items())
        return points.select(**wanted)

    monkeypatch.setattr(cli, "entry_points", find)
    monkeypatch.setattr(sides, "entry_points", find)


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["dsdq", "align", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


@pytest.fixture
def align(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Align:
    """Return a function that runs the command on two short prompts and gives its figures."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("def read(path):\n\nclass Reader:\n")

    def run(target: object, draft: object, *arguments: str) -> dict[str, Any]:
        file = tmp_path / "found.json"
        options = ("--prompts", str(prompts), *SHORT, *arguments, "--json", str(file))
        assert ended(monkeypatch, str(target), str(draft), *options) == 0
        figures: dict[str, Any] = json.loads(file.read_text())
        return figures

    return run


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Return a function that runs the command in vain and gives the one line that it says."""

    def run(*arguments: str) -> str:
        assert ended(monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return run


def test_a_draft_that_is_the_target_is_accepted_whole(align: Align, tiny: Callable[[str], Path]) -> None:
    options = ("--temperature", "0.9", "--top-k", "40", "--seed", "7")
    found = align(tiny("qwen2"), f"transformers:{tiny('qwen2')}", *options)
    assert found["acceptance"] == 1.0
    assert [one["acceptance"] for one in found["by_position"]] == [1.0] * 6
    assert [one["measured"] for one in found["tokens_per_round"]] == [2, 3, 4, 5, 6, 7]
    laws = found["laws"]
    assert laws["greedy_agreement"] == 1.0
    assert laws["rejection_acceptance"] == pytest.approx(1, abs=1e-4)
    assert laws["tv"]["p99"] < 1e-4
    assert laws["kl_nats"]["p99"] < 1e-6


def test_the_builtin_pair_shows_what_its_card_says(
    align: Align, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "fit.png"
    options = ("--temperature", "1", "--rtt-ms", "30", "--draft-ms", "1", "--target-ms", "30")
    found = align("builtin/target", "builtin/draft", *options, "--plot", str(picture))
    laws, speeds = found["laws"], found["speeds"]
    assert 0.5 < laws["coupled_acceptance_at_least"] <= found["acceptance"] + 0.15
    assert 0.6 < laws["rejection_acceptance"] == pytest.approx(1 - laws["tv"]["mean"])
    assert speeds["target_ms"] == 30
    assert speeds["position_ms"] == 0
    assert speeds["stated"] == ["draft_ms", "target_ms"]
    (rates,) = found["rates"]
    assert rates["rtt_ms"] == 30
    assert rates["target_only"]["tokens_per_s"] == pytest.approx(1000 / 30)
    assert (rates["edge"]["tokens_per_s"] > 1000 / 30) == (found["break_even"]["target_only_ms"] > 30)
    assert picture.stat().st_size > 10_000
    said = " ".join(capsys.readouterr().out.split())
    assert "up to a round trip of" in said
    assert f"{found['acceptance']:.1%}" in said


def test_models_of_other_architectures_are_compared_and_timed_here(align: Align, tiny: Callable[[str], Path]) -> None:
    found = align(tiny("gpt2"), tiny("llama"))
    assert found["places"] > 2
    assert 0 < found["laws"]["tv"]["mean"] <= 1
    assert math.isfinite(found["laws"]["kl_nats"]["p99"])
    assert found["speeds"]["stated"] == []
    assert found["speeds"]["draft_ms"] > 0
    assert found["speeds"]["target_ms"] > 0
    assert [one["rtt_ms"] for one in found["rates"]] == [0, 5, 10, 20, 50, 100, 200]


def test_a_draft_of_another_tokenizer_is_refused_unless_it_may_be_encoded_again(
    align: Align, refuse: Refuse, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    other = make_tiny(tmp_path / "other", "llama")
    make_tokenizer(other, vocab_size=300)
    said = refuse(str(tiny("gpt2")), str(other), *SHORT)
    assert f"retokenise:{other}" in said
    found = align(tiny("gpt2"), f"retokenise:{other}")
    assert found["laws"] is None
    assert 0 <= found["acceptance"] < 1


def test_what_repeats_itself_is_found_again_without_a_model(align: Align) -> None:
    found = align("builtin/target", "ngram")
    assert found["laws"] is None
    assert 0 < found["acceptance"] < 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("builtin/target", "none"), "drafts something"),
        (("builtin/nothing", "builtin/draft"), "builtin/nothing"),
        (("builtin/target", "builtin/nothing"), "builtin/nothing"),
        (("builtin/target", "ngram", "--prompts", "nowhere.txt"), "nowhere.txt"),
        (("builtin/target", "ngram", "--top-p", "7"), "top_p"),
        (("builtin/target",), "draft"),
        (("builtin/target", "builtin/draft", "--max-tokens", "4000"), "tokens"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(refuse: Refuse, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in refuse(*arguments)


@pytest.mark.usefixtures("bare")
def test_without_matplotlib_a_picture_is_refused_before_anything_is_measured(refuse: Refuse) -> None:
    assert "dsdq[plot]" in refuse("builtin/nothing", "builtin/draft", "--plot", "fit.png")


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "[1]", "[", '[""]'])
def test_a_file_without_prompts_is_refused(refuse: Refuse, tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(content)
    assert "prompts.json" in refuse("builtin/target", "ngram", "--prompts", str(file))
