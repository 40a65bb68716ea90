"""The drafting loop: what is fed, what is taken back, and that drafts are what the target would choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsdq.contract import Contract, Rule, Sampling
from dsdq.models.tokenizer import Tokenizer
from producers.drafters import load_drafter
from producers.drafters.stepping import ModelDrafter, SteppingSession
from tests.producers.drafters.conftest import Until

CONTRACT = Contract("t", "p", "s", "m", "f")
TOKENIZER = Tokenizer.load("builtin/target")
VOCAB = 50


class Memory:
    """A stepper whose next token is a function of its whole text: the ids' sum modulo the vocabulary."""

    context_tokens = 40

    def __init__(self) -> None:
        self.text: list[int] = []
        self.fed = 0

    def feed(self, tokens: Sequence[int], start: int) -> np.ndarray:
        assert start <= len(self.text), "a hole in the cache"
        assert tokens, "nothing to feed"
        self.text[start:] = tokens
        self.fed += len(tokens)
        logits = np.zeros(VOCAB, dtype=np.float32)
        logits[next_of(self.text)] = 9
        return logits


def next_of(text: Sequence[int]) -> int:
    return sum(text) % VOCAB


def continuation(text: Sequence[int], count: int) -> tuple[int, ...]:
    whole = list(text)
    for _ in range(count):
        whole.append(next_of(whole))
    return tuple(whole[len(text) :])


class Remembering(ModelDrafter):
    """A drafter whose model is one memory."""

    def __init__(self, memory: Memory, eos_ids: Sequence[int]) -> None:
        super().__init__(Tokenizer.load("builtin/target"))
        self.vocabulary.eos_ids = tuple(eos_ids)
        self._memory = memory

    def stepper(self) -> Memory:
        return self._memory


def session(memory: Memory, eos_ids: Sequence[int] = (), contract: Contract = CONTRACT) -> SteppingSession:
    return SteppingSession(contract, Remembering(memory, eos_ids))


def test_a_window_is_the_models_own_continuation() -> None:
    assert session(Memory()).propose([3, 5, 9], 4).tokens == continuation([3, 5, 9], 4)


def test_after_a_rejection_the_draft_continues_what_was_committed_instead() -> None:
    memory = Memory()
    drafting = session(memory)
    drafted = drafting.propose([3, 5, 9], 4).tokens
    text = [3, 5, 9, *drafted[:2], 11]
    assert drafting.propose(text, 3).tokens == continuation(text, 3)
    assert memory.text == [*text, *continuation(text, 2)]


def test_after_full_acceptance_only_what_is_new_is_fed() -> None:
    memory = Memory()
    drafting = session(memory)
    text = [3, 5, 9]
    text += [*drafting.propose(text, 4).tokens, 7]  # the bonus token
    before = memory.fed
    assert drafting.propose(text, 2).tokens == continuation(text, 2)
    assert memory.fed - before == 2 + 1  # last draft and bonus token, then the first of the two new drafts


def test_a_round_that_is_asked_again_drafts_the_same() -> None:
    drafting = session(Memory())
    assert drafting.propose([1, 2], 5) == drafting.propose([1, 2], 5)


def test_nothing_is_drafted_without_a_window_or_beyond_the_models_context() -> None:
    assert session(Memory()).propose([1], 0).tokens == ()
    assert session(Memory()).propose([1] * 38, 9).tokens == continuation([1] * 38, 2)
    assert session(Memory()).propose([1] * 40, 9).tokens == ()


def test_drafting_ends_with_the_end_of_text_unless_it_is_ignored() -> None:
    text = [3, 5, 9]
    stop = continuation(text, 2)[1]
    assert session(Memory(), [stop]).propose(text, 6).tokens == continuation(text, 2)
    ignoring = replace(CONTRACT, ignore_eos=True)
    assert len(session(Memory(), [stop], ignoring).propose(text, 6).tokens) == 6
    stopping = replace(CONTRACT, stop_ids=(stop,), ignore_eos=True)
    assert session(Memory(), (), stopping).propose(text, 6).tokens == continuation(text, 2)


def test_after_each_token_but_the_last_a_draft_asks_whether_to_go_on() -> None:
    memory, go_on = Memory(), Until(9)
    assert session(memory).propose([3, 5, 9], 4, go_on).confidences == ()
    assert go_on.asked == [(1, None), (2, None), (3, None)]
    assert memory.text == [3, 5, 9, *continuation([3, 5, 9], 3)]


def test_a_draft_that_is_not_to_go_on_feeds_no_further_token_and_can_be_taken_up_again() -> None:
    memory = Memory()
    drafting = session(memory)
    assert drafting.propose([3, 5, 9], 4, Until(2)).tokens == continuation([3, 5, 9], 2)
    assert memory.fed == 3 + 1
    assert drafting.propose([3, 5, 9], 4).tokens == continuation([3, 5, 9], 4)


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_draft_comes_with_the_probability_of_each_token_for_who_uses_it(temperature: float, rule: Rule) -> None:
    terms = replace(CONTRACT, rule=rule, sampling=Sampling(temperature), trusted=True)
    go_on = Until(9, uses_confidence=True)
    proposal = session(Memory(), (), terms).propose([3, 5, 9], 3, go_on)
    text, wanted = [3, 5, 9], []
    for token in proposal.tokens:  # a memory's logits are 9 for its own next token and 0 for all others
        own, other = np.exp(9 / (temperature or 1)), 1.0
        wanted.append((own if token == next_of(text) else other) / (own + (VOCAB - 1) * other))
        text.append(token)
    assert proposal.confidences == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert go_on.asked == [(1, proposal.confidences[0]), (2, proposal.confidences[1])]


def test_under_the_rejection_rule_every_token_comes_with_the_law_it_was_drawn_from() -> None:
    terms = replace(CONTRACT, rule=Rule.REJECTION, sampling=Sampling(1.0), trusted=True)
    proposal = session(Memory(), (), terms).propose([3, 5], 4)
    assert proposal.law is not None
    assert len(proposal.law.ids) == len(proposal.tokens) == 4
    for token, ids, weights in zip(proposal.tokens, proposal.law.ids, proposal.law.weights, strict=True):
        assert weights[ids == token].sum() > 0


def test_penalties_count_what_was_generated_before_and_within_the_window_but_not_the_prompt() -> None:
    chosen = Sampling(frequency_penalty=2.0)

    class Flat(Memory):
        """Likes token 7 a little more than token 8, and no other."""

        def feed(self, tokens: Sequence[int], start: int) -> np.ndarray:
            logits = super().feed(tokens, start) * 0
            logits[7], logits[8] = 6, 5
            return logits

    drafting = session(Flat(), (), replace(CONTRACT, sampling=chosen))
    assert drafting.propose([7, 7], 4).tokens == (7, 8, 7, 8)
    assert drafting.propose([7, 7, 7, 7], 3).tokens == (8, 8, 7)


@pytest.mark.parametrize("chosen", [Sampling(), Sampling(0.8), Sampling(0.8, repetition_penalty=1.5)], ids=str)
def test_our_own_step_and_transformers_draft_alike(tiny: Callable[[str], Path], chosen: Sampling) -> None:
    name = str(tiny("llama"))
    terms = replace(CONTRACT, sampling=chosen, seed=5)
    own, theirs = (
        load_drafter(name).start(terms, TOKENIZER),
        load_drafter(f"transformers:{name}").start(terms, TOKENIZER),
    )
    text = [5, 9, 12]
    for correction in (7, 8, 9):
        drafted = own.propose(text, 6).tokens
        assert theirs.propose(text, 6).tokens == drafted
        text += [*drafted[:3], correction]
