"""A primary is killed under a whole service: verifiers and devices follow the Sentinels, and texts go on."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import dsdq
from dsdq.models.names import HASH_TARGET
from dsdq.testing.hashed import decode
from dsdq.testing.killer import Killer
from dsdq.testing.servers import real_sentinels

DRAFTERS = ("hash:0.8:2", "none", "random")
VERIFIERS, TOKENS, LATEST_S = 2, 100, 90


async def test_every_text_is_finished_as_it_began_though_its_primary_is_killed(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(LATEST_S),
        real_sentinels(tmp_path) as watched,
        Killer(_command(watched.url)) as killer,
    ):
        await watched.replicated()
        for _ in range(VERIFIERS):
            assert await (await killer.start()).until_ready()
        async with dsdq.connect(watched.url) as client:
            texts = [_Text(client, number, draft) for number, draft in enumerate(DRAFTERS)]
            running = [asyncio.create_task(text.run()) for text in texts]
            for text in texts:
                await text.begun.wait()
            old = await watched.primary()
            await old.kill()
            assert not any(task.done() for task in running)
            await asyncio.gather(*running)
            assert await watched.primary() is not old
            later = _Text(client, len(texts), "none")
            await later.run()
        assert len(killer.running) == VERIFIERS  # no process has ended
    for text in [*texts, later]:
        assert text.ids == decode(text.prompt, TOKENS)


class _Text:
    """A text that a device asks for; it has ``begun`` when a few tokens of it are shown."""

    def __init__(self, client: dsdq.Client, number: int, draft: str) -> None:
        self.prompt = (number + 1, 2, 3)
        self.ids: list[int] = []
        self.begun = asyncio.Event()
        self._generation = client.generate(self.prompt, draft=draft, window=4, max_tokens=TOKENS, ignore_eos=True)

    async def run(self) -> None:
        async for token in self._generation:
            self.ids.append(token.id)
            if len(self.ids) >= 5:
                self.begun.set()


def _command(url: str) -> list[str | Path]:
    serve = ["verifier", "--redis", url, "--target", HASH_TARGET]
    return ["env", "DSDQ_HASH_STEP_MS=10", sys.executable, "-m", "dsdq", *serve]
