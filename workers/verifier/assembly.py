"""Put a verifier together: Redis, target, engine, offer, registry entry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import cast

from ulid import ULID

from dsdq.bus import scripts
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.registry import WorkerInfo
from dsdq.contract import MAX_WINDOW
from dsdq.models.target import load_target
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.batching import ORDERS, StepBudget, Tenure
from dsdq.settings import Settings
from workers.engine import parallel
from workers.engine.engine import Engine
from workers.engine.forward import Options
from workers.engine.memory import KvMemory, parse_bytes
from workers.engine.planner import Planner
from workers.verifier.admission import Offer
from workers.verifier.engine_thread import EngineThread
from workers.verifier.service import Limits, Verifier


@asynccontextmanager
async def assemble(url: str, target_name: str, device: str, dtype: str, chosen: Settings) -> AsyncIterator[Verifier]:
    """Yield a verifier that is ready to run; its connection closes with the block.

    Raises:
        RedisUnavailableError: no server.
        DeniedError: a server that is not fit for use, or that refuses what a verifier does.
        ModelError: the target cannot be loaded or served.
        ParallelError: another rank of a tensor-parallel target ended.
    """
    redis, thread = open_redis(url), EngineThread()
    try:
        await check_server(redis, allow_unsafe=chosen.allow_unsafe_redis)
        await scripts.load(redis)
        async with _started(thread, target_name, device, dtype, chosen):
            tokenizer = await asyncio.to_thread(Tokenizer.load, target_name)
            yield Verifier(
                redis,
                thread,
                planner_of(thread.engine, chosen),
                offer_of(thread.engine, tokenizer.fingerprint, chosen),
                info_of(thread.engine, tokenizer.fingerprint, chosen),
                tokenizer,
                tenants=chosen.tenants,
                limits=limits_of(chosen),
                secret=int.from_bytes(blake2b(chosen.server_secret.encode(), digest_size=8).digest()),
            )
    finally:
        thread.stop()
        await redis.aclose()


def memory_of(chosen: Settings) -> KvMemory:
    """Return what bounds the KV cache; no more is ever of use than all sessions' whole contexts."""
    bytes_ = None if chosen.kv_memory is None else parse_bytes(chosen.kv_memory)
    return KvMemory(chosen.kv_tokens, bytes_, sessions=limits_of(chosen).slots)


def options_of(chosen: Settings) -> Options:
    """Return how forwards run on a GPU."""
    return Options(
        deterministic=chosen.deterministic,
        graphs=chosen.cuda_graphs,
        step_tokens=chosen.step_tokens + chosen.prefill_tokens,
    )


def planner_of(engine: Engine, chosen: Settings) -> Planner:
    """Return what decides on the engine's steps."""
    return Planner(
        engine.kv_blocks,
        StepBudget(chosen.step_tokens, chosen.prefill_tokens),
        order=ORDERS[chosen.step_order],
        tenure=Tenure(chosen.kv_grace_ms / 1000, chosen.kv_patience_ms / 1000),
        shares=chosen.share_prefixes,
    )


@asynccontextmanager
async def _started(
    thread: EngineThread, target_name: str, device: str, dtype: str, chosen: Settings
) -> AsyncIterator[None]:
    """Make the engine on its thread; under torchrun, as the leader of what all ranks make together."""
    if not parallel.launched():
        await thread.start(lambda: load_engine(target_name, device, dtype, chosen))
        yield
        return
    ranks = await thread.run(parallel.join, device, chosen.parallel_timeout_ms)
    engine = await thread.run(load_engine, target_name, device, dtype, chosen, ranks)
    leader = parallel.Leader(engine, ranks)
    await thread.start(lambda: cast("Engine", leader))
    try:
        yield
    finally:
        await thread.run(leader.stop)
    await thread.run(ranks.leave)


def follows() -> bool:
    """Say whether this process is a rank other than the first, which has to :func:`follow`."""
    return parallel.follows()


def follow(target_name: str, device: str, dtype: str, chosen: Settings) -> None:
    """Be one of the other ranks of a tensor-parallel target: load a share of it and follow rank 0 until it stops.

    Raises:
        ModelError: the target cannot be loaded or served.
        ParallelError: another rank ended, or this one no longer agrees with rank 0.
    """
    ranks = parallel.join(device, chosen.parallel_timeout_ms)
    engine = load_engine(target_name, device, dtype, chosen, ranks)
    parallel.follow(engine, ranks)
    ranks.leave()


def load_engine(
    target_name: str, device: str, dtype: str, chosen: Settings, ranks: parallel.Ranks | None = None
) -> Engine:
    """Load the target as the settings say, this rank's share of it where there are several, and make its engine."""
    target = load_target(
        target_name,
        device,
        dtype,
        quantization=chosen.quantization,
        device_map=chosen.device_map,
        ranks=1 if ranks is None else ranks.size,
    )
    if ranks is not None:
        ranks.meet()  # an engine tries its model, which takes all ranks
    engine = Engine(target, memory_of(chosen), options_of(chosen))
    if ranks is not None:  # each rank has as many blocks as the one with the least memory
        engine.resize(ranks.least(engine.kv_blocks))
    return engine


def limits_of(chosen: Settings) -> Limits:
    """Return the verifier's bounds. An admitted session always finds room: a place for each is kept from the opens."""
    return Limits(
        slots=min(chosen.slots, chosen.inbox_bound // 2),
        inbox_bound=chosen.inbox_bound,
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
        eos_ids=frozenset(target.eos_ids),
        context_tokens=target.context_tokens,
        kv_tokens=engine.kv_tokens,
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
