"""``dsdq verifier``: serve a target model to devices."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from dsdq.errors import ConfigError
from dsdq.settings import Settings, settings
from dsdq.threads import share_cores


def verifier(
    redis: Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")] = None,
    target: Annotated[
        str, typer.Option(help="The target model: a built-in name, a path or a hub name.")
    ] = "builtin/target",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    slots: Annotated[int | None, typer.Option(min=1, help="Sessions held at once.")] = None,
    kv_memory: Annotated[
        str | None, typer.Option(help="KV cache, such as 4GiB.", show_default="a share of what is free")
    ] = None,
    kv_tokens: Annotated[int | None, typer.Option(min=128, help="A bound of the KV cache in tokens.")] = None,
) -> None:
    """Serve TARGET: verify what devices draft, until interrupted."""
    share_cores()
    given = {"slots": slots, "kv_memory": kv_memory, "kv_tokens": kv_tokens}
    changed = {key: value for key, value in given.items() if value is not None}
    chosen = settings().model_copy(update=changed)
    asyncio.run(_serve(redis or chosen.redis_url, target, device, dtype, chosen))


async def _serve(url: str, target: str, device: str, dtype: str, chosen: Settings) -> None:
    try:
        from workers.verifier.assembly import assemble  # noqa: PLC0415 - needs torch
    except ModuleNotFoundError as error:
        msg = f"a verifier needs {error.name}, which is not installed; install dsdq[torch]"
        raise ConfigError(msg) from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with assemble(url, target, device, dtype, chosen) as worker:
        ready = asyncio.Event()
        serving = asyncio.create_task(worker.run(stop, ready))
        announced = asyncio.create_task(ready.wait())
        await asyncio.wait([serving, announced], return_when=asyncio.FIRST_COMPLETED)
        if ready.is_set():
            typer.echo(f"ready: {worker.info.wid} serves {worker.info.model} at {url}")
        announced.cancel()
        await serving
