"""What somebody sees who waits for a batch."""

from __future__ import annotations

import asyncio
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dsdq.batches import Batch
from dsdq.bus.batches import BatchStore

LOOK_S = 0.5


async def follow(batches: BatchStore, tenant: str, batch_id: str, console: Console) -> Batch:
    """Show how far a batch is until it has ended; return it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    began_s = monotonic()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("validating", total=None, figures="")
        before: int | None = None
        while True:
            batch = await batches.get(tenant, batch_id)
            tokens = batch.sums["completion_tokens"]
            before = tokens if before is None else before
            figures = figures_of(batch, tokens - before, monotonic() - began_s)
            progress.update(
                bar, description=str(batch.status), total=batch.total or None, completed=batch.done, figures=figures
            )
            if batch.status.ended:
                return batch
            await asyncio.sleep(LOOK_S)


def figures_of(batch: Batch, tokens: int, seconds: float) -> str:
    """Return tokens per second since somebody began to look, and how many of the drafts stood."""
    parts = [f"{tokens / seconds:.0f} tokens/s"] if tokens and seconds > 0 else []
    if batch.acceptance_rate is not None:
        parts.append(f"{batch.acceptance_rate:.0%} of drafts stood")
    return ", ".join(parts)
