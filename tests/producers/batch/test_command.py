from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from redis.asyncio import Redis
from rich.console import Console

from dsdq.batches import Batch, Status
from dsdq.bus.batches import Entry
from producers.batch.following import figures_of, follow
from tests.producers.batch.conftest import Shop, request_of


async def dsdq(*arguments: str | Path, code: int = 0) -> str:
    """Run the command and return what it said."""
    command = [sys.executable, "-m", "dsdq", "batch", *map(str, arguments)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


async def test_a_batch_from_hand_to_hand(redis_url: str, shop: Shop, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(json.dumps(request_of(one)) for one in "ab"))
    where = ("--tenant", "acme", "--redis", redis_url)
    batch_id = (await dsdq("submit", source, *where)).strip()
    assert (await dsdq("status", batch_id, *where)).startswith(f"{batch_id} validating")
    assert "has ended" in await dsdq("results", batch_id, *where, code=2)
    await shop.batches.cancel("acme", batch_id)
    await shop.assembled(await shop.batches.get("acme", batch_id))
    assert json.loads(await dsdq("status", batch_id, *where, "--json"))["status"] == "cancelled"
    assert batch_id in await dsdq("list", *where)
    assert await dsdq("results", batch_id, *where, "--errors", tmp_path / "errors") == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["submit", "/nowhere.jsonl"], "which there is not"),
        (["submit", __file__, "--endpoint", "/v1/audio"], "endpoint: expected /v1/completions"),
        (["status", "batch_x"], "expected an id such as batch_"),
        (["cancel", f"batch_{24 * 'a'}"], "does not have"),
        (["worker", "--redis", "redis+cluster://127.0.0.1:1"], "cluster"),
        (["worker", "--draft", "hash:7"], "acceptance"),
    ],
)
async def test_an_expected_error_is_one_line(redis: Redis, redis_url: str, arguments: list[str], expected: str) -> None:
    del redis
    where = [] if "--redis" in arguments else ["--redis", redis_url]
    said = await dsdq(*arguments, *where, code=2)
    assert expected in said
    assert said.count("\n") == 1


async def test_who_waits_sees_it_end(shop: Shop) -> None:
    batch = await shop.prepared([request_of("a"), request_of("b")])
    console = Console(record=True, width=120, force_terminal=True)
    following = asyncio.create_task(follow(shop.batches, "acme", batch.id, console))
    for claim in await shop.batches.claim("acme", "me", 5, 60_000):
        done = Entry(completed=True, text=zlib.compress(b"{}\n"), costs={"judged_tokens": 4, "accepted_tokens": 3})
        await shop.batches.finish(claim, done)
    await shop.assembled(batch)
    assert (await following).status is Status.COMPLETED
    shown = console.export_text()
    assert "2/2" in shown
    assert "75% of drafts stood" in shown


def test_figures_say_what_is_known() -> None:
    nothing = Batch("b", "e", "f", "24h", Status.VALIDATING, 0, 0, 0, sums={"judged_tokens": 0, "accepted_tokens": 0})
    assert figures_of(nothing, 0, 0) == ""
    assert figures_of(nothing, 50, 2.0) == "25 tokens/s"
