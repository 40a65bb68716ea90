"""A verifier that has served some hundred sessions holds what it held before: nothing grows with what has ended."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import dsdq
from dsdq.bus.clients import MADE_AT_ONCE
from dsdq.models.names import HASH_TARGET
from dsdq.policies.paging import BLOCK
from tests.conftest import Serve
from workers.verifier.service import Verifier

TOGETHER, SLOTS, BLOCKS = 8, 4, 16
FIRST, MORE = 60, 180
OURS = ("dsdq", "workers", "asyncio")


def sizes(root: Any) -> dict[str, int]:
    """Return the sizes of the containers that an object of ours reaches through attributes, by how each is reached."""
    found, seen, ahead = dict[str, int](), set[int](), [(root, type(root).__name__)]
    while ahead:
        one, path = ahead.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict | set | list | deque | bytearray):
            found[path] = len(one)
        elif type(one).__module__.split(".")[0] in OURS and not isinstance(one, asyncio.AbstractEventLoop):
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            names = [*getattr(one, "__dict__", ()), *slots]
            ahead += [(getattr(one, name, None), f"{path}.{name}") for name in names if name != "_loop"]
    return found


async def serve_texts(url: str, count: int) -> None:
    """Let sessions begin and end: most finish, some are cancelled on the way."""
    async with dsdq.connect(url) as client:

        async def device(first: int) -> None:
            for number in range(first, count, TOGETHER):
                generation = client.generate([number, 2, 3], draft="hash:0.5", max_tokens=70, ignore_eos=True)
                async for _ in generation:
                    if number % 10 == 0:
                        await generation.aclose()
                        break

        await asyncio.gather(*map(device, range(TOGETHER)))


async def idle(verifier: Verifier) -> dict[str, int]:
    """Wait until nothing is open and nothing waits, and return the sizes of all that is held."""
    async with asyncio.timeout(30):
        while len(verifier._sessions) or await verifier._inbox.holds_any():
            await asyncio.sleep(0.01)
    return sizes(verifier)


def bound(path: str) -> int:
    """Return how far a container may grow: by the cache, or by the commands that were on their way at once."""
    if ".paging." in path:  # what is kept of ended texts, for others that begin alike
        return BLOCKS
    return MADE_AT_ONCE if ".connection_pool." in path else 0


async def test_no_container_grows_with_the_sessions_that_have_ended(serve: Serve, redis_url: str) -> None:
    async with serve(HASH_TARGET, slots=SLOTS, kv_tokens=BLOCKS * BLOCK, allow_unsafe_redis=True) as verifier:
        await serve_texts(redis_url, FIRST)
        before = await idle(verifier)
        await serve_texts(redis_url, MORE)
        after = await idle(verifier)
    bounds = {path: max(before.get(path, 0), bound(path)) for path in after}
    assert {path: (bounds[path], size) for path, size in after.items() if size > bounds[path]} == {}
    assert any(size for path, size in after.items() if path.endswith(".paging._block_of"))
