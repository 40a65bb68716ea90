"""A draft model with a tokenizer of its own: it drafts text, which is then encoded as the target would.

Three places ask for care, where the two tokenizers cut a text differently:

- the committed text may end inside what the draft model knows as one token, or inside a character. The model then
  reads one token less, and must say again what it did not read: it may go on in the same token.
- the end of a drafted text may become another target token with what follows it. So one token more is drafted than
  is asked for, and the last one is left out. (To wait for the end of a word gained 1 to 2 % more tokens a round for a
  fifth more steps.)
- committed ids stay, even where their text and the draft together would be encoded otherwise.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsdq.contract import Contract, Rule
from dsdq.drafting import TO_THE_END, DraftSession, GoOn, Proposal
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.picker import Picker
from producers.drafters.projection import Projection
from producers.drafters.stepping import Fed, ModelDrafter
from producers.drafters.translation import Translation
from producers.drafters.vocabulary import continuation

MOST_STEPS = 8
"""Draft tokens for each target token that is asked for, at most."""


class RetokenisingDrafter:
    """Drafts for any target with a model of any vocabulary. Only for the coupled rule, under which any ids are safe."""

    fingerprint, brief = "", False

    def __init__(self, model: ModelDrafter) -> None:
        self._model = model
        self._projections: dict[str, Projection] = {}

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        """Begin a session; a model that turns out to have the target's tokenizer drafts its ids as they are.

        Raises:
            ConfigError: the contract asks for the rejection rule.
        """
        if self._model.shares(tokenizer):
            return self._model.start(contract, tokenizer)
        if contract.rule is Rule.REJECTION:
            msg = (
                "expected a draft model with the target's own tokenizer: under the rejection rule a draft comes with "
                "the law that its ids were drawn from, and re-tokenised text has none; use the coupled rule"
            )
            raise ConfigError(msg)
        if tokenizer.fingerprint not in self._projections:
            self._projections[tokenizer.fingerprint] = Projection(tokenizer, self._model.vocabulary)
        return RetokenisingSession(contract, self._model, tokenizer, self._projections[tokenizer.fingerprint])


class RetokenisingSession:
    """Drafts one session's text. The first text that it is asked to continue is taken for the prompt."""

    def __init__(self, contract: Contract, model: ModelDrafter, target: Tokenizer, projection: Projection) -> None:
        self._around = model.around
        self._fed = Fed(model.stepper())
        self._own, self._target = model.vocabulary, target
        self._projection = projection
        self._translation = Translation(target, model.vocabulary)
        self._picker = Picker(contract)
        self._read = 0
        self._prompt_tokens: int | None = None

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return up to ``window`` of the target's tokens; none when the text is longer than the model's context."""
        if self._prompt_tokens is None:
            self._prompt_tokens = len(text)
        unchanged = min(self._read, self._translation.follow(text))
        ids, begun = self._translation.ids, self._translation.begun
        again = self._unread(ids)
        context = ids[: len(ids) - bool(again)]
        self._read = min(unchanged, len(context))
        steps = min(MOST_STEPS * (window + 1), self._fed.context_tokens - len(context))
        if window < 1 or steps < 1 or not context:
            return Proposal(())
        said = Said(text, self._target, begun, again)
        with self._around():
            self._draft(context, said, steps, window, go_on)
        self._read = len(context)
        return Proposal(said.first(window))

    def _unread(self, ids: Sequence[int]) -> bytes:
        """Return what the text's last token spells if it may be the beginning of a longer one."""
        last = self._own.spellings[ids[-1]] if len(ids) > 1 else b""
        return last if last and self._projection.grows(last) else b""

    def _draft(self, context: Sequence[int], said: Said, steps: int, window: int, go_on: GoOn) -> None:
        """Let the model speak until ``window`` tokens are certain, the text ends, or so many ``steps`` are done.

        A token is drafted in several steps, and found only when the next one has begun: no probability is given for it.
        """
        logits = self._fed.follow(context, self._read)
        for step in range(steps):
            token = self._pick(logits, said)
            if token is None or said.enough(window) or step == steps - 1 or not go_on(said.first(window), None):
                return
            logits = self._fed.add(token)

    def _pick(self, logits: NDArray[np.float32], said: Said) -> int | None:
        """Let ``said`` grow by the model's next token and return it; None if there is none."""

        def choose(projected: NDArray[np.float32]) -> int:
            """Pick one of the target's tokens."""
            return self._picker.pick(projected, said.text, self._prompt_tokens or 0)

        if said.must:
            token, counts_as = self._projection.bound(logits, said.must, choose), None
        else:
            token, counts_as = self._projection.free(logits, choose)
            if self._picker.ends(self._target.eos_ids):
                said.ended = True
        self._picker.take()  # what it picked are beginnings; the tokens are found from the text
        if token is not None:
            said.add(self._own.spellings[token], counts_as)
        return token


class Said:
    """What the model said behind the committed text, as tokens of the target."""

    def __init__(self, text: Sequence[int], target: Tokenizer, begun: bytes, again: bytes) -> None:
        """Begin with nothing; ``again`` was committed and is to be said again, then a character that was ``begun``."""
        self.must = again + begun
        self.ended = False
        self._committed, self._target, self._begun = list(text), target, begun
        self._old = len(again)
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._words = ""
        self._tokens: list[int] = []

    @property
    def text(self) -> list[int]:
        """Return the committed text with the tokens that were said."""
        return self._committed + self._tokens

    def add(self, spelled: bytes, counts_as: int | None) -> None:
        """Take in a token's bytes; one without bytes ends the text, and ``counts_as`` that token of the target."""
        self.must = self.must[len(spelled) :]
        new = self._decoder.decode(spelled[self._old :])
        self._old = max(0, self._old - len(spelled))
        if new:
            self._words += new
            self._tokens = continuation(self._target, self._committed, self._begun, self._words)
        elif not spelled and counts_as is not None and not self._decoder.getstate()[0]:
            self._tokens.append(counts_as)

    def enough(self, window: int) -> bool:
        """Say whether no more need be said for ``window`` tokens."""
        return self.ended or len(self._tokens) > window

    def first(self, window: int) -> tuple[int, ...]:
        """Return up to ``window`` tokens, without a last one that what follows could still change."""
        settled = len(self._tokens) if self.ended else max(0, len(self._tokens) - 1)
        return tuple(self._tokens[: min(window, settled)])
