"""An engine and the judge behind it: what verifies rounds with a real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dsdq.contract import Contract, Sampling
from dsdq.models.target import Target
from workers.engine.engine import Engine
from workers.engine.judge import judge
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row


@dataclass(frozen=True, slots=True)
class JudgingEngine:
    """See :class:`workers.engine.protocol.RoundEngine`.

    The judge stands outside of ``engine``, in whose place there may be a leader of several ranks: all of them make the
    forward, only this process looks at its logits.
    """

    engine: Engine
    brief: ClassVar = False
    drafts: ClassVar = False

    def __post_init__(self) -> None:
        """Verify a greedy and a sampled round, so that the first session does not wait for what they compile."""
        for temperature in (0.0, 1.0):
            contract = Contract("", "", "warm-up", "", "", sampling=Sampling(temperature))
            self.verify([Row("warm-up", 0, (0, 0), 2, (0,))], [Judged(contract, 1, (0,), None, 1)], 0)

    @property
    def target(self) -> Target:
        """Return what it serves."""
        return self.engine.target

    @property
    def kv_blocks(self) -> int:
        """Return how many blocks the KV cache has."""
        return self.engine.kv_blocks

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens the KV cache can hold."""
        return self.engine.kv_tokens

    def verify(self, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        """Run one forward and return what came of each round; see the protocol."""
        logits = self.engine.forward(rows)
        return judge(rounds, logits, secret) if rounds else []
