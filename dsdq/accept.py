"""Which draft tokens stand, and what follows them. Pure: logits, draft and coins in, tokens out.

Neither function knows sessions, Redis or models. Both return at least one token: the target's own next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from array_api_compat import array_namespace

from dsdq import sampling
from dsdq.laws import DraftLaw
from dsdq.noise import Array, Purpose

Coin = Callable[[int, Purpose], float]
"""From an absolute position and a purpose to a number of the open unit interval; equal arguments, equal number."""


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
    drafted: Sequence[int], draft_law: DraftLaw, target_law: Array, first_position: int, coin: Coin
) -> Acceptance:
    """Speculative sampling: keep token x with probability ``min(1, p(x) / q(x))``, else draw from ``max(p - q, 0)``.

    Leviathan et al. (arXiv 2211.17192), Chen et al. (arXiv 2302.01318). The distribution is the target's if the draft
    was sampled from the law that it reports.

    Args:
        drafted: ``window`` token ids; the last may lie outside the vocabulary, where the target has no probability.
        draft_law: what they were sampled from, one row per token.
        target_law: float64 ``[window + 1, vocab]``, without its last row if the last token lies outside.
        first_position: absolute position of the first drafted token.
        coin: independent of the drafter's randomness.
    """
    xp = array_namespace(target_law)
    for place, token in enumerate(drafted):
        position = first_position + place
        p, q = target_law[place], sampling.dense(draft_law, place, target_law.shape[-1], target_law)
        if token < p.shape[0] and coin(position, Purpose.ACCEPT) * float(q[token]) < float(p[token]):
            continue
        residual = xp.clip(p - q, 0.0, None)
        weights = residual if float(xp.sum(residual)) > 0 else p
        correction = sampling.draw(weights, coin(position, Purpose.RESIDUAL))
        return Acceptance(place, (*drafted[:place], correction))
    bonus = sampling.draw(target_law[len(drafted)], coin(first_position + len(drafted), Purpose.BONUS))
    return Acceptance(len(drafted), (*drafted, bonus))
