"""A draft that follows the target's own text, to see how much of what it would have drafted stands."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import numpy as np

from dsdq.alignment.rounds import agreement, runs_of
from dsdq.alignment.sides import DraftSide, Followed
from dsdq.contract import Contract
from dsdq.drafting import Drafter
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.loading import load_drafter
from producers.drafters.none import NoDrafter
from producers.drafters.picker import Picker
from producers.drafters.stepping import Fed, ModelDrafter


class ModelFollower:
    """A model over the target's ids. While its draft stands it reads the target's text: one step a token tells all."""

    def __init__(self, model: ModelDrafter) -> None:
        self._model = model

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of its tokenizer."""
        return self._model.fingerprint

    def fits(self, tokenizer: Tokenizer) -> bool:
        """Say whether its ids are those of ``tokenizer``."""
        return self._model.shares(tokenizer)

    def follow(
        self, contract: Contract, tokenizer: Tokenizer, prompt: Sequence[int], generated: Sequence[int]
    ) -> Followed:
        """See :class:`dsdq.alignment.sides.DraftSide`."""
        del tokenizer
        fed, picker = Fed(self._model.stepper()), Picker(contract)
        if len(prompt) + len(generated) > fed.context_tokens:
            msg = f"a text of {len(prompt) + len(generated)} tokens: the draft model takes {fed.context_tokens} at most"
            raise ConfigError(msg)
        stands, rows, times = [], [], []
        with self._model.around():
            logits = fed.follow(prompt)
            for token in generated:
                began_s = perf_counter()
                picked = picker.pick(logits, fed.ids, len(prompt))
                rows.append(logits.copy())
                stands.append(picked == token)
                logits = fed.add(token)
                times.append(1000 * (perf_counter() - began_s))
        return Followed(runs_of(stands, contract.max_window), median(times), np.stack(rows))


class AnyFollower:
    """Any other drafter: it is asked for a whole window at every place, as a device would ask it."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter

    @property
    def fingerprint(self) -> str:
        """Return nothing: it works on any ids."""
        return self._drafter.fingerprint

    def fits(self, tokenizer: Tokenizer) -> bool:
        """Say that it does."""
        del tokenizer
        return True

    def follow(
        self, contract: Contract, tokenizer: Tokenizer, prompt: Sequence[int], generated: Sequence[int]
    ) -> Followed:
        """See :class:`dsdq.alignment.sides.DraftSide`."""
        session = self._drafter.start(contract, tokenizer)
        session.propose(prompt, 1)  # what is done once for a session and its prompt is no draft token's time
        runs, drafted, began_s = [], 0, perf_counter()
        for place in range(len(generated)):
            tokens = session.propose([*prompt, *generated[:place]], contract.max_window).tokens
            drafted += len(tokens)
            runs.append(agreement(tokens, generated[place:]))
        return Followed(runs, 1000 * (perf_counter() - began_s) / max(drafted, 1), None)


def load(name: str) -> DraftSide:
    """Load a draft by a drafter's name, as :func:`producers.drafters.loading.load_drafter` takes it.

    Raises:
        ConfigError: what runs it is not installed, or it drafts nothing.
        ModelError: the model cannot be loaded.
    """
    drafter = load_drafter(name)
    if isinstance(drafter, NoDrafter):
        msg = f"draft {name!r}: expected a drafter that drafts something"
        raise ConfigError(msg)
    return ModelFollower(drafter) if isinstance(drafter, ModelDrafter) else AnyFollower(drafter)
