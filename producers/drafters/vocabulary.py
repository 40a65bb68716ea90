"""A draft model's own tokens, and how the ids of a text are found again when the text grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

TAIL_TOKENS = 12
"""How many of a text's last tokens are encoded again with what follows; merges reach hardly ever further back."""

MOST_SPOILED = 4
"""How many more tokens than in the text may be where it was cut, since a part is encoded otherwise than the whole."""


class Vocabulary(Protocol):
    """What re-tokenising asks of a tokenizer; :class:`dsdq.models.tokenizer.Tokenizer` is one."""

    eos_ids: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """Return what is equal for tokenizers that give ids the same meaning; empty where only ids can be compared."""
        ...

    @property
    def spellings(self) -> Sequence[bytes]:
        """Return each id's bytes in the middle of a text; none for a special token and for an id without a token."""
        ...

    @property
    def beginning(self) -> Sequence[int]:
        """Return the special tokens that the model expects before a text."""
        ...

    def special(self, content: str) -> int | None:
        """Return the id of the special token that is written ``content``, if there is one."""
        ...

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Return the ids of ``text``, with the special tokens around it unless told otherwise."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        ...


def lengthened(vocabulary: Vocabulary, ids: Sequence[int], more: str) -> tuple[int, list[int]]:
    """Return the ids of the text of ``ids`` followed by ``more``, as (how many of ``ids`` stand, what follows them).

    A short tail is encoded again, by itself and with what follows. By itself it gives the known ids back, but for the
    first few: the cut may go through a word, and some tokenizers put a space before every text.
    """
    tail = _tail(vocabulary, ids)
    text = vocabulary.decode(tail)
    known, again = vocabulary.encode(text, special_tokens=False), vocabulary.encode(text + more, special_tokens=False)
    spoiled = len(known) - _common(known[::-1], tail[::-1])
    if spoiled == len(known) or _common(known, again) < spoiled:
        return len(ids), vocabulary.encode(more, special_tokens=False)
    first = len(ids) - (len(known) - spoiled)
    same = _common(ids[first:], again[spoiled:])
    return first + same, again[spoiled + same :]


def continuation(vocabulary: Vocabulary, ids: Sequence[int], begun: bytes, more: str) -> list[int]:
    """Return the ids that continue ``ids`` with the text ``more``; none if no ids are found that spell it there.

    ``ids`` are committed and stay as they are, even where their text and ``more`` would be encoded otherwise. They may
    end with ``begun``, the first bytes of a character; ``more`` then begins with that whole character.
    """
    tail = _tail(vocabulary, ids)
    text = vocabulary.decode(tail)
    whole = (text.rstrip("\N{REPLACEMENT CHARACTER}") if begun else text) + more
    again = vocabulary.encode(whole, special_tokens=False)
    for end in _ends(tail, again):
        if vocabulary.decode(tail + again[end:]) == whole:
            return again[end:]
    # What was committed may end inside what the encoding makes one token; what follows is then encoded by itself.
    alone = vocabulary.encode(more, special_tokens=False)
    return alone if vocabulary.decode(tail + alone) == whole else []


def _tail(vocabulary: Vocabulary, ids: Sequence[int]) -> list[int]:
    """Return the last few of ``ids``, all behind the last special token."""
    tail = list(ids[-TAIL_TOKENS:])
    special = [place for place, token in enumerate(tail) if not _spelled(vocabulary, token)]
    return tail[special[-1] + 1 :] if special else tail


def _spelled(vocabulary: Vocabulary, token: int) -> bytes:
    return vocabulary.spellings[token] if token < len(vocabulary.spellings) else b""


def _ends(tail: Sequence[int], again: Sequence[int]) -> Iterator[int]:
    """Yield where in ``again`` the ids of ``tail`` may end, those places first where most of them agree."""
    for spoiled in range(len(tail)):
        known = tail[spoiled:]
        for place in range(min(spoiled + MOST_SPOILED, len(again) - len(known)) + 1):
            if again[place : place + len(known)] == known:
                yield place + len(known)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many ids both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
