"""The hash model through Redis: its text, whoever drafts, with too little memory, and from a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dsdq
from dsdq.contract import Sampling
from dsdq.drafting import Drafter
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import VOCAB_SIZE, decode
from producers.drafters.recorded import RecordedDrafter
from tests.conftest import Serve

NEW_TOKENS = 40
STARTS_S = 60


async def generate(client: dsdq.Client, prompt: list[int], draft: str | Drafter, seed: int) -> list[int]:
    chosen = Sampling(temperature=seed % 2)
    generation = client.generate(prompt, draft=draft, sampling=chosen, max_tokens=NEW_TOKENS, window=5, seed=seed)
    ids = [token.id async for token in generation]
    assert ids == decode(prompt, NEW_TOKENS, chosen, seed), f"draft {draft}, seed {seed}"
    return ids


async def test_every_device_gets_its_text_while_memory_goes_from_one_to_another(serve: Serve, redis_url: str) -> None:
    prompts = [[(31 * number + place) % VOCAB_SIZE for place in range(100 + 5 * number)] for number in range(12)]
    drafts = (RecordedDrafter(0.8), "hash:0.3", "none", "random")
    async with (
        serve(HASH_TARGET, kv_tokens=512, kv_grace_ms=0, kv_patience_ms=0) as verifier,
        dsdq.connect(redis_url) as client,
    ):
        each = (generate(client, prompt, drafts[number % 4], number) for number, prompt in enumerate(prompts))
        await asyncio.gather(*each)
        assert verifier._stepper._planner.evictions > 0


async def test_a_perfect_draft_stands_whole(serve: Serve, redis_url: str) -> None:
    async with serve(HASH_TARGET), dsdq.connect(redis_url) as client:
        generation = client.generate([1, 2, 3], draft="hash:1.0", max_tokens=24, window=5)
        assert [token.id async for token in generation] == decode([1, 2, 3], 24)
    assert generation.stats.acceptance_rate == 1.0
    assert generation.stats.rounds == 4


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    python = (sys.executable, "-X", "importtime", "-m", "dsdq")
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(*python, *arguments, stdout=pipe, stderr=pipe)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_a_verifier_of_it_is_a_process_that_never_imports_torch(redis_url: str) -> None:
    async with process("verifier", "--target", HASH_TARGET, "--redis", redis_url) as verifier:
        assert verifier.stdout is not None
        assert verifier.stderr is not None
        saying = asyncio.create_task(verifier.stderr.read())
        async with asyncio.timeout(STARTS_S):
            assert (await verifier.stdout.readline()).startswith(b"ready: ")
            arguments = ("--draft", "ngram", "--max-tokens", "12", "--json")
            async with process("generate", "--redis", redis_url, *arguments, "def main():") as device:
                printed, _ = await device.communicate()
            verifier.terminate()
            imported = (await saying).decode()
    assert json.loads(printed)["ids"] == decode(Tokenizer.load(HASH_TARGET).encode("def main():"), 12)
    assert " workers.engine.hashed\n" in imported
    assert not {" torch\n", " transformers\n", " numba\n"} & set(imported.replace("|", "\n").splitlines(keepends=True))
