"""The committed text, which comes in the target's ids, in a draft model's own."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence

from dsdq.models.tokenizer import Tokenizer
from producers.drafters.vocabulary import Vocabulary, lengthened

_DECODER = getincrementaldecoder("utf-8")


class Translation:
    """Follows one text as it grows.

    ``ids`` are the draft's ids of its whole characters; ``begun`` the first bytes of one that is not whole yet. Where
    the text grows, only the end of ``ids`` changes.
    """

    def __init__(self, target: Tokenizer, own: Vocabulary) -> None:
        """Start with the tokens that the draft model expects before a text."""
        self._target, self._own = target, own
        self._clear()

    def _clear(self) -> None:
        self._followed: list[int] = []
        self._decoder = _DECODER("replace")
        self._empty = True
        self.begun = b""
        self.ids = list(self._own.beginning)

    def follow(self, text: Sequence[int]) -> int:
        """Take in ``text``, which is the text so far and more; return how many of the first of ``ids`` are unchanged.

        A text that does not begin like the last one (Redis lost the log's end) is taken in anew.
        """
        if list(text[: len(self._followed)]) != self._followed:
            self._clear()
        leads = self._target.beginning
        if not self._followed and tuple(text[: len(leads)]) == leads:  # ours is there already
            self._followed.extend(leads)
        new = text[len(self._followed) :]
        self._followed.extend(new)
        unchanged, spelled = len(self.ids), b""
        for token in new:
            special = self._special(token)
            if special is None:
                spelled += self._spelled(token)
                continue
            unchanged = min(unchanged, self._extend(spelled))
            spelled = b""
            self.ids.append(special)
        return min(unchanged, self._extend(spelled))

    def _special(self, token: int) -> int | None:
        """Return the draft's own token that is written like a special one of the target; others have no text."""
        written = self._target.written(token)
        return None if written is None or self._target.special(written) is None else self._own.special(written)

    def _spelled(self, token: int) -> bytes:
        spellings = self._target.spellings
        spelled = spellings[token] if token < len(spellings) else b""
        if self._empty and spelled:
            self._empty = False
            if not self._target.decode([token]).startswith(" "):  # the space that some put before every text
                return spelled.removeprefix(b" ")
        return spelled

    def _extend(self, spelled: bytes) -> int:
        text = self._decoder.decode(spelled)
        self.begun = self._decoder.getstate()[0]
        if not text:
            return len(self.ids)
        standing, more = lengthened(self._own, self.ids, text)
        self.ids[standing:] = more
        return standing
