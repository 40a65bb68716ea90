"""How a draft model's next token is picked, so that the verifier will accept it as often as it can."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsdq.contract import Contract, Rule
from dsdq.drafting import Proposal
from dsdq.laws import DraftLaw
from dsdq.noise import gumbel
from dsdq.penalties import adjusted
from dsdq.sampling import choose_on_device, confidence, draw, probabilities, scores, stack, truncated_law

AHEAD_POSITIONS = 8
AHEAD_VOCAB = 8_192
"""Up to this vocabulary, noise for some positions ahead and every token costs less than for one position at a time."""


class Picker:
    """Picks one window's tokens under a contract and remembers what they were sampled from.

    Under the coupled rule the verifier's own noise picks; under the rejection rule the device's own randomness does,
    from the law that is reported. ``tokens`` are the window's so far.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._random = random.Random(secrets.randbits(128))  # noqa: S311 - guards nothing
        self.tokens: list[int] = []
        self._laws: list[DraftLaw] = []
        self._logits: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self._noise: NDArray[np.float64] = np.empty((0, 0))
        self._first = -AHEAD_POSITIONS

    def pick(self, logits: NDArray[np.float32], text: Sequence[int], prompt_tokens: int) -> int:
        """Return the draft token to follow ``text``, of which ``prompt_tokens`` are the prompt.

        ``logits`` ``[vocab]`` are the draft model's own; penalties and biases are applied here, as the verifier does.
        """
        terms = self._contract
        logits = adjusted(logits[None], terms.sampling, text, prompt_tokens, ())[0]
        if terms.rule is Rule.COUPLED:
            token = self._coupled(logits, len(text))
        else:
            law = truncated_law(logits, terms.sampling)
            token = int(law.ids[0, draw(law.weights[0].astype(np.float64), self._random.random())])
            self._laws.append(law)
        self.tokens.append(token)
        self._logits = logits
        return token

    def confidence(self) -> float:
        """Return the probability of the last token under the law that it was picked from.

        Greedy decoding has no law: there it is the model's own, at a temperature of 1.
        """
        terms, token = self._contract, self.tokens[-1]
        if terms.rule is Rule.REJECTION and not terms.sampling.greedy:
            return float(probabilities(self._laws[-1], np.array([token]))[0])
        return confidence(self._logits, terms.sampling, token)

    def _coupled(self, logits: NDArray[np.float32], position: int) -> int:
        terms = self._contract
        if terms.sampling.greedy or len(logits) > AHEAD_VOCAB:
            return choose_on_device(logits, terms.sampling, terms.seed, position, terms.choice)
        if not 0 <= position - self._first < AHEAD_POSITIONS:
            positions = np.arange(position, position + AHEAD_POSITIONS)
            self._noise = gumbel(terms.seed, positions, np.arange(len(logits)), terms.choice)
            self._first = position
        noisy = scores(logits[None], terms.sampling)[0] + self._noise[position - self._first]
        return int(np.argmax(noisy))

    def ends(self, eos_ids: Sequence[int]) -> bool:
        """Say whether the last token ends the text, so that drafting behind it is of no use."""
        last = self.tokens[-1]
        return last in self._contract.stop_ids or (last in eos_ids and not self._contract.ignore_eos)

    def take(self) -> Proposal:
        """Return what was picked since the last call."""
        proposal = Proposal(tuple(self.tokens), stack(self._laws))
        self.tokens, self._laws = [], []
        return proposal
