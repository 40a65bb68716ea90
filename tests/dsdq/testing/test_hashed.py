"""The hash model: a text that everybody can know, and that depends on all of its tokens."""

from __future__ import annotations

import pytest

from dsdq.contract import Sampling
from dsdq.errors import ModelError
from dsdq.models.names import HASH_TARGET, resolve
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import VOCAB_SIZE, HashedText, decode

PROMPT = list(range(100, 120))
DRAWN = Sampling(temperature=1.0)


def test_the_text_never_changes_from_one_version_to_the_next() -> None:
    assert decode([1, 2, 3], 4) == [631, 1546, 611, 466]
    assert decode([1, 2, 3], 4, DRAWN, seed=7, choice=1) == [588, 1079, 816, 571]


def test_a_text_continued_in_two_parts_is_the_text_continued_at_once() -> None:
    whole = decode(PROMPT, 30)
    assert decode(PROMPT + whole[:11], 19) == whole[11:]


@pytest.mark.parametrize("place", range(len(PROMPT)))
def test_one_other_token_anywhere_gives_another_text(place: int) -> None:
    other = PROMPT.copy()
    other[place] += 1
    assert decode(other, 5) != decode(PROMPT, 5)


def test_seed_and_choice_change_what_is_drawn_and_nothing_of_what_is_greedy() -> None:
    drawn = [decode(PROMPT, 5, DRAWN, seed, choice) for seed, choice in ((1, 0), (2, 0), (1, 1))]
    assert len({tuple(text) for text in (*drawn, decode(PROMPT, 5))}) == 4
    assert decode(PROMPT, 5, DRAWN, 1) == drawn[0]
    assert decode(PROMPT, 5, Sampling(), 1) == decode(PROMPT, 5)


def test_asking_for_the_next_token_leaves_the_text_as_it_is() -> None:
    text = HashedText()
    text.extend(PROMPT)
    assert text.next() == text.next() == decode(PROMPT, 1)[0]


def test_it_borrows_the_built_in_targets_tokenizer_and_has_nothing_else() -> None:
    builtin = Tokenizer.load("builtin/target")
    assert builtin.vocab_size == VOCAB_SIZE
    assert Tokenizer.load(HASH_TARGET).fingerprint == builtin.fingerprint
    with pytest.raises(ModelError, match="weights"):
        resolve(HASH_TARGET)
