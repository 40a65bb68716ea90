"""The target alone, as Hugging Face runs it: what dsdq's text is compared with.

Nothing of the engine is used here. Plain greedy text is ``generate(do_sample=False)``; all other text comes from a
plain loop of forwards, one token at a time, with penalties counted token by token and the noise over the whole
vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, DynamicCache, RepetitionPenaltyLogitsProcessor
from transformers.utils import logging

from dsdq import noise, sampling
from dsdq.contract import Sampling
from dsdq.models.names import resolve

NEAR_TIE = 1e-5
"""Two scores closer than this may change places with the order of a sum: floating point decides, not the model."""


class Reference:
    """One target, decoding alone in float32 on the CPU."""

    def __init__(self, name: str) -> None:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        maker: Any = AutoModelForCausalLM
        self._model = maker.from_pretrained(resolve(name), dtype=torch.float32).eval()
        self._model.generation_config.pad_token_id = 0  # not used for one sequence, but asked for
        eos = self._model.generation_config.eos_token_id
        self.eos_ids: tuple[int, ...] = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)

    def describe(self, chosen: Sampling) -> str:
        """Return in words how the text is made."""
        plain = chosen.greedy and not chosen.adjusts
        return "Hugging Face generate" if plain else "Hugging Face forward, one token at a time, dsdq's sampler"

    @torch.inference_mode()
    def decode(self, prompt: Sequence[int], max_tokens: int, chosen: Sampling, seed: int) -> list[int]:
        """Return up to ``max_tokens`` ids behind ``prompt``, ending with the target's end of text."""
        if chosen.greedy and not chosen.adjusts:
            ids = torch.tensor([list(prompt)])
            whole = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
            )
            return [int(token) for token in whole[0, len(prompt) :]]
        text, cache = list(prompt), DynamicCache(config=self._model.config)
        fresh = text
        for position in range(len(prompt), len(prompt) + max_tokens):
            output = self._model(input_ids=torch.tensor([fresh]), past_key_values=cache, logits_to_keep=1)
            logits = penalised(output.logits[0, -1], chosen, text, len(prompt))
            scores = _scores(logits[None], chosen, seed, position)
            fresh = [int(np.argmax(scores[0]))]
            text += fresh
            if fresh[0] in self.eos_ids:
                break
        return text[len(prompt) :]

    @torch.inference_mode()
    def logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> list[list[float]]:
        """Return the log-probabilities of the whole vocabulary at each of ``ids`` behind ``prompt``."""
        logits = self._model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        values: list[list[float]] = torch.log_softmax(logits, dim=-1).tolist()
        return values

    @torch.inference_mode()
    def near_ties(self, prompt: Sequence[int], ids: Sequence[int], chosen: Sampling, seed: int) -> frozenset[int]:
        """Return the places in ``ids`` at which the two best scores are closer than ``NEAR_TIE``."""
        logits = self._model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        text = [*prompt, *ids]
        rows = [penalised(row, chosen, text[: len(prompt) + i], len(prompt)) for i, row in enumerate(logits)]
        scores = _scores(np.stack(rows), chosen, seed, len(prompt))
        best = np.sort(scores, axis=-1)[:, -2:]
        return frozenset(np.flatnonzero(best[:, 1] - best[:, 0] < NEAR_TIE).tolist())


def penalised(logits: torch.Tensor, chosen: Sampling, text: Sequence[int], prompt_tokens: int) -> NDArray[np.float64]:
    """Return logits ``[vocab]`` behind ``text`` after penalties and bias, float64: one token after another."""
    values = logits.double()[None]
    if chosen.repetition_penalty != 1:
        values = RepetitionPenaltyLogitsProcessor(chosen.repetition_penalty)(torch.tensor([list(text)]), values)
    row: NDArray[np.float64] = values[0].numpy().copy()
    for token, count in Counter(text[prompt_tokens:]).items():
        if token < len(row):
            row[token] -= chosen.frequency_penalty * count + chosen.presence_penalty
    for token, value in chosen.logit_bias:
        if token < len(row):
            row[token] += value
    return row


def _scores(logits: NDArray[np.float64], chosen: Sampling, seed: int, first_position: int) -> NDArray[np.float64]:
    """Return what the next token is the argmax of, float64 ``[n, vocab]``."""
    if chosen.greedy:
        return logits
    positions = np.arange(first_position, first_position + len(logits))
    kept: NDArray[np.float64] = sampling.scores(logits, chosen)
    noisy: NDArray[np.float64] = kept + noise.gumbel(seed, positions, np.arange(logits.shape[-1]), 0)
    return noisy


@lru_cache(maxsize=2)
def load_reference(name: str) -> Reference:
    """Load a target once."""
    return Reference(name)
