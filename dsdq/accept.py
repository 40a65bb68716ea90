"""Which draft tokens stand, and what follows them. Pure: logits, draft and coins in, tokens out.

Neither function knows sessions, Redis or models. Both return at least one token: the target's own next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from array_api_compat import array_namespace, to_device
from numpy.typing import NDArray

from dsdq import sampling
from dsdq.laws import DraftLaw
from dsdq.noise import Array, Purpose

Coins = Callable[[NDArray[np.int64], Purpose], NDArray[np.float64]]
"""From absolute positions and a purpose to numbers of the open unit interval; equal arguments, equal numbers."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """``tokens`` are the target's: the first ``accepted`` were drafted, the last one is a correction or a bonus."""

    accepted: int
    tokens: tuple[int, ...]


def coupled(drafted: Sequence[int], chosen: Sequence[int]) -> Acceptance:
    """Keep the draft tokens that the target chose itself, under the same noise, then its next choice.

    The text is a function of the target and the noise alone; the draft only decides how much of it comes at once.

    Args:
        drafted: ``window`` token ids.
        chosen: the target's ``window + 1`` choices, each after the draft tokens before it; the last may be missing if
            the last draft token is one that the target cannot choose.
    """
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == chosen[accepted]:
        accepted += 1
    return Acceptance(accepted, tuple(chosen[: accepted + 1]))


def rejection(
    drafted: Sequence[int], draft_law: DraftLaw, target_law: Array, first_position: int, coins: Coins
) -> Acceptance:
    """Speculative sampling: keep token x with probability ``min(1, p(x) / q(x))``, else draw from ``max(p - q, 0)``.

    Leviathan et al. (arXiv 2211.17192), Chen et al. (arXiv 2302.01318). The distribution is the target's if the draft
    was sampled from the law that it reports.

    Args:
        drafted: ``window`` token ids; the last may lie outside the vocabulary, where the target has no probability.
        draft_law: what they were sampled from, one row per token.
        target_law: float64 ``[window + 1, vocab]``, without its last row if the last token lies outside.
        first_position: absolute position of the first drafted token.
        coins: independent of the drafter's randomness.
    """
    xp = array_namespace(target_law)
    window, vocab = len(drafted), target_law.shape[-1]
    ids, positions = np.array(drafted), first_position + np.arange(window + 1)
    inside = ids < vocab
    places = np.flatnonzero(inside)
    here = partial(xp.asarray, device=target_law.device)
    p = np.zeros(window)
    p[inside] = to_device(target_law[here(places), here(ids[inside])], "cpu")
    kept = coins(positions[:-1], Purpose.ACCEPT) * sampling.probabilities(draft_law, ids) < p
    count = window if kept.all() else int(np.argmin(kept))
    if count == window:
        weights, purpose = target_law[window], Purpose.BONUS
    else:
        law = target_law[count]
        residual = xp.clip(law - sampling.dense(draft_law, count, vocab, target_law), 0.0, None)
        weights, purpose = residual if float(xp.sum(residual)) > 0 else law, Purpose.RESIDUAL
    (coin,) = coins(positions[count : count + 1], purpose)
    return Acceptance(count, (*drafted[:count], sampling.draw(weights, coin)))
