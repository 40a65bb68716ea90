"""``dsdq gateway`` as a process: what it says, and that it finishes what it has begun when it is told to stop."""

from __future__ import annotations

import signal
import sys
from typing import Any

from dsdq.models.names import HASH_TARGET
from dsdq.processes import spawn
from dsdq.testing.hashed import decode
from tests.conftest import Serve
from tests.producers.gateway.conftest import asking_at
from tests.producers.gateway.test_texts import TOKENIZER

TOKENS = 300


async def test_told_to_stop_it_finishes_what_it_has_begun(serve: Serve, redis_url: str) -> None:
    command = [sys.executable, "-m", "dsdq", "gateway", "--redis", redis_url, "--port", "0", "--draft", "ngram"]
    async with serve(HASH_TARGET, hash_step_ms=5):
        gateway = await spawn(["env", "DSDQ_ALLOW_UNSAFE_REDIS=1", *command], stdout=True)
        try:
            ready = await gateway.read_line()
            url = ready.split()[1]
            async with asking_at(url) as client:
                asked: dict[str, Any] = {"model": HASH_TARGET, "prompt": [1, 2, 3], "max_tokens": TOKENS}
                stream = await client.completions.create(stream=True, temperature=0, **asked)
                text = (await anext(aiter(stream))).choices[0].text
                gateway.send_signal(signal.SIGTERM)
                async for chunk in stream:
                    text += chunk.choices[0].text
            code = await gateway.wait()
        finally:
            await gateway.stop()
    assert ready.startswith("ready: http://127.0.0.1:")
    assert text == TOKENIZER.decode(decode([1, 2, 3], TOKENS))
    assert code == 0
