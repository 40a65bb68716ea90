"""From logits to what stands: each contract's acceptance rule, for all rounds of one forward together.

Rows are grouped by how their token is drawn, not by session: one argmax for all greedy rows, one noisy choice for all
sampled ones. Only ids and counts leave the device that holds the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from array_api_compat import to_device
from numpy.typing import NDArray

from dsdq import accept, noise, sampling
from dsdq.accept import Acceptance
from dsdq.contract import Contract, Rule, Sampling
from dsdq.laws import DraftLaw

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """One round before the judge: ``drafted`` continues a text of ``length`` tokens; the forward saw ``fed`` of it.

    All of it, or all but a last id that the target does not have.
    """

    contract: Contract
    length: int
    drafted: tuple[int, ...]
    law: DraftLaw | None
    fed: int


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
    ends = np.cumsum([one.fed + 1 for one in rounds])
    starts = ends - [one.fed + 1 for one in rounds]
    coupled = [number for number, one in enumerate(rounds) if one.contract.rule is Rule.COUPLED]
    accepted: dict[int, Acceptance] = {}
    if coupled:
        chosen = _choose([rounds[number] for number in coupled], starts[coupled], values)
        accepted.update(zip(coupled, _compare([rounds[number].drafted for number in coupled], chosen), strict=True))
    for number, one in enumerate(rounds):
        if one.contract.rule is Rule.REJECTION:
            accepted[number] = _ratio_test(one, values[starts[number] : ends[number]], secret)
    return [accepted[number] for number in range(len(rounds))]


def _choose(rounds: Sequence[Judged], starts: Ids, values: noise.Array) -> list[Ids]:
    """Return the target's own tokens under the shared noise, ``fed + 1`` of each round."""
    counts = np.array([one.fed + 1 for one in rounds])
    owners = np.repeat(np.arange(len(rounds)), counts)
    behind = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows, chosen = starts[owners] + behind, np.empty(len(owners), np.int64)
    for terms in {one.contract.sampling for one in rounds}:
        (places,) = np.nonzero(np.array([one.contract.sampling == terms for one in rounds])[owners])
        some = [rounds[owner] for owner in owners[places]]
        positions = np.array([one.length for one in some]) + behind[places]
        chosen[places] = _choose_alike(terms, some, rows[places], positions, values)
    return np.split(chosen, np.cumsum(counts)[:-1])


def _choose_alike(terms: Sampling, owners: Sequence[Judged], rows: Ids, positions: Ids, values: noise.Array) -> Ids:
    """Return the tokens of ``rows`` ``[n]``, all drawn under equal terms; ``owners`` ``[n]`` are their rounds."""
    whole = len(rows) == len(values)
    if terms.greedy:
        return np.asarray(_host(sampling.argmax(values if whole else values[rows])))
    seeds = [one.contract.seed for one in owners]
    choices = [one.contract.choice for one in owners]
    if not isinstance(values, np.ndarray):
        return np.asarray(_host(sampling.choose_rows(values[rows], terms, seeds, positions, choices)))
    from workers.engine.cpu_sampling import choose_rows  # noqa: PLC0415 - a machine with a GPU needs no numba

    if terms.plain:
        return choose_rows(values, rows, np.full(len(rows), terms.temperature), seeds, positions, choices)
    kept = sampling.scores(values[rows], terms)
    return choose_rows(kept, np.arange(len(rows)), np.ones(len(rows)), seeds, positions, choices)


def _compare(drafted: Sequence[tuple[int, ...]], chosen: Sequence[Ids]) -> list[Acceptance]:
    """Keep of each draft what the target chose itself, then its next choice; see :func:`dsdq.accept.coupled`."""
    widest = max(map(len, drafted))
    draft, own = np.full((len(drafted), widest), -1), np.full((len(drafted), widest), -2)
    for number, (tokens, ids) in enumerate(zip(drafted, chosen, strict=True)):
        draft[number, : len(tokens)] = tokens
        own[number, : min(len(ids), widest)] = ids[:widest]
    counts = np.cumprod(draft == own, axis=1).sum(axis=1).tolist()
    return [Acceptance(count, tuple(ids[: count + 1].tolist())) for count, ids in zip(counts, chosen, strict=True)]


def _ratio_test(one: Judged, logits: noise.Array, secret: int) -> Acceptance:
    terms = one.contract
    seed = noise.session_seed(secret, terms.session)

    def coins(positions: NDArray[np.int64], purpose: noise.Purpose) -> NDArray[np.float64]:
        return noise.uniforms(seed, positions, terms.choice, purpose)

    law = sampling.law(logits, terms.sampling)
    if one.law is None:  # nothing drafted: a plain draw
        (coin,) = coins(np.array([one.length]), noise.Purpose.BONUS)
        return Acceptance(0, (sampling.draw(law[0], coin),))
    return accept.rejection(one.drafted, one.law, law, one.length, coins)


def _host(ids: noise.Array) -> noise.Array:
    return to_device(ids, "cpu")
