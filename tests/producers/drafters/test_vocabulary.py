"""Ids of a text that grows are those of the whole text, and committed ids stay."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import pytest

from dsdq.models.tokenizer import Tokenizer
from producers.drafters.translation import Translation
from producers.drafters.vocabulary import continuation

NAMES = ("large", "small", "spaces")
TEXT = Path(__file__).read_text()[:1500] + "Zwölf Boxkämpfer jagen Viktor. 素早い茶色の狐 🦊🦊  \n\n\t\tok = [1,  22]\n"


@pytest.mark.parametrize(("target", "own"), [*permutations(NAMES, 2)])
def test_a_text_that_grows_is_encoded_as_if_it_had_come_whole(
    vocabularies: Mapping[str, Tokenizer], target: str, own: str
) -> None:
    theirs, ours = vocabularies[target], vocabularies[own]
    ids, translation = theirs.encode(TEXT), Translation(theirs, ours)
    for length in range(1, len(ids) + 1):
        before = list(translation.ids)
        unchanged = translation.follow(ids[:length])
        assert translation.ids[:unchanged] == before[:unchanged]
        if not translation.begun:
            assert translation.ids == ours.encode(theirs.decode(ids[:length]))
        else:
            assert theirs.decode(ids[:length]).startswith(ours.decode(translation.ids))


def test_a_character_that_is_not_whole_is_waited_for(vocabularies: Mapping[str, Tokenizer]) -> None:
    theirs, ours = vocabularies["large"], vocabularies["spaces"]
    ids, translation = theirs.encode("a🦊"), Translation(theirs, ours)
    translation.follow(ids[:-1])
    assert ours.decode(translation.ids) == "a"
    assert translation.begun == "🦊".encode()[:-1]
    translation.follow(ids)
    assert ours.decode(translation.ids) == "a🦊"


def test_special_tokens_become_those_that_are_written_alike_and_others_are_left_out(
    vocabularies: Mapping[str, Tokenizer],
) -> None:
    theirs, ours = vocabularies["spaces"], vocabularies["small"]
    translation = Translation(theirs, ours)
    unknown, eos = theirs.special("<unk>"), theirs.eos_ids[0]
    assert unknown is not None
    translation.follow([*theirs.encode("one"), unknown, eos, *theirs.encode("two", special_tokens=False)])
    # This tokenizer writes a space before every text that it encodes.
    assert translation.ids == [*ours.encode("one"), *ours.eos_ids, *ours.encode(" two", special_tokens=False)]


def test_a_text_that_is_another_than_before_is_taken_in_anew(vocabularies: Mapping[str, Tokenizer]) -> None:
    theirs, ours = vocabularies["large"], vocabularies["small"]
    translation = Translation(theirs, ours)
    translation.follow(theirs.encode("def one(x):"))
    translation.follow(theirs.encode("def two"))
    assert translation.ids == ours.encode("def two")


@pytest.mark.parametrize("name", NAMES)
def test_a_continuation_leaves_committed_ids_as_they_are(vocabularies: Mapping[str, Tokenizer], name: str) -> None:
    vocabulary = vocabularies[name]
    whole = vocabulary.encode(TEXT)
    for cut in range(20, len(whole) - 10, 7):
        text, rest = whole[:cut], vocabulary.decode(whole)[len(vocabulary.decode(whole[:cut])) :]
        if "\N{REPLACEMENT CHARACTER}" not in vocabulary.decode(text):
            assert continuation(vocabulary, text, b"", rest) == whole[cut:]


def test_a_continuation_inside_a_word_begins_there(vocabularies: Mapping[str, Tokenizer]) -> None:
    large = vocabularies["large"]
    committed = [*large.encode("x = "), *large.encode("re")]
    assert len(large.encode("return")) == 1
    found = continuation(large, committed, b"", "turn 1")
    assert large.decode(committed + found) == "x = return 1"


def test_where_the_rest_of_a_character_cannot_follow_there_is_no_continuation(
    vocabularies: Mapping[str, Tokenizer],
) -> None:
    large = vocabularies["large"]
    fox = large.encode("a🦊")
    assert continuation(large, fox[:-1], "🦊".encode()[:-1], "🦊!") == [fox[-1], *large.encode("!")]
    assert continuation(large, fox[:-1], "🦊".encode()[:-1], "ü!") == []
