"""Drafts of a model for all sessions of a step together: one pass for each place of the window.

The draft model has an engine of its own, with a small KV cache. A draft token is what the draft would say if it were
the target: drawn by the same judge with the contract's noise, penalties and biases, so that the target agrees as often
as it can.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import ClassVar

from dsdq.policies.batching import StepBudget, Tenure
from workers.engine.colocated import Drafts, Wish
from workers.engine.planner import Planner, Request
from workers.engine.protocol import RoundEngine
from workers.engine.rounds import Judged
from workers.engine.rows import Row

_TENURE = Tenure(grace_s=0.0, patience_s=math.inf)
"""Whoever is not drafted for in a step gives way to who is. Nobody waits for room: it goes without a draft."""


@dataclass(slots=True)
class _Fed:
    """What the KV cache has of a session: a text of ``committed`` tokens, and drafts behind it."""

    tokens: list[int]
    committed: int


@dataclass(slots=True)
class _Growing:
    """A draft that is being made."""

    wish: Wish
    window: int
    blocks: Sequence[int]
    tokens: list[int] = field(default_factory=list)

    @property
    def judged(self) -> Judged:
        """Return the next token as the judge sees it: one of a target that decodes alone."""
        wish, length = self.wish, len(self.wish.text) + len(self.tokens)
        contract = replace(wish.contract, logprobs=0) if wish.contract.logprobs else wish.contract
        text = (*wish.text, *self.tokens) if contract.sampling.adjusts else ()
        return Judged(contract, length, (), None, 0, text, min(wish.prompt_tokens, len(text)))

    @property
    def row(self) -> Row:
        """Return what feeds the newest token."""
        start = len(self.wish.text) + len(self.tokens) - 1
        return Row(self.wish.session, start, self.tokens[-1:], 1, self.blocks)

    def ended(self, eos_ids: Collection[int]) -> bool:
        """Say whether nothing is to be drafted behind the newest token."""
        last, contract = self.tokens[-1], self.wish.contract
        ends = last in contract.stop_ids or (last in eos_ids and not contract.ignore_eos)
        return ends or len(self.tokens) >= self.window


class ModelDrafter:
    """See :class:`workers.engine.colocated.OwnDrafter`.

    ``engine`` runs the draft model and belongs to this; texts of up to ``sessions`` sessions stay in its cache. Of long
    texts ``budget`` feeds a piece at a time; until a session's is fed, nothing is drafted for it.
    """

    brief: ClassVar = False

    def __init__(self, engine: RoundEngine, budget: StepBudget, sessions: int) -> None:
        self._engine = engine
        self._planner = Planner(engine.kv_blocks, budget, tenure=_TENURE)
        self._sessions = sessions
        self._fed: OrderedDict[str, _Fed] = OrderedDict()  # longest unused first

    def draft(self, wishes: Sequence[Wish]) -> Drafts:
        """Return the drafts of all wishes; see the protocol."""
        windows = {wish.session: self._window(wish) for wish in wishes}
        asked = {wish.session: wish for wish in wishes if windows[wish.session] > 0}
        for wish in asked.values():
            self._follow(wish)
        self._forget(most=max(self._sessions, len(asked)))
        requests = [Request(name, wish.text, (0,) * (windows[name] - 1), 0.0) for name, wish in asked.items()]
        rows = self._planner.plan(requests, monotonic())
        made = {row.session: _Growing(asked[row.session], windows[row.session], row.blocks) for row in rows if row.keep}
        positions = self._grow([_first(row, asked[row.session]) for row in rows], list(made.values()))
        self._note(asked.values(), rows, made)
        return Drafts([made[wish.session].tokens if wish.session in made else () for wish in wishes], positions)

    def _grow(self, rows: Sequence[Row], growing: Sequence[_Growing]) -> int:
        """Feed the texts and pick their next tokens, then feed and pick one token of each at a time.

        Returns:
            how many positions were fed.
        """
        positions = 0
        while rows:
            positions += sum(len(row.tokens) for row in rows)
            judgements = self._engine.verify(rows, [one.judged for one in growing], 0)
            for one, judgement in zip(growing, judgements, strict=True):
                one.tokens += judgement.acceptance.tokens
            eos_ids = self._engine.target.eos_ids
            growing = [one for one in growing if not one.ended(eos_ids)]
            rows = [one.row for one in growing]
        return positions

    def _window(self, wish: Wish) -> int:
        """Return how many tokens may be drafted within the draft model's context."""
        return min(wish.window, self._engine.target.context_tokens - len(wish.text))

    def _follow(self, wish: Wish) -> None:
        """Roll a session's cache back to what it has of the text; begin anew with another text."""
        name, text = wish.session, wish.text
        fed = self._fed.get(name)
        common = 0 if fed is None else _common(fed.tokens, text)
        if fed is None or common < fed.committed:
            self._planner.release(name)
            self._planner.admit(name, salt=wish.contract.tenant)
            fed = self._fed[name] = _Fed([], 0)
        elif self._planner.paging[name].blocks:
            # Only what is committed is published to others: a session writes over its drafts.
            self._planner.computed(name, text, min(common, len(text) - 1))
        self._fed.move_to_end(name)

    def _note(self, wishes: Iterable[Wish], rows: Sequence[Row], made: Mapping[str, _Growing]) -> None:
        """Keep in mind what the cache has now; the last token of a draft was not fed."""
        ends = {row.session: row.end for row in rows}
        for wish in wishes:
            name, text = wish.session, wish.text
            end = min(ends.get(name, self._planner.paging[name].cached), len(text))
            drafted = made[name].tokens[:-1] if name in made else []
            self._fed[name] = _Fed([*text[:end], *drafted], end)

    def _forget(self, most: int) -> None:
        while len(self._fed) > most:
            name, _ = self._fed.popitem(last=False)
            self._planner.release(name)


def _first(row: Row, wish: Wish) -> Row:
    """Return a row without the places that were kept for the draft, its last token judged."""
    return replace(row, tokens=row.tokens[: len(wish.text) - row.start], keep=1) if row.keep else row


def _common(fed: Sequence[int], text: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    most = min(len(fed), len(text))
    if list(fed[:most]) == list(text[:most]):
        return most
    return next(place for place in range(most) if fed[place] != text[place])
