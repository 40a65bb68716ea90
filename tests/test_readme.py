"""What the README tells a newcomer to write works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import dsdq
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.reference import load_reference
from tests.conftest import Serve
from workers.verifier.metrics import NAMES

README = (Path(__file__).parents[1] / "README.md").read_text()


async def test_the_example_runs_and_gives_the_targets_own_text(serve: Serve, redis_url: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - the example is ours
    async with serve("builtin/target"):
        text = await names["main"](redis_url)  # type: ignore[operator]
    tokenizer = Tokenizer.load("builtin/target")
    chosen = dsdq.Sampling(temperature=0.8, top_p=0.95)
    ids = load_reference("builtin/target").decode(tokenizer.encode("def fib(n):\n"), 48, chosen, 7)
    assert text == tokenizer.decode(ids)


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (Path(__file__).parents[1] / link).exists()] == []


def test_every_metric_of_a_verifier_is_listed_and_no_other() -> None:
    assert re.findall(r"^\| `(dsdq:\w+)", README, flags=re.MULTILINE) == list(NAMES)
