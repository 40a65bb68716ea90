"""``dsdq verifier``: serve a target model to devices."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from dsdq.bus.address import shown
from dsdq.settings import Settings, settings
from dsdq.threads import share_cores
from workers.engine.launch import follows
from workers.verifier import assembly
from workers.verifier.heap import pass_over_what_is_here
from workers.verifier.incarnations import serve

Redis = Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")]
Target = Annotated[str, typer.Option(help="The target model: a built-in name, a path or a hub name.")]
Slots = Annotated[int | None, typer.Option(min=1, help="Sessions held at once.")]
KvMemory = Annotated[str | None, typer.Option(help="KV cache, such as 4GiB.", show_default="a share of what is free")]
KvTokens = Annotated[int | None, typer.Option(min=128, help="A bound of the KV cache in tokens.")]
ColocatedDraft = Annotated[
    str | None,
    typer.Option(
        help="What it drafts with itself where devices ask it to (co-located): a model of the target's tokenizer, "
        "or ngram.",
        show_default="nothing",
    ),
]
Quantization = Annotated[
    str | None,
    typer.Option(
        help="Store weights in fewer bits: torchao-int8, bnb-8bit or bnb-4bit. A quantized model needs no flag.",
        show_default="none",
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        help="Spread whole layers over all GPUs of this process: auto, balanced or sequential.", show_default="none"
    ),
]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic/--fast",
        help="On cuda: the same text to the bit whoever else is served, slower. On cpu it is always so.",
        show_default="fast",
    ),
]
Graphs = Annotated[
    bool | None,
    typer.Option(
        "--graphs/--eager",
        help="On cuda: replay small forwards from CUDA graphs, which take memory. Nothing on cpu.",
        show_default="graphs",
    ),
]


def verifier(  # noqa: PLR0913, PLR0917 - the flags of a command
    redis: Redis = None,
    target: Target = "builtin/target",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    slots: Slots = None,
    kv_memory: KvMemory = None,
    kv_tokens: KvTokens = None,
    colocated_draft: ColocatedDraft = None,
    quantization: Quantization = None,
    device_map: DeviceMap = None,
    deterministic: Deterministic = None,
    cuda_graphs: Graphs = None,
) -> None:
    """Serve TARGET: verify what devices draft, until interrupted.

    Under `torchrun --nproc-per-node N -m dsdq verifier ...` N processes serve one target together (tensor parallel).
    """
    share_cores()
    flags = {
        "slots": slots,
        "kv_memory": kv_memory,
        "kv_tokens": kv_tokens,
        "colocated_draft": colocated_draft,
        "quantization": quantization,
        "device_map": device_map,
        "deterministic": deterministic,
        "cuda_graphs": cuda_graphs,
    }
    chosen = settings().model_copy(update={name: value for name, value in flags.items() if value is not None})
    if follows():
        # Rank 0 says when to end: it finishes what it has begun, and cannot without the others.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        assembly.model().follow(target, device, dtype, chosen)
    else:
        asyncio.run(_serve(redis or chosen.redis_url, target, device, dtype, chosen))


async def _serve(url: str, target: str, device: str, dtype: str, chosen: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with assembly.assemble(url, target, device, dtype, chosen) as make:
        place = shown(url)
        pass_over_what_is_here()
        await serve(make, stop, lambda one: typer.echo(f"ready: {one.info.wid} serves {one.info.model} at {place}"))
