"""The engine of the hash model (:mod:`dsdq.testing.hashed`): the pages of a real one, no arithmetic, no torch.

Its KV cache keeps the tokens themselves. What is judged is read back from there through a row's blocks, so a block of
another session, a rejected draft that was not overwritten, or a text that was not computed again after an eviction
shows as another text.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dsdq.accept import coupled
from dsdq.models.names import HASH_TARGET
from dsdq.policies.paging import BLOCK, blocks_for
from dsdq.testing.hashed import CONTEXT_TOKENS, VOCAB_SIZE, HashedText
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row, check

_NEVER_WRITTEN = -1


@dataclass(frozen=True, slots=True)
class HashTarget:
    """See :class:`workers.engine.protocol.TargetFacts`."""

    name: str = HASH_TARGET
    revision: str = "1"
    numerics: str = "hash"
    vocab_size: int = VOCAB_SIZE
    eos_ids: tuple[int, ...] = ()
    context_tokens: int = CONTEXT_TOKENS


class HashEngine:
    """See :class:`workers.engine.protocol.RoundEngine`.

    A pass over n positions takes at least ``step_ms + n·position_ms``.
    """

    drafts: ClassVar = False

    def __init__(self, kv_blocks: int, step_ms: float = 0.0, position_ms: float = 0.0) -> None:
        self.target = HashTarget()
        self.kv_blocks = kv_blocks
        self.brief = not (step_ms or position_ms)
        self._step_s, self._position_s = step_ms / 1000, position_ms / 1000
        self._pool = array("q", [_NEVER_WRITTEN]) * (kv_blocks * BLOCK)

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens the KV cache can hold."""
        return self.kv_blocks * BLOCK

    def verify(self, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        """Write all rows, then judge each round by what the pages hold of its text; see the protocol."""
        del secret  # both acceptance rules come to the same where all probability is on one token
        started_s = time.monotonic()
        check(rows, vocab_size=VOCAB_SIZE, context_tokens=CONTEXT_TOKENS, kv_blocks=self.kv_blocks)
        for row in rows:
            self._write(row)
        verified = [row for row in rows if row.keep]
        judgements = [self._judge(row, one) for row, one in zip(verified, rounds, strict=True)]
        if not self.brief:
            due_s = started_s + self._step_s + self._position_s * sum(len(row.tokens) for row in rows)
            time.sleep(max(0.0, due_s - time.monotonic()))
        return judgements

    def _write(self, row: Row) -> None:
        for position, token in enumerate(row.tokens, row.start):
            self._pool[row.blocks[position // BLOCK] * BLOCK + position % BLOCK] = token

    def _read(self, row: Row) -> array[int]:
        """Return the row's text from its first token on, as the pages hold it."""
        text = array("q")
        for block in row.blocks[: blocks_for(row.end)]:
            text += self._pool[block * BLOCK : (block + 1) * BLOCK]
        return text[: row.end]

    def _judge(self, row: Row, one: Judged) -> Judgement:
        terms, tokens, kept = one.contract, self._read(row), row.end - row.keep
        text = HashedText(terms.sampling, terms.seed, terms.choice)
        text.extend(tokens[:kept])
        chosen = []
        for token in tokens[kept:]:
            text.extend((token,))
            chosen.append(text.next())
        return Judgement(coupled(one.drafted, chosen))
