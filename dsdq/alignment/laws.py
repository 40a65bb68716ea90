"""How far apart two next-token laws are, place by place. Pure.

A draft token sampled from q and judged by the ratio test against p stands with probability ``Σ min(p, q) = 1 - TV``
(Leviathan et al., arXiv 2211.17192). Drawn with the target's own Gumbel noise it stands with at least
``(1 - TV) / (1 + TV)`` (Daliri et al., arXiv 2408.07978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsdq import sampling
from dsdq.alignment.sides import Logits
from dsdq.contract import Sampling

_ROWS = 64
"""Places whose laws are computed together: in float64 a vocabulary of 150,000 takes 77 MB then."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distances:
    """How the laws differ at each of n places.

    Attributes:
        tv: total variation at the sampling temperature, at 1 where sampling is greedy, float64 ``[n]``.
        kl: KL(target || draft) in nats at the same temperature, float64 ``[n]``.
        overlap: 1 - TV after all processors: what the ratio test accepts, float64 ``[n]``. (That a drafter reports its
            64 likeliest tokens only is not taken in.)
        agrees: whether both have the same likeliest token, bool ``[n]``.
    """

    tv: Floats
    kl: Floats
    overlap: Floats
    agrees: NDArray[np.bool_]

    @property
    def coupled_least(self) -> Floats:
        """Return the least that shared noise accepts at each place."""
        return self.overlap / (2 - self.overlap)


def law_temperature(chosen: Sampling) -> float:
    """Return the temperature at which laws are compared: greedy decoding has point masses only."""
    return chosen.temperature or 1.0


def distances(target: Logits, draft: Logits, chosen: Sampling) -> Distances:
    """Compare the laws of two models that share a tokenizer.

    Args:
        target: ``[n, vocab]``.
        draft: ``[n, vocab]``; models may pad their vocabulary differently, ids that only one has are never drafted.
        chosen: how tokens are drawn.
    """
    parts = [_some(target[at : at + _ROWS], draft[at : at + _ROWS], chosen) for at in range(0, len(target), _ROWS)]
    return joined(parts)


def joined(parts: list[Distances]) -> Distances:
    """Return the distances of several texts as one."""
    names = ("tv", "kl", "overlap", "agrees")
    return Distances(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _some(target: Logits, draft: Logits, chosen: Sampling) -> Distances:
    plain = Sampling(law_temperature(chosen))
    width = min(target.shape[1], draft.shape[1])
    return Distances(
        tv=1 - _overlap(target, draft, plain),
        kl=_kl(target[:, :width], draft[:, :width], plain),
        overlap=_overlap(target, draft, chosen),
        agrees=sampling.argmax(target) == sampling.argmax(draft),
    )


def _overlap(target: Logits, draft: Logits, chosen: Sampling) -> Floats:
    width = min(target.shape[1], draft.shape[1])
    common = np.minimum(sampling.law(target, chosen)[:, :width], sampling.law(draft, chosen)[:, :width])
    shares: Floats = np.minimum(common.sum(axis=1), 1.0)
    return shares


def _kl(target: Logits, draft: Logits, plain: Sampling) -> Floats:
    """Return Σ p·log(p/q); a token that the target never says adds nothing."""
    log_p, log_q = _log_law(target, plain), _log_law(draft, plain)
    p = np.exp(log_p)
    ratios = np.subtract(log_p, log_q, out=np.zeros_like(p), where=p > 0)
    nats: Floats = np.maximum((p * ratios).sum(axis=1), 0.0)
    return nats


def _log_law(logits: Logits, plain: Sampling) -> Floats:
    values = sampling.scores(logits, plain)
    values = values - values.max(axis=1, keepdims=True)
    result: Floats = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return result
