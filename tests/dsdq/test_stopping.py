"""Stop strings across tokens and characters: where a text ends, and that nobody is shown what comes after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from dsdq.models.tokenizer import Tokenizer
from dsdq.stopping import ShownText, StopFinder
from dsdq.testing.tiny import EOS, VOCAB_SIZE, make_tokenizer

TEXTS = ["a\n\nb", "Grüße 🦊🦊 <|end|>", "STOP STOPP ST", " \n \n\n", "ababab"]


@cache
def byte_level() -> Tokenizer:
    """Return a tokenizer whose tokens are pieces of bytes: a character may take several."""
    with TemporaryDirectory() as folder:
        make_tokenizer(folder)
        return Tokenizer.load(Path(folder))


@cache
def byte_fallback() -> Tokenizer:
    """Return a tokenizer of the other kind: letters, and bytes for all else, the newline among them."""
    unknown = "<unk>"
    letters = [unknown, EOS, "\u2581", *"abSTOP<|>end"]
    words = list(dict.fromkeys([*letters, *(f"<0x{byte:02X}>" for byte in range(256))]))
    vocab = {word: place for place, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=unknown, byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer(backend, {"eos_token": EOS})


@st.composite
def cases(draw: st.DrawFn, tokenizer: Tokenizer) -> tuple[list[int], tuple[str, ...]]:
    """Return the ids of a text, whole or odd, and stop strings of which some occur in it."""
    parts = st.sampled_from(TEXTS).map(tokenizer.encode) | st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=3)
    ids = [token for part in draw(st.lists(parts, max_size=4)) for token in part]
    text = tokenizer.decode(ids)
    places = st.tuples(st.integers(0, len(text)), st.integers(1, 5)).map(lambda cut: text[cut[0] : sum(cut)])
    stops = st.sampled_from(["\n\n", "STOPP", "ab\n", "🦊", "x"]) | places.filter(bool)
    return ids, tuple(draw(st.lists(stops, min_size=1, max_size=3)))


def with_cases(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test over both kinds of tokenizers."""

    @pytest.mark.parametrize("make", [byte_level, byte_fallback])
    @given(data=st.data())
    def run(make: Callable[[], Tokenizer], data: st.DataObject) -> None:
        tokenizer = make()
        test(tokenizer, *data.draw(cases(tokenizer)), data)

    return run


def first_place(tokenizer: Tokenizer, ids: Sequence[int], stops: Sequence[str]) -> int | None:
    """Return where the text ends, by the definition: every prefix is decoded whole."""
    prefixes = (tokenizer.decode(ids[: place + 1]) for place in range(len(ids)))
    return next((place for place, text in enumerate(prefixes) if any(stop in text for stop in stops)), None)


def cut(text: str, stops: Sequence[str]) -> str:
    return text[: min((place for place in map(text.find, stops) if place >= 0), default=len(text))]


@with_cases
def test_the_text_ends_with_the_first_token_after_which_it_contains_a_stop_string(
    tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...], data: st.DataObject
) -> None:
    finder, start = StopFinder(tokenizer.stream(), stops), 0
    wanted = first_place(tokenizer, ids, stops)
    while start < len(ids):
        finder.place(data.draw(st.lists(st.sampled_from(ids), max_size=3)))  # judged, but never committed
        verdict = ids[start : start + data.draw(st.integers(1, 5))]
        place = finder.place(verdict)
        if place is not None:
            assert start + place == wanted
            return
        finder.extend(verdict)
        start += len(verdict)
    assert wanted is None


@with_cases
def test_a_finder_that_is_rebuilt_from_the_committed_tokens_goes_on_the_same(
    tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...], data: st.DataObject
) -> None:
    end = first_place(tokenizer, ids, stops)
    committed = data.draw(st.integers(0, len(ids) if end is None else end))
    rebuilt = StopFinder(tokenizer.stream(), stops)
    rebuilt.extend(ids[:committed])
    assert rebuilt.place(ids[committed:]) == (None if end is None else end - committed)


@with_cases
def test_the_pieces_shown_are_the_text_before_the_earliest_stop_string(
    tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...], data: st.DataObject
) -> None:
    del data
    end = first_place(tokenizer, ids, stops)
    committed = ids if end is None else ids[: end + 1]
    shown = ShownText(tokenizer.stream(), stops)
    pieces = [shown.push(token) for token in committed]
    assert "".join(pieces) + shown.finish() == cut(tokenizer.decode(committed), stops)


@with_cases
def test_without_stop_strings_nothing_is_looked_for_or_held_back(
    tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...], data: st.DataObject
) -> None:
    del stops, data
    plain, shown = tokenizer.stream(), ShownText(tokenizer.stream(), ())
    assert [shown.push(token) for token in ids] == [plain.push(token) for token in ids]
    assert shown.finish() == plain.finish()
    assert StopFinder(tokenizer.stream(), ()).place(ids) is None


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    tokenizer = byte_fallback()
    shown = ShownText(tokenizer.stream(), ("STOP",))
    pieces = [shown.push(token) for token in tokenizer.encode("aSTaSSTOPb")]
    assert pieces == ["a", "", "", "STa", "", "S", "", "", "", ""]
    assert shown.finish() == ""
    unfinished = ShownText(tokenizer.stream(), ("STOP",))
    assert [unfinished.push(*tokenizer.encode("aSTO")), unfinished.finish()] == ["a", "STO"]


def test_a_newline_of_bytes_ends_the_text_at_once_though_its_run_may_go_on() -> None:
    tokenizer = byte_fallback()
    ids = tokenizer.encode("a\n\nb")
    assert StopFinder(tokenizer.stream(), ("\n\n",)).place(ids) == 2


def test_a_text_is_never_decoded_again_from_its_beginning() -> None:
    longest = 0

    class Counting(Tokenizer):
        def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
            nonlocal longest
            longest = max(longest, len(ids))
            return super().decode(ids, skip_special_tokens=skip_special_tokens)

    tokenizer = byte_level()
    counting = Counting(tokenizer._backend, {"eos_token": EOS})
    finder = StopFinder(counting.stream(), ("\n\n",))
    for token in [*tokenizer.encode("def f(x):\n    return 🦊 + x\n" * 20), *tokenizer.eos_ids * 100]:
        assert finder.place([token]) is None
        finder.extend([token])
    assert longest < 12
