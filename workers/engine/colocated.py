"""An engine that drafts too (co-located): before a pass, rows that may be drafted for get drafts of the verifier's own.

It stands in the engine's place. Who steps it says of each round how many tokens it may draft, and keeps places for them
in the row; the drafter fills as many as it can. Drafts change the speed, never the text, so a drafter that fails costs
no session anything: from then on nothing is drafted. Free of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from time import perf_counter
from typing import Protocol

from dsdq.contract import Contract
from dsdq.telemetry.logs import get_logger
from workers.engine.protocol import RoundEngine, TargetFacts
from workers.engine.rounds import Drafting, Judged, Judgement
from workers.engine.rows import Row

log = get_logger("verifier")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be drafted for one session: up to ``window`` tokens behind ``text``."""

    session: str
    contract: Contract
    text: Sequence[int]
    prompt_tokens: int
    window: int


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts in the order of their wishes, each of at most its window; none where there is no draft.

    For them ``positions`` were fed, the texts that were not yet included.
    """

    tokens: Sequence[Sequence[int]]
    positions: int


class OwnDrafter(Protocol):
    """Drafts for many sessions of a step together. What it keeps of them is a cache, and bounded."""

    @property
    def brief(self) -> bool:
        """Say whether it is done sooner than another thread could begin."""
        ...

    def draft(self, wishes: Sequence[Wish]) -> Drafts:
        """Return the drafts of all wishes."""
        ...


class ColocatedEngine:
    """See :class:`workers.engine.protocol.RoundEngine`."""

    def __init__(self, engine: RoundEngine, drafter: OwnDrafter) -> None:
        self._engine = engine
        self._drafter: OwnDrafter | None = drafter

    @property
    def target(self) -> TargetFacts:
        """Return what it serves."""
        return self._engine.target

    @property
    def kv_blocks(self) -> int:
        """Return how many blocks the KV cache has."""
        return self._engine.kv_blocks

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens the KV cache can hold."""
        return self._engine.kv_tokens

    @property
    def brief(self) -> bool:
        """Say whether a pass and what is drafted for it are over sooner than another thread could begin them."""
        return self._engine.brief and (self._drafter is None or self._drafter.brief)

    @property
    def drafts(self) -> bool:
        """Say whether it drafts: until its drafter fails."""
        return self._drafter is not None

    def verify(self, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        """Draft what is wanted, then feed all rows in one pass; see the protocol."""
        verified = [row for row in rows if row.keep]
        wishes = {row.session: _wish(row, one) for row, one in zip(verified, rounds, strict=True) if one.wanted}
        if not wishes:
            return self._engine.verify(rows, rounds, secret)
        began_s = perf_counter()
        made = self._draft([*wishes.values()])
        drafting = Drafting(1000 * (perf_counter() - began_s), made.positions)
        drafts = dict(zip(wishes, self._usable(made), strict=True))
        rows = [
            _filled(row, wishes[row.session], drafts[row.session]) if row.session in wishes else row for row in rows
        ]
        rounds = [_drafted(one, drafts.get(row.session)) for row, one in zip(verified, rounds, strict=True)]
        judgements = self._engine.verify(rows, rounds, secret)
        return [
            replace(judgement, drafted=one.fed if one.wanted else None, drafting=drafting)
            for one, judgement in zip(rounds, judgements, strict=True)
        ]

    def _draft(self, wishes: Sequence[Wish]) -> Drafts:
        nothing = Drafts([() for _ in wishes], 0)
        if self._drafter is None:
            return nothing
        try:
            return self._drafter.draft(wishes)
        except Exception:
            log.exception("drafting failed; the target decodes alone from now on")
            self._drafter = None
            return nothing

    def _usable(self, drafts: Drafts) -> list[tuple[int, ...]]:
        """Return what the target can be fed of drafts."""
        vocab_size = self.target.vocab_size
        return [tuple(takewhile(lambda token: token < vocab_size, draft)) for draft in drafts.tokens]


def _wish(row: Row, one: Judged) -> Wish:
    return Wish(row.session, one.contract, one.text, one.prompt_tokens, one.wanted)


def _drafted(one: Judged, draft: tuple[int, ...] | None) -> Judged:
    return one if draft is None else replace(one, drafted=draft, fed=len(draft))


def _filled(row: Row, wish: Wish, draft: tuple[int, ...]) -> Row:
    """Return a row with a draft instead of the places that were kept for it."""
    tokens = (*row.tokens[: len(row.tokens) - wish.window], *draft)
    return replace(row, tokens=tokens, keep=len(draft) + 1)
