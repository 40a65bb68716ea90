"""Put a verifier together: Redis, target, engine, offer, registry entry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from types import ModuleType

from redis.asyncio import Redis

from dsdq.bus import scripts
from dsdq.bus.acl import Version, check_tenancy
from dsdq.bus.connection import check_server, open_redis, server_version
from dsdq.bus.dead import Kept
from dsdq.bus.inbox import Bounds
from dsdq.bus.registry import WorkerInfo
from dsdq.bus.tenants import TenantStore
from dsdq.contract import MAX_WINDOW
from dsdq.errors import ConfigError
from dsdq.keys import fresh_name
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.batching import ORDERS, StepBudget, Tenure
from dsdq.policies.fairness import FairShare
from dsdq.policies.paging import BLOCK
from dsdq.receipts import Signer
from dsdq.settings import Settings
from dsdq.testing.hashed import CONTEXT_TOKENS, HASHED, Guesser
from dsdq.versions import SPOKEN
from workers.engine.colocated import ColocatedEngine, OwnDrafter
from workers.engine.hashed import HashEngine
from workers.engine.modelless import NGRAM, HashedDrafter, NgramDrafter
from workers.engine.planner import Planner
from workers.engine.protocol import RoundEngine
from workers.verifier.admission import Offer
from workers.verifier.engine_thread import EngineThread
from workers.verifier.figures import Figures
from workers.verifier.limits import Limits
from workers.verifier.service import Verifier
from workers.verifier.tenancy import Tenancy


@asynccontextmanager
async def assemble(
    url: str, target_name: str, device: str, dtype: str, chosen: Settings
) -> AsyncIterator[Callable[[], Verifier]]:
    """Yield what makes a verifier that is ready to run, each under a new id; their connection closes with the block.

    Raises:
        RedisUnavailableError: no server, or it is not ready.
        DeniedError: a server that is not fit for use, or that refuses what a verifier does.
        ConfigError: a package is missing for the target or the metrics, or their address is taken.
        ModelError: the target cannot be loaded or served.
        ParallelError: another rank of a tensor-parallel target ended.
    """
    thread, figures = EngineThread(), Figures()
    answering = exposed(figures, chosen)
    running = _running(thread, target_name, device, dtype, chosen)  # first: what is not installed is said at once
    redis = open_redis(url)
    try:
        with answering:
            await check_server(redis, allow_unsafe=chosen.allow_unsafe_redis)
            version = await server_version(redis)
            check_tenancy(version, chosen.tenants, allow_unsafe=chosen.allow_unsafe_redis)
            await scripts.load(redis)
            async with running:
                tokenizer = await asyncio.to_thread(Tokenizer.load, target_name)
                yield lambda: Verifier(
                    redis,
                    thread,
                    planner_of(thread.engine, chosen),
                    offer_of(thread.engine, tokenizer.fingerprint, chosen),
                    info_of(thread.engine, tokenizer.fingerprint, chosen),
                    tokenizer,
                    tenancy=tenancy_of(redis, version, chosen),
                    signer=None if chosen.service_key is None else Signer(chosen.service_key.get_secret_value()),
                    figures=figures,
                    limits=limits_of(chosen),
                    secret=int.from_bytes(blake2b(chosen.server_secret.encode(), digest_size=8).digest()),
                )
    finally:
        thread.stop()
        await redis.aclose()


def exposed(figures: Figures, chosen: Settings) -> AbstractContextManager[None]:
    """Return a block for the length of which the process answers ``/metrics`` and ``/health``, if it is to.

    Raises:
        ConfigError: prometheus_client is not installed.
    """
    if not chosen.metrics_port:
        return nullcontext()
    try:
        from workers.verifier import exposition  # noqa: PLC0415 - it needs what only this setting needs
    except ModuleNotFoundError as error:
        raise ConfigError(f"DSDQ_METRICS_PORT: expected {error.name} to be installed; install dsdq[metrics]") from error
    return exposition.exposed(figures, chosen.metrics_host, chosen.metrics_port)


def planner_of(engine: RoundEngine, chosen: Settings) -> Planner:
    """Return what decides on the engine's steps."""
    return Planner(
        engine.kv_blocks,
        StepBudget(chosen.step_tokens, chosen.prefill_tokens),
        fair=FairShare(
            within=ORDERS[chosen.step_order],
            prefill_tokens=chosen.prefill_tokens,
            credit_positions=chosen.step_tokens,  # who misses a step, as its devices draft, may catch up on it
        ),
        tenure=Tenure(chosen.kv_grace_ms / 1000, chosen.kv_patience_ms / 1000),
        shares=chosen.share_prefixes,
    )


def _running(
    thread: EngineThread, target_name: str, device: str, dtype: str, chosen: Settings
) -> AbstractAsyncContextManager[None]:
    """Return a block for the length of which the target's engine is on its thread, and drafts if it is to."""
    drafter = own_drafter(target_name, device, dtype, chosen) if chosen.colocated_draft else None
    if target_name == HASH_TARGET:
        running = _hash_running(thread, chosen)
    else:
        running = model().running(thread, target_name, device, dtype, chosen)
    return running if drafter is None else _drafting(thread, running, drafter)


@asynccontextmanager
async def _drafting(
    thread: EngineThread, running: AbstractAsyncContextManager[None], make: Callable[[], OwnDrafter]
) -> AsyncIterator[None]:
    drafter = await thread.run(make)  # before the target, whose KV cache takes what memory is left
    async with running:
        thread.engine = ColocatedEngine(thread.engine, drafter)
        yield


def own_drafter(target_name: str, device: str, dtype: str, chosen: Settings) -> Callable[[], OwnDrafter]:
    """Return what makes the drafter of ``DSDQ_COLOCATED_DRAFT``, to be called on the engine's thread.

    Raises:
        ConfigError: it does not go with the target, or a package is missing for it.
    """
    name = chosen.colocated_draft
    if name == NGRAM:
        return partial(NgramDrafter, chosen.colocated_kv_tokens)
    if name.startswith(HASHED):
        guesser = Guesser.named(name)
        return lambda: HashedDrafter(guesser)
    return partial(model().load_drafter, name, target_name, device, dtype, chosen)


@asynccontextmanager
async def _hash_running(thread: EngineThread, chosen: Settings) -> AsyncIterator[None]:
    tokens = chosen.kv_tokens or limits_of(chosen).slots * CONTEXT_TOKENS
    await thread.start(lambda: HashEngine(tokens // BLOCK, chosen.hash_step_ms, chosen.hash_position_ms))
    yield


def model() -> ModuleType:
    """Return :mod:`workers.verifier.model`, which needs torch and takes seconds to import.

    Raises:
        ConfigError: torch, or a package beside it, is not installed.
    """
    try:
        from workers.verifier import model as module  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        msg = f"a verifier needs {error.name}, which is not installed; install dsdq[torch]"
        raise ConfigError(msg) from error
    return module


def tenancy_of(redis: Redis, version: Version, chosen: Settings) -> Tenancy:
    """Return what knows the tenants."""
    return Tenancy(
        TenantStore(redis),
        named=chosen.tenants,
        secrets={tenant: secret.get_secret_value() for tenant, secret in chosen.tenant_secrets.items()},
        service_key=None if chosen.service_key is None else chosen.service_key.get_secret_value(),
        server=version,
        allow_unsafe=chosen.allow_unsafe_redis,
    )


def limits_of(chosen: Settings) -> Limits:
    """Return the verifier's bounds.

    An admitted session always finds room: places for all of its rounds are kept from the opens, and no fewer than half.
    """
    slots = max(1, min(chosen.slots, chosen.inbox_bound // (2 * chosen.session_rounds)))
    return Limits(
        slots=slots,
        place_wait_ms=chosen.place_wait_ms,
        inbox=Bounds(chosen.inbox_bound, slots * chosen.session_rounds, chosen.inbox_bytes),
        depth=chosen.session_rounds,
        step_tokens=chosen.step_tokens,
        lease_ms=chosen.lease_ms,
        quiet_ms=chosen.quiet_ms,
        idle_ttl_ms=chosen.idle_ttl_ms,
        closed_ttl_ms=chosen.closed_ttl_ms,
        feed_entries=chosen.feed_entries,
        dead_letters=Kept(chosen.dead_letters, chosen.dead_letters_bytes, chosen.dead_letters_ttl_ms),
    )


def offer_of(engine: RoundEngine, fingerprint: str, chosen: Settings) -> Offer:
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


def info_of(engine: RoundEngine, fingerprint: str, chosen: Settings) -> WorkerInfo:
    """Return the registry entry of a new incarnation."""
    target = engine.target
    return WorkerInfo(
        wid=fresh_name(),
        model=target.name,
        revision=target.revision,
        fingerprint=fingerprint,
        tokenizer=target.name,
        numerics=target.numerics,
        vocab_size=target.vocab_size,
        context_tokens=min(target.context_tokens, engine.kv_tokens),
        max_window=MAX_WINDOW,
        slots=limits_of(chosen).slots,
        versions=SPOKEN,
        drafts=engine.drafts,
    )
