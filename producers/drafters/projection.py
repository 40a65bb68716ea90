"""A draft model's logits as the target's: what each of its tokens says first in the target's tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dsdq.sampling import DEVICE_CANDIDATES, most_likely
from producers.drafters.vocabulary import Vocabulary

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]
Choose = Callable[[Logits], int]
"""From logits ``[target's vocab]`` to a token of the target."""


class Projection:
    """Lets a draft model's next token be chosen by rules that speak of the target's: noise, penalties, biases.

    A draft token counts as the longest target token that its bytes begin with; most have exactly the same bytes. Of
    several that count as one the likeliest speaks for all.
    """

    def __init__(self, target: Vocabulary, own: Vocabulary) -> None:
        """Compare both vocabularies; takes a tenth of a second or more for a hundred thousand tokens."""
        self._target_ids = {spelled: id_ for id_, spelled in enumerate(target.spellings) if spelled}
        self._target_size = len(target.spellings)
        self._own = own.spellings
        firsts = np.array([self._first(spelled) for spelled in self._own], dtype=np.int64)
        if target.eos_ids:
            firsts[list(own.eos_ids)] = target.eos_ids[0]
        self._everything = _Groups(np.arange(len(firsts)), firsts)
        self._own_ids = {spelled: id_ for id_, spelled in enumerate(self._own) if spelled}
        self._order = sorted(self._own_ids)
        self._ordered_ids = np.array([self._own_ids[spelled] for spelled in self._order], dtype=np.int64)

    def free(self, logits: Logits, choose: Choose) -> tuple[int, int]:
        """Return the draft's next token, and the target's that it counts as, for the draft's logits ``[vocab]``."""
        logits = self._sized(logits)
        target = choose(self._everything.projected(logits, self._target_size))
        return self._everything.speaker(logits, target), target

    def bound(self, logits: Logits, must: bytes, choose: Choose) -> int | None:
        """Return the draft's next token where the text is known to go on with ``must``; None if no token can say it.

        A token that goes on behind ``must`` is chosen for what comes there, unless a part of ``must`` is likelier.
        """
        logits = self._sized(logits)
        parts = (must[:length] for length in range(1, len(must) + 1))
        within = [self._own_ids[part] for part in parts if part in self._own_ids]
        beyond = self._beyond(must)
        if within and not (len(beyond) and logits[beyond].max() > logits[within].max()):
            return within[int(np.argmax(logits[within]))]
        likely = beyond[most_likely(logits[beyond], DEVICE_CANDIDATES)]
        firsts = [self._first(self._own[id_][len(must) :]) for id_ in likely]
        groups = _Groups(likely, np.array(firsts, dtype=np.int64))
        if not groups:
            return None
        return groups.speaker(logits, choose(groups.projected(logits, self._target_size)))

    def grows(self, spelled: bytes) -> bool:
        """Say whether some draft token begins with ``spelled`` and goes on."""
        return len(self._beyond(spelled)) > 0

    def _beyond(self, start: bytes) -> Ids:
        """Return the draft tokens that begin with ``start``, which is not empty, and go on."""
        first = bisect_left(self._order, start) + (start in self._own_ids)
        stem = start.rstrip(b"\xff")
        behind = bisect_left(self._order, stem[:-1] + bytes([stem[-1] + 1])) if stem else len(self._order)
        return self._ordered_ids[first:behind]

    def _first(self, spelled: bytes) -> int:
        """Return the longest target token that ``spelled`` begins with; -1 if there is none."""
        parts = (spelled[:length] for length in range(len(spelled), 0, -1))
        return next((self._target_ids[part] for part in parts if part in self._target_ids), -1)

    def _sized(self, logits: Logits) -> Logits:
        """Cut off what pads a model's logits beyond its vocabulary; a token that a model lacks cannot be said."""
        missing = len(self._own) - len(logits)
        return logits[: len(self._own)] if missing <= 0 else np.pad(logits, (0, missing), constant_values=-np.inf)


class _Groups:
    """Draft ids ``[n]`` by the target id that each counts as, those that count as none left out."""

    def __init__(self, own: Ids, targets: Ids) -> None:
        order = np.argsort(targets, kind="stable")
        order = order[targets[order] >= 0]
        self._own = own[order]
        self._targets, starts = np.unique(targets[order], return_index=True)
        self._starts: Ids = starts

    def __len__(self) -> int:
        return len(self._targets)

    def projected(self, logits: Logits, size: int) -> Logits:
        """Return the target's logits ``[size]``: minus infinity where no draft token counts as that token."""
        found = np.full(size, -np.inf, dtype=np.float32)
        found[self._targets] = np.maximum.reduceat(logits[self._own], self._starts)
        return found

    def speaker(self, logits: Logits, target: int) -> int:
        """Return the likeliest draft id of those that count as ``target``."""
        place = int(np.searchsorted(self._targets, target))
        end = self._starts[place + 1] if place + 1 < len(self._starts) else len(self._own)
        members = self._own[self._starts[place] : end]
        return int(members[int(np.argmax(logits[members]))])
