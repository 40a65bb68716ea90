"""Put a verifier together: Redis, target, engine, offer, registry entry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b

from ulid import ULID

from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.registry import WorkerInfo
from dsdq.contract import MAX_WINDOW
from dsdq.models.target import load_target
from dsdq.models.tokenizer import Tokenizer
from dsdq.settings import Settings
from workers.engine.engine import Engine
from workers.verifier.admission import Offer
from workers.verifier.service import Limits, Verifier
from workers.verifier.sessions import EngineThread


@asynccontextmanager
async def assemble(url: str, target_name: str, device: str, dtype: str, chosen: Settings) -> AsyncIterator[Verifier]:
    """Yield a verifier that is ready to run; its connection closes with the block.

    Raises:
        RedisUnavailableError: no server, or one that is not fit for use.
        ModelError: the target cannot be loaded or served.
    """
    redis, thread = open_redis(url), EngineThread()
    try:
        await check_server(redis, allow_unsafe=chosen.allow_unsafe_redis)
        await thread.start(lambda: Engine(load_target(target_name, device=device, dtype=dtype), chosen.kv_tokens))
        tokenizer = await asyncio.to_thread(Tokenizer.load, target_name)
        yield Verifier(
            redis,
            thread,
            offer_of(thread.engine, tokenizer.fingerprint, chosen),
            info_of(thread.engine, tokenizer.fingerprint, chosen),
            tokenizer,
            tenants=chosen.tenants,
            limits=limits_of(chosen),
            eos_ids=thread.engine.target.eos_ids,
            secret=int.from_bytes(blake2b(chosen.server_secret.encode(), digest_size=8).digest()),
        )
    finally:
        thread.stop()
        await redis.aclose()


def limits_of(chosen: Settings) -> Limits:
    """Return the verifier's bounds. An admitted session always finds room: a place for each is kept from the opens."""
    return Limits(
        slots=min(chosen.slots, chosen.inbox_bound // 2),
        inbox_bound=chosen.inbox_bound,
        step_tokens=chosen.step_tokens,
        prefill_tokens=chosen.prefill_tokens,
        lease_ms=chosen.lease_ms,
        idle_ttl_ms=chosen.idle_ttl_ms,
        closed_ttl_ms=chosen.closed_ttl_ms,
        feed_entries=chosen.feed_entries,
    )


def offer_of(engine: Engine, fingerprint: str, chosen: Settings) -> Offer:
    """Return what admission compares contracts with."""
    target = engine.target
    return Offer(
        target=target.name,
        target_revision=target.revision,
        tokenizer_fingerprint=fingerprint,
        numerics=target.numerics,
        vocab_size=target.vocab_size,
        context_tokens=min(target.context_tokens, engine.kv_tokens),
        trusted_tenants=frozenset(chosen.trusted_tenants),
    )


def info_of(engine: Engine, fingerprint: str, chosen: Settings) -> WorkerInfo:
    """Return the registry entry of a new incarnation."""
    target = engine.target
    return WorkerInfo(
        wid=str(ULID()).lower(),
        model=target.name,
        revision=target.revision,
        fingerprint=fingerprint,
        tokenizer=target.name,
        numerics=target.numerics,
        vocab_size=target.vocab_size,
        context_tokens=min(target.context_tokens, engine.kv_tokens),
        max_window=MAX_WINDOW,
        slots=limits_of(chosen).slots,
    )
