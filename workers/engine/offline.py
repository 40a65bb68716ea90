"""Many prompts decoded in this process: planner, engine and judge as the verifier runs them, without Redis.

For benchmarks and tests of the engine, and for a program that has the target at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from dsdq.contract import Contract
from dsdq.errors import ModelError
from dsdq.session import settle
from workers.engine.engine import Engine
from workers.engine.judge import judge
from workers.engine.planner import Planner, Request
from workers.engine.rounds import Judged

Propose = Callable[[Sequence[int]], tuple[int, ...]]
"""From a text to the tokens that may follow it."""


def nothing(_: Sequence[int]) -> tuple[int, ...]:
    """Draft nothing: the target decodes alone."""
    return ()


@dataclass(slots=True)
class Generation:
    """One text that is being made: ``text`` begins with the prompt; ``finished`` once nothing follows."""

    contract: Contract
    text: list[int]
    prompt_tokens: int
    propose: Propose
    drafted: tuple[int, ...] = ()
    accepted: int = 0
    rounds: int = 0
    finished: bool = False

    @property
    def tokens(self) -> list[int]:
        """Return what was generated."""
        return self.text[self.prompt_tokens :]


@dataclass(slots=True)
class Offline:
    """A batch. ``eos_ids`` end a text whose contract does not ignore them."""

    engine: Engine
    planner: Planner
    eos_ids: Collection[int] = ()
    secret: int = 0
    steps: int = 0
    _generations: dict[str, Generation] = field(default_factory=dict)

    def add(self, contract: Contract, prompt: Sequence[int], propose: Propose = nothing) -> Generation:
        """Take in one prompt. Drafts go through the coupled rule: ``propose`` changes the speed, never the text.

        Raises:
            ModelError: it could never fit the model or the KV cache.
        """
        needed = len(prompt) + contract.max_tokens + contract.max_window
        room = min(self.engine.context_tokens, self.engine.kv_tokens)
        if not prompt or needed > room:
            msg = f"session {contract.session!r}: expected a prompt, and at most {room} tokens in all, got {needed}"
            raise ModelError(msg)
        self.planner.admit(contract.session, salt=contract.tenant)
        made = Generation(contract, list(prompt), len(prompt), propose)
        made.drafted = self._draft(made)
        self._generations[contract.session] = made
        return made

    def run(self) -> None:
        """Step until every text is finished."""
        while self._generations:
            self.step()

    def step(self) -> None:
        """Run one forward for as many texts as fit, and take in what it decided."""
        open_ = self._generations
        requests = [Request(name, one.text, one.drafted, float(one.rounds)) for name, one in open_.items()]
        rows = self.planner.plan(requests, now_s=float(self.steps))
        verified = [open_[row.session] for row in rows if row.keep]
        logits = self.engine.forward(rows)
        judgements = judge([_judged(one) for one in verified], logits, self.secret) if verified else []
        self.steps += 1
        for row in rows:
            if not row.keep:
                self.planner.computed(row.session, open_[row.session].text, row.end)
        for one, judgement in zip(verified, judgements, strict=True):
            self._take_in(one, judgement.acceptance.tokens, judgement.acceptance.accepted)

    def _take_in(self, one: Generation, tokens: Sequence[int], accepted: int) -> None:
        kept, reason = settle(one.contract, len(one.text) - one.prompt_tokens, tokens, self.eos_ids)
        one.text += kept
        one.accepted += min(accepted, len(kept))
        one.rounds += 1
        name = one.contract.session
        if reason is not None:
            one.finished = True
            del self._generations[name]
            self.planner.release(name)
            return
        self.planner.computed(name, one.text, len(one.text) - 1)
        one.drafted = self._draft(one)

    def _draft(self, one: Generation) -> tuple[int, ...]:
        left = one.contract.max_tokens - (len(one.text) - one.prompt_tokens) - 1
        return one.propose(one.text)[: max(0, min(left, one.contract.max_window))]


def _judged(one: Generation) -> Judged:
    contract, drafted = one.contract, one.drafted
    return Judged(contract, len(one.text), drafted, None, len(drafted), tuple(one.text), one.prompt_tokens)
