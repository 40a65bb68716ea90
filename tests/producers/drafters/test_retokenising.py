"""A draft model with another tokenizer: its text becomes the target's tokens, and little of it is lost on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.retokenising import RetokenisingDrafter, RetokenisingSession
from producers.drafters.stepping import ModelDrafter, SteppingSession
from tests.producers.drafters.conftest import Until

CONTRACT = Contract("t", "p", "s", "m", "f")
NAMES = ("large", "small", "spaces")
TEXT = Path(__file__).read_text()[:3000] + "Zwölf Boxkämpfer jagen Viktor. 素早い茶色の狐 🦊🦊  \n\n\t\tok = [1,  22]\n"
WINDOW = 8


class ByHeart:
    """A stepper that knows a text, and how it is encoded as a whole; behind any other ids it says nonsense."""

    context_tokens = 10_000

    def __init__(self, vocabulary: Tokenizer, text: str) -> None:
        self._ids = [*vocabulary.encode(text), *vocabulary.eos_ids]
        self._size = len(vocabulary.spellings)
        self.read: list[int] = []
        self.fed = 0

    def feed(self, tokens: Sequence[int], start: int) -> np.ndarray:
        assert start <= len(self.read), "a hole in the cache"
        assert tokens, "nothing to feed"
        self.read[start:] = tokens
        self.fed += len(tokens)
        logits = np.zeros(self._size, dtype=np.float32)
        knows = self._ids[: len(self.read)] == self.read and len(self.read) < len(self._ids)
        logits[self._ids[len(self.read)] if knows else 40] = 99
        return logits


class Reciting(ModelDrafter):
    """Drafts a text that it knows."""

    def __init__(self, vocabulary: Tokenizer, text: str = TEXT) -> None:
        super().__init__(vocabulary)
        self.made = ByHeart(vocabulary, text)

    def stepper(self) -> ByHeart:
        return self.made


def session(model: ModelDrafter, target: Tokenizer, contract: Contract = CONTRACT) -> RetokenisingSession:
    started = RetokenisingDrafter(model).start(contract, target)
    assert isinstance(started, RetokenisingSession)
    return started


def rounds(drafting: RetokenisingSession, ids: Sequence[int], length: int) -> int:
    """Return how many rounds it takes until ``ids`` are committed from ``length`` on, as a verifier would commit."""
    count = 0
    while length < len(ids):
        proposed = drafting.propose(ids[:length], WINDOW).tokens
        assert len(proposed) <= WINDOW
        rest = ids[length : length + len(proposed)]
        agree = next((i for i, (a, b) in enumerate(zip(proposed, rest, strict=False)) if a != b), len(rest))
        length, count = length + agree + 1, count + 1
    return count


@pytest.mark.parametrize("chosen", [Sampling(), Sampling(0.8, top_k=40)], ids=["greedy", "sampled"])
@pytest.mark.parametrize(("target", "own"), [*permutations(NAMES, 2)])
def test_of_a_text_that_the_model_knows_little_is_rejected(
    vocabularies: Mapping[str, Tokenizer], target: str, own: str, chosen: Sampling
) -> None:
    model, ids = Reciting(vocabularies[own]), vocabularies[target].encode(TEXT)
    drafting = session(model, vocabularies[target], replace(CONTRACT, sampling=chosen))
    needed = rounds(drafting, ids, 20)
    assert (len(ids) - 20) / needed > 0.55 * (WINDOW + 1)
    assert model.made.fed < 4 * len(model.made.read), "more than the changed end was fed again"


def test_a_word_that_was_committed_in_part_is_gone_on_with(vocabularies: Mapping[str, Tokenizer]) -> None:
    target, own = vocabularies["small"], vocabularies["large"]
    text = "def f(x):\n    return x\n"
    committed = target.encode("def f(x):\n    re")
    assert len(own.encode(" return")) == 1, "the model knows the word as one token only"
    proposed = session(Reciting(own, text), target).propose(committed, 3).tokens
    assert target.decode([*committed, *proposed]).startswith("def f(x):\n    retu")


def test_a_character_that_was_committed_in_part_is_gone_on_with(vocabularies: Mapping[str, Tokenizer]) -> None:
    target, own = vocabularies["large"], vocabularies["spaces"]
    ids = target.encode("x = 🦊🦊 ok")
    cut = len(target.encode("x = 🦊")) + 2
    drafting = session(Reciting(own, "x = 🦊🦊 ok"), target)
    assert drafting.propose(ids[:cut], 2).tokens == tuple(ids[cut : cut + 2])


def test_a_last_token_that_more_text_could_change_is_left_out(vocabularies: Mapping[str, Tokenizer]) -> None:
    target, own = vocabularies["large"], vocabularies["small"]
    ids, written = target.encode(TEXT), own.encode(TEXT)
    model = Reciting(own)
    for length in range(20, 200, 9):
        proposed = session(model, target).propose(ids[:length], WINDOW).tokens
        assert len(proposed) == WINDOW
        read = target.encode(own.decode(written[: len(model.made.read)]))
        assert len(read) >= length + WINDOW, "a token was drafted that the model has not finished"


def test_drafting_ends_with_the_end_of_the_text(vocabularies: Mapping[str, Tokenizer]) -> None:
    target, own = vocabularies["large"], vocabularies["small"]
    text = "for name in names:\n    print(name)"
    ids = [*target.encode(text), *target.eos_ids]
    assert session(Reciting(own, text), target).propose(ids[:2], 64).tokens == tuple(ids[2:])
    space = target.encode(" ")[0]
    stopping = session(Reciting(own, "a  b c"), target, replace(CONTRACT, stop_ids=(space,)))
    assert stopping.propose(target.encode("a"), 64).tokens == (space,)


def test_nothing_is_drafted_without_a_window_or_beyond_the_models_context(
    vocabularies: Mapping[str, Tokenizer],
) -> None:
    target, model = vocabularies["large"], Reciting(vocabularies["small"])
    ids = target.encode(TEXT)
    assert session(model, target).propose(ids[:20], 0).tokens == ()
    model.made.context_tokens = 20
    assert session(model, target).propose(ids[:200], 4).tokens == ()


def test_a_draft_ends_where_it_is_told_to_and_can_be_taken_up_again(vocabularies: Mapping[str, Tokenizer]) -> None:
    target, model = vocabularies["large"], Reciting(vocabularies["small"])
    ids, go_on = target.encode(TEXT), Until(2)
    drafting = session(model, target)
    assert drafting.propose(ids[:20], WINDOW, go_on).tokens == tuple(ids[20:22])
    assert [length for length, _ in go_on.asked][-1] == 2
    assert {confidence for _, confidence in go_on.asked} == {None}
    assert drafting.propose(ids[:20], WINDOW).tokens == tuple(ids[20 : 20 + WINDOW])


def test_a_bias_speaks_of_the_targets_ids(vocabularies: Mapping[str, Tokenizer]) -> None:
    target, own = vocabularies["large"], vocabularies["small"]
    wanted = target.encode("!")[0]
    terms = replace(CONTRACT, sampling=Sampling(logit_bias=((wanted, 100.0),)))
    assert set(session(Reciting(own), target, terms).propose(target.encode(TEXT)[:20], 3).tokens) <= {
        wanted, *target.encode("!!"), *target.encode("!!!"), *target.encode("!!!!"),
    }  # fmt: skip


def test_under_the_rejection_rule_it_is_refused(vocabularies: Mapping[str, Tokenizer]) -> None:
    terms = replace(CONTRACT, rule=Rule.REJECTION, sampling=Sampling(1.0), trusted=True)
    with pytest.raises(ConfigError, match="coupled"):
        RetokenisingDrafter(Reciting(vocabularies["small"])).start(terms, vocabularies["large"])


def test_a_model_with_the_targets_tokenizer_drafts_its_ids_as_they_are(vocabularies: Mapping[str, Tokenizer]) -> None:
    drafter = RetokenisingDrafter(Reciting(vocabularies["large"]))
    assert isinstance(drafter.start(CONTRACT, vocabularies["large"]), SteppingSession)
