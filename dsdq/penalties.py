"""What the text so far and the contract's biases do to logits, before temperature and all that follows.

In this order, in float64, with ``c`` the number of times that a token was generated:

1. repetition penalty ``r`` (Keskar et al., CTRL, arXiv 1909.05858), for tokens of prompt or generated text: a logit
   above 0 is divided by r, another one multiplied;
2. minus ``frequency_penalty * c + presence_penalty * [c > 0]``, as the OpenAI API defines them;
3. plus the token's bias.

Arrays of numpy or torch alike; equal bit for bit in both, since every element takes the same few rounded steps.
Device and verifier both call this, so a device's draft knows the text that it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from dsdq.contract import Sampling
from dsdq.noise import Array


def adjusted(
    logits: Array, sampling: Sampling, text: Sequence[int], prompt_tokens: int, window: Sequence[int]
) -> Array:
    """Return the logits after penalties and bias; as they came when the contract asks for none.

    Args:
        logits: float ``[n, vocab]`` with n up to ``len(window) + 1``; row i lies behind ``text + window[:i]``.
        sampling: the contract's.
        text: prompt and generated token ids.
        prompt_tokens: how many of ``text`` are the prompt.
        window: token ids that follow the text; like all others they may lie outside the vocabulary, where nothing
            happens.

    Returns:
        float64 ``[n, vocab]``, a new array on the device of ``logits``.
    """
    if not sampling.adjusts:
        return logits
    xp = array_namespace(logits)
    rows, vocab = logits.shape
    # Nothing but the repetition penalty looks at the prompt, which may be long.
    prompt = text[:prompt_tokens] if sampling.repetition_penalty != 1 else ()
    known = _Text.of(prompt, text[prompt_tokens:], window[: rows - 1], vocab)
    changes = _changes(sampling, known, rows)
    values = xp.astype(logits, xp.float64, copy=True)
    ids, repeated, less, more = (xp.asarray(one, device=logits.device) for one in changes)
    touched = values[:, ids]
    factor = sampling.repetition_penalty
    scaled = xp.where(touched > 0, touched / factor, touched * factor)
    values[:, ids] = xp.where(repeated, scaled, touched) - less + more
    return values


@dataclass(frozen=True, slots=True)
class _Text:
    """The ids of a text within a vocabulary, int64: prompt ``[p]``, generated ``[g]``; ``window`` [w] as it came."""

    prompt: NDArray[np.int64]
    generated: NDArray[np.int64]
    window: NDArray[np.int64]
    vocab: int

    @staticmethod
    def of(prompt: Sequence[int], generated: Sequence[int], window: Sequence[int], vocab: int) -> _Text:
        """Return the arrays of a text's parts."""
        before, since, drafted = (np.asarray(one, dtype=np.int64) for one in (prompt, generated, window))
        return _Text(before[before < vocab], since[since < vocab], drafted, vocab)


def _changes(sampling: Sampling, text: _Text, rows: int) -> tuple[NDArray[np.generic], ...]:
    """Return what changes, and how, for the ``m`` tokens that anything happens to.

    Their ids ``[m]``; where the repetition penalty applies, bool ``[rows, m]``; what is subtracted, float64
    ``[rows, m]``; what is added, float64 ``[m]``.
    """
    bias_ids = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
    biases = np.array([value for _, value in sampling.logit_bias])
    inside = bias_ids < text.vocab
    ids = np.unique(np.concatenate([text.prompt, text.generated, text.window, bias_ids]))
    ids = ids[ids < text.vocab]
    counts = _counts(ids, text, rows)
    repeated = (counts > 0) | np.isin(ids, text.prompt)
    less = sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
    more = np.zeros(len(ids))
    more[np.searchsorted(ids, bias_ids[inside])] = biases[inside]
    return ids, repeated, less, more


def _counts(ids: NDArray[np.int64], text: _Text, rows: int) -> NDArray[np.float64]:
    """Return how often each of ``ids`` (ascending) was generated before each row, ``[rows, len(ids)]``."""
    steps = np.zeros((rows, len(ids)))
    steps[0] = np.bincount(np.searchsorted(ids, text.generated), minlength=len(ids))
    (places,) = np.nonzero(text.window < text.vocab)
    steps[places + 1, np.searchsorted(ids, text.window[places])] = 1
    counts: NDArray[np.float64] = np.cumsum(steps, axis=0)
    return counts
