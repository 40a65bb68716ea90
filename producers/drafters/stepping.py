"""Drafting with a model: feed what it has not seen, then pick and feed one token at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsdq.contract import Contract
from dsdq.drafting import TO_THE_END, DraftSession, GoOn, Proposal
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.picker import Picker
from producers.drafters.vocabulary import Vocabulary


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


class ModelDrafter(ABC):
    """A model that is loaded once and drafts for many sessions, each with a stepper of its own."""

    brief = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Take the model's own vocabulary."""
        self.vocabulary = vocabulary

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of its tokenizer."""
        return self.vocabulary.fingerprint

    @abstractmethod
    def stepper(self) -> Stepper:
        """Return the model with an empty cache of its own."""

    def around(self) -> AbstractContextManager[object]:
        """Return what a whole proposal is computed in."""
        return nullcontext()

    def shares(self, tokenizer: Tokenizer) -> bool:
        """Say whether its ids mean the same as those of ``tokenizer``."""
        return self.fingerprint == tokenizer.fingerprint

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        """Begin a session with an empty cache."""
        del tokenizer  # the verifier compares fingerprints
        return SteppingSession(contract, self)


class Fed:
    """What a stepper has been fed, so that of a text that changed only the changed end is fed again."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self.ids: list[int] = []

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        return self._stepper.context_tokens

    def follow(self, text: Sequence[int], unchanged: int = 0) -> NDArray[np.float32]:
        """Roll back to what ``text`` begins with, feed the rest of it, and return the logits ``[vocab]`` behind it.

        At least the text's last token is fed. The first ``unchanged`` tokens, which are likely to be those fed before,
        are compared at once.
        """
        most = min(len(self.ids), len(text) - 1)
        likely = min(unchanged, most)
        place = likely if self.ids[:likely] == list(text[:likely]) else 0
        while place < most and self.ids[place] == text[place]:
            place += 1
        return self._feed(text[place:], place)

    def add(self, token: int) -> NDArray[np.float32]:
        """Feed one more token and return the logits ``[vocab]`` behind it."""
        return self._feed([token], len(self.ids))

    def _feed(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        del self.ids[start:]
        self.ids.extend(tokens)
        return self._stepper.feed(tokens, start)


class SteppingSession:
    """Drafts one session's text with a model whose ids are the target's.

    The first text that it is asked to continue is taken for the prompt, which penalties tell from what was generated.
    """

    def __init__(self, contract: Contract, model: ModelDrafter) -> None:
        self._around = model.around
        self._fed = Fed(model.stepper())
        self._eos_ids = model.vocabulary.eos_ids
        self._picker = Picker(contract)
        self._followed = 0
        self._prompt_tokens: int | None = None

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return up to ``window`` tokens; none when the text has grown beyond the draft model's context."""
        if self._prompt_tokens is None:
            self._prompt_tokens = len(text)
        window = min(window, self._fed.context_tokens - len(text))
        if window < 1:
            return Proposal(())
        with self._around():
            return self._draft(text, window, self._prompt_tokens, go_on)

    def _draft(self, text: Sequence[int], window: int, prompt_tokens: int, go_on: GoOn) -> Proposal:
        confidences: list[float] = []
        logits = self._fed.follow(text, self._followed)
        self._followed = len(text) - 1
        while True:
            token = self._picker.pick(logits, self._fed.ids, prompt_tokens)
            if go_on.uses_confidence:
                confidences.append(self._picker.confidence())
            if len(self._picker.tokens) == window or self._picker.ends(self._eos_ids):
                break
            if not go_on(self._picker.tokens, confidences[-1] if confidences else None):
                break
            logits = self._fed.add(token)
        return replace(self._picker.take(), confidences=tuple(confidences))
