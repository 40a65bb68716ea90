"""Stop strings: where one ends a text, and what of a text that may end with one can be shown already. Pure.

A text ends with the first generated token after which the decoded generated text contains a stop string. That token is
committed whole; what its reader sees ends before the earliest stop string. A stop string may span tokens, and a
character too. Nothing here decodes a text more than a few tokens at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self


class Pieces(Protocol):
    """A text that is decoded as its tokens come: :class:`dsdq.models.tokenizer.TokenStream`."""

    def push(self, *ids: int) -> str:
        """Take the next ids and return the text that can no longer change."""
        ...

    def pending(self) -> str:
        """Return what the ids so far decode to behind that: it may still change."""
        ...

    def finish(self) -> str:
        """Return the text still held back, which nothing follows."""
        ...

    def copy(self) -> Self:
        """Return the same text, to go on by itself."""
        ...


class StopFinder:
    """Looks for stop strings in one text. ``pieces`` decodes the generated text, from its beginning.

    What is only tried (a verdict may not be committed) goes through :meth:`place`, what is committed through
    :meth:`extend`; to rebuild a session, extend a new one with all of its generated tokens.
    """

    def __init__(self, pieces: Pieces, stop_strings: Sequence[str]) -> None:
        self._pieces = pieces
        self._stops = tuple(stop_strings)
        self._reach = max(map(len, self._stops), default=1) - 1
        self._end = ""  # the last ``_reach`` characters of what can no longer change

    def place(self, tokens: Sequence[int]) -> int | None:
        """Return the place in ``tokens`` of the first after which the text contains a stop string; None without one."""
        if not self._stops:
            return None
        pieces, end = self._pieces.copy(), self._end
        for place, token in enumerate(tokens):
            end += pieces.push(token)
            text = end + pieces.pending()
            if any(stop in text for stop in self._stops):
                return place
            end = self._last(end)
        return None

    def extend(self, tokens: Sequence[int]) -> None:
        """Take in tokens that were committed."""
        if not self._stops:
            return
        for token in tokens:
            self._end = self._last(self._end + self._pieces.push(token))

    def _last(self, text: str) -> str:
        return text[len(text) - self._reach :] if len(text) > self._reach else text


class ShownText:
    """Gives one text piece by piece as its reader sees it: without the earliest stop string and what follows it.

    Text that could be the beginning of a stop string is held back until it is known not to be.
    """

    def __init__(self, pieces: Pieces, stop_strings: Sequence[str]) -> None:
        self._pieces = pieces
        self._stops = tuple(stop_strings)
        self._held = ""
        self._ended = False

    def push(self, *ids: int) -> str:
        """Take the next ids and return the text that can be shown now, which may be empty."""
        return self._shown(self._pieces.push(*ids))

    def finish(self) -> str:
        """Return the text still held back: nothing follows."""
        shown = self._shown(self._pieces.finish()) + self._held
        self._held = ""
        return shown

    def _shown(self, piece: str) -> str:
        if not self._stops:
            return piece
        if self._ended:
            return ""
        text = self._held + piece
        found = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        self._ended = bool(found)
        shown = min(found) if found else len(text) - self._beginning(text)
        self._held = "" if found else text[shown:]
        return text[:shown]

    def _beginning(self, text: str) -> int:
        """Return the length of the longest end of ``text`` that a stop string begins with."""
        longest = min(max(map(len, self._stops), default=1) - 1, len(text))
        return next((n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in self._stops)), 0)
