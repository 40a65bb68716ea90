"""``dsdq align``: how well a draft fits a target, and at which round trips drafting pays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dsdq.alignment import report
from dsdq.alignment.measure import Question, Stated, load_pair, speeds_of
from dsdq.alignment.plot import draw
from dsdq.alignment.report import Report
from dsdq.alignment.speeds import Ways
from dsdq.contract import MAX_SEED, MAX_WINDOW, Sampling
from dsdq.errors import ConfigError
from dsdq.extras import require
from dsdq.models.prompts import builtin_prompts, read_prompts
from dsdq.policies.window import MAX_DEPTH
from dsdq.threads import share_cores

BUILTIN_PROMPTS = 16
ROUND_TRIPS_MS = (0.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


Prompts = Annotated[
    Path | None,
    typer.Option(help="A prompt in each line, or a JSON array of them in a .json file.", show_default="built-in ones"),
]
DraftMs = Annotated[
    float | None, typer.Option(min=0.0, help="A draft token on the device.", show_default="measured here")
]
TargetMs = Annotated[
    float | None, typer.Option(min=1e-3, help="A token of the target alone.", show_default="measured here")
]
PositionMs = Annotated[
    float | None,
    typer.Option(min=0.0, help="Each further position of a pass.", show_default="measured here; 0 with --target-ms"),
]
ServerDraftMs = Annotated[
    float | None, typer.Option(min=0.0, help="A draft token at the verifier.", show_default="as on the device")
]
RttMs = Annotated[
    list[float] | None,
    typer.Option(min=0.0, help="A round trip to show; repeatable.", show_default="0, 5, 10, 20, 50, 100, 200"),
]


def align(  # noqa: PLR0913, PLR0917 - the flags of a command
    target: Annotated[str, typer.Argument(help="The target: a built-in name, a folder or a hub name.")],
    draft: Annotated[str, typer.Argument(help="The draft, as `dsdq generate --draft` takes it.")],
    prompts: Prompts = None,
    max_tokens: Annotated[int, typer.Option(min=2, max=4096, help="Tokens of each text at most.")] = 96,
    max_window: Annotated[int, typer.Option(min=1, max=MAX_WINDOW, help="The widest window to look at.")] = 16,
    max_depth: Annotated[int, typer.Option(min=1, max=MAX_DEPTH, help="Rounds in flight at most.")] = 4,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is off.")] = 0,
    top_p: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="0 is off.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the first text; the others' count up.")] = 0,
    draft_ms: DraftMs = None,
    target_ms: TargetMs = None,
    position_ms: PositionMs = None,
    server_draft_ms: ServerDraftMs = None,
    rtt_ms: RttMs = None,
    device: Annotated[str, typer.Option(help="The target's: cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="The target's: float32, bfloat16 or float16.")] = "float32",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw them there; needs the extra plot.")] = None,
) -> None:
    """Compare DRAFT with TARGET on the target's own continuations of some prompts."""
    share_cores()
    if plot_file is not None:
        require("matplotlib", "--plot", "plot")
    sampling = Sampling(temperature, top_k, top_p, min_p)
    question = Question(target, draft, sampling, seed, max_tokens, max_window, device, dtype)
    texts = builtin_prompts()[:BUILTIN_PROMPTS] if prompts is None else read_prompts(prompts)
    console = Console()
    with Console(stderr=True).status("loading") as status:
        pair, ids = load_pair(question, texts)
        alignment = pair.measure(ids, status.update)
        status.update("how long passes take")
        speeds = speeds_of(alignment, pair, Stated(draft_ms, target_ms, position_ms))
    stated = {"draft_ms": draft_ms, "target_ms": target_ms, "position_ms": position_ms}
    known = [name for name, value in stated.items() if value is not None]
    at_server = speeds.draft_ms if server_draft_ms is None else server_draft_ms
    ways = Ways(speeds, at_server, max_window, max_depth)
    found = report.figures(Report(question, alignment, ways, sorted(rtt_ms or ROUND_TRIPS_MS), known))
    report.show(console, found)
    if json_file is not None:
        _write(json_file, json.dumps(found, indent=2) + "\n")
    if plot_file is not None:
        draw(plot_file, found, ways)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"--json {file}: expected a file that can be written: {error}"
        raise ConfigError(msg) from error
