"""The drafting loop of every draft model: feed what the model has not seen, then pick and feed one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsdq.contract import Contract
from dsdq.drafting import Proposal
from producers.drafters.picker import Picker


class Stepper(Protocol):
    """A model with a KV cache for one text."""

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        ...

    def feed(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        """Put ``tokens`` at the positions from ``start`` on, in place of what was there; return the last one's logits.

        The logits are float32 ``[vocab]``. Positions from ``start + len(tokens)`` on are forgotten.
        """
        ...


class SteppingSession:
    """Drafts one session's text with a model. ``around`` gives what a whole proposal is computed in.

    The first text that it is asked to continue is taken for the prompt, which penalties tell from what was generated.
    """

    def __init__(
        self,
        contract: Contract,
        stepper: Stepper,
        eos_ids: Sequence[int],
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._around = around
        self._stepper = stepper
        self._eos_ids = tuple(eos_ids)
        self._picker = Picker(contract)
        self._fed: list[int] = []
        self._agreed = 0
        self._prompt_tokens: int | None = None

    def propose(self, text: Sequence[int], window: int) -> Proposal:
        """Return up to ``window`` tokens; none when the text has grown beyond the draft model's context."""
        if self._prompt_tokens is None:
            self._prompt_tokens = len(text)
        window = min(window, self._stepper.context_tokens - len(text))
        if window < 1:
            return Proposal(())
        with self._around():
            return self._draft(text, window, self._prompt_tokens)

    def _draft(self, text: Sequence[int], window: int, prompt_tokens: int) -> Proposal:
        known = self._common(text)
        logits = self._feed(text[known:], known)
        while True:
            position = len(self._fed)
            token = self._picker.pick(logits, self._fed, prompt_tokens)
            if position + 1 == len(text) + window or self._picker.ends(self._eos_ids):
                return self._picker.take()
            logits = self._feed([token], position)

    def _common(self, text: Sequence[int]) -> int:
        """Return how many of the fed tokens still stand; at least the text's last token is fed again."""
        most = min(len(self._fed), len(text) - 1)
        place = min(self._agreed, most)  # what was committed stays
        while place < most and self._fed[place] == text[place]:
            place += 1
        self._agreed = len(text) - 1
        return place

    def _feed(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        del self._fed[start:]
        self._fed.extend(tokens)
        return self._stepper.feed(tokens, start)
