"""What a verifier drafts with if not with a model: n-grams of the text, or the hash model's text, as well as told."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from dsdq.ngrams import NgramIndex
from dsdq.testing.hashed import Guesser
from workers.engine.colocated import Drafts, Wish

NGRAM = "ngram"


class NgramDrafter:
    """See :class:`workers.engine.colocated.OwnDrafter`. A text of more than ``tokens`` is not indexed.

    Those of others go when all together have more, longest unused first.
    """

    brief: ClassVar = True

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._known: OrderedDict[str, tuple[NgramIndex, tuple[int, ...]]] = OrderedDict()  # longest unused first

    def draft(self, wishes: Sequence[Wish]) -> Drafts:
        """Return what followed the same tokens before; see the protocol."""
        drafts = [self._draft(wish) for wish in wishes]
        kept = sum(len(index) for index, _ in self._known.values())
        while kept > self._tokens:
            _, (index, _) = self._known.popitem(last=False)
            kept -= len(index)
        return _fed(drafts)

    def _draft(self, wish: Wish) -> Sequence[int]:
        if len(wish.text) > self._tokens:
            return ()
        index, text = self._known.pop(wish.session, (NgramIndex(), ()))
        if tuple(wish.text[: len(text)]) != text:  # another session of that name, or a log that lost its end
            index = NgramIndex()
        self._known[wish.session] = index, tuple(wish.text)
        return index.continuation(wish.text, wish.window)


class HashedDrafter:
    """See :class:`workers.engine.colocated.OwnDrafter`; for the target ``testing/hash``.

    As a model would, it drafts a token of every session in the time of one.
    """

    def __init__(self, guesser: Guesser) -> None:
        self._guesser = replace(guesser, ms_per_token=0.0)
        self._token_s = guesser.ms_per_token / 1000
        self.brief = not guesser.ms_per_token

    def draft(self, wishes: Sequence[Wish]) -> Drafts:
        """Return tokens that are right as often as was told; see the protocol."""
        due_s = time.perf_counter() + self._token_s * max((wish.window for wish in wishes), default=0)
        drafts = [self._draft(wish) for wish in wishes]
        if not self.brief:
            time.sleep(max(0.0, due_s - time.perf_counter()))
        return _fed(drafts)

    def _draft(self, wish: Wish) -> Sequence[int]:
        terms = wish.contract
        return self._guesser.guess(wish.text, wish.window, terms.sampling, terms.seed, terms.choice)


def _fed(drafts: Sequence[Sequence[int]]) -> Drafts:
    """Return drafts for which a model would have been fed a position each."""
    return Drafts(drafts, sum(len(draft) for draft in drafts))
