"""From logits to what stands: each contract's acceptance rule, for all rounds of one forward together.

Rows are grouped by how their token is drawn, not by session: one argmax for all greedy rows, one noisy choice for all
sampled ones. Only ids and counts leave the device that holds the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from array_api_compat import array_namespace, to_device
from numpy.typing import NDArray

from dsdq import accept, noise, sampling
from dsdq.accept import Acceptance
from dsdq.contract import Rule, Sampling
from dsdq.penalties import adjusted
from workers.engine.logprobs import top_logprobs
from workers.engine.rounds import Judged, Judgement

Ids = NDArray[np.int64]


def judge(rounds: Sequence[Judged], logits: torch.Tensor, secret: int) -> list[Judgement]:
    """Return what came of each round.

    Args:
        rounds: in the order of their logits.
        logits: float32 ``[sum of (fed + 1), vocab]``.
        secret: 64 bits from which the coins of the rejection rule are derived.
    """
    # numpy computes an element's logarithm alike wherever it stands in an array; torch's vector loops on the CPU do
    # not.
    values = logits.numpy() if logits.device.type == "cpu" else logits
    ends = np.cumsum([one.fed + 1 for one in rounds])
    own = [values[end - one.fed - 1 : end] for one, end in zip(rounds, ends.tolist(), strict=True)]
    coupled = [number for number, one in enumerate(rounds) if one.contract.rule is Rule.COUPLED]
    accepted = {
        number: _ratio_test(one, own[number], secret)
        for number, one in enumerate(rounds)
        if one.contract.rule is Rule.REJECTION
    }
    if coupled:
        # Rounds that are all drawn alike need no copy of their logits: together they are what the forward gave.
        whole = values if len({one.contract.sampling for one in rounds}) == 1 and len(coupled) == len(rounds) else None
        chosen = _choose([rounds[number] for number in coupled], [own[number] for number in coupled], whole)
        accepted.update(zip(coupled, _compare([rounds[number].drafted for number in coupled], chosen), strict=True))
    return [_judgement(one, own[number], accepted[number]) for number, one in enumerate(rounds)]


def _judgement(one: Judged, logits: noise.Array, acceptance: Acceptance) -> Judgement:
    count, tokens = one.contract.logprobs, acceptance.tokens
    return Judgement(acceptance, top_logprobs(logits[: len(tokens)], tokens, count) if count else None)


def _choose(rounds: Sequence[Judged], own: Sequence[noise.Array], whole: noise.Array | None) -> list[Ids]:
    """Return the target's own tokens under the shared noise, ``fed + 1`` of each round."""
    alike: dict[Sampling, list[int]] = {}
    for number, one in enumerate(rounds):
        alike.setdefault(one.contract.sampling, []).append(number)
    drawn: list[noise.Array] = []
    for terms, numbers in alike.items():
        some = [rounds[number] for number in numbers]
        logits = whole
        if logits is None or terms.adjusts:
            logits = _joined(terms, some, [own[number] for number in numbers])
        drawn.append(_choose_alike(terms, some, logits))
    order = [number for numbers in alike.values() for number in numbers]
    ends = np.cumsum([rounds[number].fed + 1 for number in order])
    # All groups together: the host waits for the device once.
    chosen = dict(zip(order, np.split(_host(_behind_each_other(drawn)), ends[:-1]), strict=True))
    return [chosen[number] for number in range(len(rounds))]


def _joined(terms: Sampling, rounds: Sequence[Judged], own: Sequence[noise.Array]) -> noise.Array:
    """Return the rounds' logits behind each other, ``[n, vocab]``, after penalties and biases."""
    if terms.adjusts:
        pairs = zip(rounds, own, strict=True)
        own = [adjusted(logits, terms, one.text, one.prompt_tokens, one.drafted) for one, logits in pairs]
    return _behind_each_other(own)


def _behind_each_other(parts: Sequence[noise.Array]) -> noise.Array:
    return parts[0] if len(parts) == 1 else array_namespace(parts[0]).concat(list(parts))


def _choose_alike(terms: Sampling, rounds: Sequence[Judged], logits: noise.Array) -> noise.Array:
    """Return the tokens of rounds that are drawn under equal terms, int64 ``[n]`` for logits ``[n, vocab]``."""
    if terms.greedy:
        return sampling.argmax(logits)
    counts = [one.fed + 1 for one in rounds]
    positions = np.concatenate([np.arange(one.length, one.length + one.fed + 1) for one in rounds])
    seeds = np.repeat(np.array([one.contract.seed for one in rounds], np.uint64), counts)
    choices = np.repeat([one.contract.choice for one in rounds], counts)
    if not isinstance(logits, np.ndarray):
        whose = torch.from_numpy(np.stack([seeds.view(np.int64), positions, choices]))
        return sampling.choose_rows(logits, terms, *whose.to(logits.device, non_blocking=True))
    from workers.engine.cpu_sampling import choose_rows  # noqa: PLC0415 - a machine with a GPU needs no numba

    if terms.plain:
        return choose_rows(logits, terms.temperature, seeds.tolist(), positions, choices.tolist())
    return choose_rows(sampling.scores(logits, terms), 1.0, seeds.tolist(), positions, choices.tolist())


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
        """Return this session's own."""
        return noise.uniforms(seed, positions, terms.choice, purpose)

    adjusted_logits = adjusted(logits, terms.sampling, one.text, one.prompt_tokens, one.drafted)
    law = sampling.law(adjusted_logits, terms.sampling)
    if one.law is None:  # nothing drafted: a plain draw
        (coin,) = coins(np.array([one.length]), noise.Purpose.BONUS)
        return Acceptance(0, (sampling.draw(law[0], coin),))
    return accept.rejection(one.drafted, one.law, law, one.length, coins)


def _host(ids: noise.Array) -> Ids:
    return np.asarray(to_device(ids, "cpu"))
