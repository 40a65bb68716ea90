"""From logits to what stands: the contract's acceptance rule, row by row of one forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from dsdq import accept, noise, sampling
from dsdq.accept import Acceptance
from dsdq.contract import Contract, Rule
from dsdq.laws import DraftLaw
from dsdq.penalties import adjusted


@dataclass(frozen=True, slots=True)
class Judged:
    """One round before the judge: ``drafted`` continues a text of ``length`` tokens; the forward saw ``fed`` of it.

    All of it, or all but a last id that the target does not have. ``text`` and how much of it is the prompt are needed
    where the contract adjusts logits by the text.
    """

    contract: Contract
    length: int
    drafted: tuple[int, ...]
    law: DraftLaw | None
    fed: int
    text: Sequence[int] = ()
    prompt_tokens: int = 0


def judge(rounds: Sequence[Judged], logits: torch.Tensor, secret: int) -> list[Acceptance]:
    """Return what stands of each round.

    Args:
        rounds: in the order of their logits.
        logits: float32 ``[sum of (fed + 1), vocab]``.
        secret: 64 bits from which the coins of the rejection rule are derived.
    """
    # numpy computes an element's logarithm alike wherever it stands in an array; torch's vector loops on the CPU do
    # not.
    values = logits.numpy() if logits.device.type == "cpu" else logits
    accepted, start = [], 0
    for one in rounds:
        end = start + one.fed + 1
        accepted.append(_judge_one(one, values[start:end], secret))
        start = end
    return accepted


def _judge_one(one: Judged, logits: noise.Array, secret: int) -> Acceptance:
    terms = one.contract
    logits = adjusted(logits, terms.sampling, one.text, one.prompt_tokens, one.drafted)
    if terms.rule is Rule.REJECTION and one.law is not None:
        seed = noise.session_seed(secret, terms.session)
        coin = partial(_coin, seed, terms.choice)
        return accept.rejection(one.drafted, one.law, sampling.law(logits, terms.sampling), one.length, coin)
    if terms.rule is Rule.REJECTION:  # nothing drafted: a plain draw
        seed = noise.session_seed(secret, terms.session)
        weights = sampling.law(logits, terms.sampling)[0]
        return Acceptance(0, (sampling.draw(weights, _coin(seed, terms.choice, one.length, noise.Purpose.BONUS)),))
    chosen = sampling.choose(logits, terms.sampling, terms.seed, one.length, terms.choice)
    return accept.coupled(one.drafted, [int(token) for token in chosen])


def _coin(seed: int, choice: int, position: int, purpose: noise.Purpose) -> float:
    return noise.uniform(seed, position, choice, purpose)
