"""The engine of a real model, made as the settings say: in this process alone, or as one of several ranks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from dsdq.errors import ConfigError
from dsdq.models.target import load_target
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.batching import StepBudget
from dsdq.settings import Settings
from workers.engine import launch, parallel
from workers.engine.drafting import ModelDrafter
from workers.engine.engine import Engine
from workers.engine.forward import Options
from workers.engine.judging import JudgingEngine
from workers.engine.llama_forward import LlamaForward, serves
from workers.engine.memory import KvMemory, parse_bytes
from workers.verifier.assembly import limits_of
from workers.verifier.engine_thread import EngineThread


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


@asynccontextmanager
async def running(
    thread: EngineThread, target_name: str, device: str, dtype: str, chosen: Settings
) -> AsyncIterator[None]:
    """Make the engine on its thread, for the block; under torchrun, as the leader of what all ranks make together.

    Raises:
        ModelError: the target cannot be loaded or served.
        ParallelError: another rank ended.
    """
    if not launch.launched():
        await thread.start(lambda: JudgingEngine(load_engine(target_name, device, dtype, chosen)))
        yield
        return
    ranks = await thread.run(parallel.join, device, chosen.parallel_timeout_ms)
    engine = await thread.run(load_engine, target_name, device, dtype, chosen, ranks)
    leader = parallel.Leader(engine, ranks)
    await thread.start(lambda: JudgingEngine(cast("Engine", leader)))
    try:
        yield
    finally:
        await thread.run(leader.stop)
    await thread.run(ranks.leave)


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


def load_drafter(name: str, target_name: str, device: str, dtype: str, chosen: Settings) -> ModelDrafter:
    """Load what the verifier drafts with itself, on the target's device and in its dtype.

    Raises:
        ModelError: it cannot be loaded or run.
        ConfigError: its tokenizer is not the target's.
    """
    fingerprints = [Tokenizer.load(one).fingerprint for one in (name, target_name)]
    if len({*fingerprints}) > 1:
        msg = (
            f"co-located draft {name!r}: expected the tokenizer of the target {target_name!r} (fingerprint "
            f"{fingerprints[1]}), got one with fingerprint {fingerprints[0]}; choose a draft of the same family"
        )
        raise ConfigError(msg)
    target = load_target(name, device, dtype)
    forward = LlamaForward(target) if serves(target) else None
    engine = Engine(target, KvMemory(chosen.colocated_kv_tokens), options_of(chosen), forward=forward)
    budget = StepBudget(chosen.step_tokens, chosen.prefill_tokens)
    return ModelDrafter(JudgingEngine(engine), budget, limits_of(chosen).slots)


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
