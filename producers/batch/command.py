"""``dsdq batch``: do files of requests, or hand them in and read what became of them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from redis.asyncio import Redis
from rich.console import Console

from dsdq.batches import Batch, Status
from dsdq.bus.address import shown
from dsdq.bus.batches import BatchStore
from dsdq.bus.connection import open_redis
from dsdq.bus.files import CHUNK_BYTES, FileBounds, FileStore
from dsdq.errors import ConfigError
from dsdq.settings import settings
from producers.batch.following import figures_of, follow
from producers.openai.drafts import NAMES
from producers.openai.requests import COMPLETIONS, ENDPOINTS

T = TypeVar("T")
Url = Annotated[str | None, typer.Option("--redis", help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")]
Of = Annotated[str, typer.Option("--tenant", help="On whose behalf.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The batch, as `submit` printed it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Into = Annotated[Path | None, typer.Option(help="A file for it, instead of standard output.")]

batch = typer.Typer(no_args_is_help=True, help="Files of requests, each done once.")


@batch.command()
def worker(
    redis: Url = None,
    draft: Annotated[
        list[str] | None,
        typer.Option(help="What it drafts with; the first that fits the target.", show_default=", ".join(NAMES)),
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(min=1, help="Lines done at once.", show_default="DSDQ_BATCH_SESSIONS")
    ] = None,
) -> None:
    """Do batches of all tenants until interrupted; lines that are not done by then are given back at once."""
    try:
        from producers.batch.worker import serve  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"batches: expected {error.name} to be installed; install dsdq[jobs]") from error
    url, count = redis or settings().redis_url, sessions or settings().batch_sessions

    async def _serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(
            url,
            tuple(draft or NAMES),
            count,
            stop,
            lambda: typer.echo(f"ready: does {count} lines at once at {shown(url)}"),
        )

    asyncio.run(_serve())


@batch.command()
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A request on each line, as JSON.")],
    tenant: Of = "default",
    redis: Url = None,
    endpoint: Annotated[str, typer.Option(help="What all of its requests are for.")] = COMPLETIONS,
    wait: Annotated[bool, typer.Option("--wait", help="Show how far it is until it has ended.")] = False,  # noqa: FBT002
) -> None:
    """Upload FILE and begin a batch with it; print its id."""
    if endpoint not in ENDPOINTS:
        raise ConfigError(f"endpoint: expected {', '.join(ENDPOINTS)}, got {endpoint!r}")
    if not file.is_file():
        raise ConfigError(f"expected a file of requests, got {file}, which there is not")

    async def _submit(files: FileStore, batches: BatchStore) -> Batch:
        info = await files.add(tenant, _pieces(file), filename=file.name, purpose="batch")
        begun = await batches.create(tenant, input_file_id=info.id, endpoint=endpoint)
        typer.echo(begun.id)
        return await follow(batches, tenant, begun.id, Console(stderr=True)) if wait else begun

    found = _run(redis, _submit)
    if wait:
        _show(found)
        if found.status is not Status.COMPLETED:
            raise typer.Exit(1)


@batch.command()
def status(batch_id: Id, tenant: Of = "default", redis: Url = None, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Say how far a batch is."""
    found = _run(redis, lambda _, batches: batches.get(tenant, batch_id))
    if as_json:
        typer.echo(json.dumps(found.document()))
    else:
        _show(found)


@batch.command(name="list")
def list_(
    tenant: Of = "default",
    redis: Url = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List a tenant's batches."""
    for found in _run(redis, lambda _, batches: batches.newest(tenant, limit=limit)):
        if as_json:
            typer.echo(json.dumps(found.document()))
        else:
            _show(found)


@batch.command()
def cancel(batch_id: Id, tenant: Of = "default", redis: Url = None) -> None:
    """End a batch early: what is finished is kept, the rest is not done."""
    _show(_run(redis, lambda _, batches: batches.cancel(tenant, batch_id)))


@batch.command()
def results(batch_id: Id, tenant: Of = "default", redis: Url = None, output: Into = None, errors: Into = None) -> None:
    """Print the output file of a batch that has ended; with --errors, write its error file too."""

    async def _read(files: FileStore, batches: BatchStore) -> None:
        found = await batches.get(tenant, batch_id)
        if not found.status.ended:
            raise ConfigError(f"expected a batch that has ended, {batch_id} is {found.status}")
        if errors is not None:
            await _write(files, tenant, found.error_file_id, errors)
        await _write(files, tenant, found.output_file_id, output)

    _run(redis, _read)


def _show(found: Batch) -> None:
    counts = f"{found.completed} of {found.total} completed, {found.failed} failed"
    typer.echo(f"{found.id} {found.status}: {counts} {figures_of(found, 0, 0)}".rstrip())
    for error in found.errors:
        typer.echo(f"  {error['code']}: {error['message']}")


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            yield piece


async def _write(files: FileStore, tenant: str, file_id: str | None, target: Path | None) -> None:
    """Write a file's content to ``target``, or standard output; one that a batch did not need is empty."""
    with nullcontext(sys.stdout.buffer) if target is None else target.open("wb") as opened:
        if file_id is not None:
            async for piece in files.read(tenant, file_id):
                opened.write(piece)
        opened.flush()


def _run(url: str | None, work: Callable[[FileStore, BatchStore], Awaitable[T]]) -> T:
    async def _work() -> T:
        client: Redis = open_redis(url or settings().redis_url)
        try:
            return await work(FileStore(client, FileBounds.of(settings())), BatchStore(client, settings().file_ttl_ms))
        finally:
            await client.aclose()

    return asyncio.run(_work())
