"""A target that decodes alone, for comparisons with a draft: text, logits and times of the engine that serves."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import numpy as np

from dsdq.alignment.sides import Logits
from dsdq.contract import Contract
from dsdq.models.target import load_target
from dsdq.policies.batching import StepBudget
from dsdq.policies.paging import blocks_for
from workers.engine.engine import Engine
from workers.engine.judging import JudgingEngine
from workers.engine.memory import KvMemory
from workers.engine.offline import Offline
from workers.engine.planner import Planner
from workers.engine.rounds import Judged
from workers.engine.rows import Row

BUDGET = StepBudget(window_tokens=256, prefill_tokens=256)
TIMED_PASSES, WARM_UP = 30, 3


class LoneTarget:
    """See :class:`dsdq.alignment.sides.TargetSide`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def decode(self, contracts: Sequence[Contract], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Decode all prompts, as many at once as fit."""
        batch = Offline(self._engine, Planner(self._engine.kv_blocks, BUDGET), self._engine.target.eos_ids)
        made = [batch.add(contract, prompt) for contract, prompt in zip(contracts, prompts, strict=True)]
        batch.run()
        return [one.tokens for one in made]

    def logits(self, prompt: Sequence[int], generated: Sequence[int]) -> Logits:
        """Read the whole text in one pass."""
        text = [*prompt, *generated[:-1]]
        found: Logits = self._engine.forward([self._row(text, 0, len(generated))]).float().cpu().numpy()
        return np.array(found)  # the next forward may write over it

    def pass_ms(self, contract: Contract, text: Sequence[int], positions: int) -> float:
        """Verify the text's end again and again, behind what is in the cache already, and judge it."""
        start, judging = len(text) - positions, JudgingEngine(self._engine)
        self._engine.forward([self._row(text, 0, 1)])
        row = self._row(text, start, positions)
        drafted = tuple(text[start + 1 :])
        judged = Judged(contract, start + 1, drafted, None, len(drafted), tuple(text[: start + 1]), start + 1)
        times = []
        for _ in range(WARM_UP + TIMED_PASSES):
            began_s = perf_counter()
            judging.verify([row], [judged], 0)
            times.append(1000 * (perf_counter() - began_s))
        return median(times[WARM_UP:])

    @staticmethod
    def _row(text: Sequence[int], start: int, keep: int) -> Row:
        return Row("alone", start, list(text[start:]), keep, tuple(range(blocks_for(len(text)))))


def load(name: str, device: str, dtype: str, kv_tokens: int) -> LoneTarget:
    """Load a target with room for so many tokens in its cache.

    Raises:
        ModelError: it cannot be loaded or served.
    """
    return LoneTarget(Engine(load_target(name, device, dtype), KvMemory(tokens=kv_tokens)))
