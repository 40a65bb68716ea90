"""The judge on the real pair's logits: both rules draw the target's next token."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import torch

from dsdq import sampling
from dsdq.contract import Contract, Rule, Sampling
from dsdq.laws import DraftLaw
from dsdq.models.names import resolve
from dsdq.models.target import load_target
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.reference import penalised
from producers.drafters.llama import LlamaDrafter
from tests.dsdq.test_sampling import LEAST_P, SEED, fits
from workers.engine import judge as judging
from workers.engine.engine import Engine
from workers.engine.judge import judge
from workers.engine.memory import KvMemory
from workers.engine.rounds import Judged
from workers.engine.rows import Row

PROMPT = "def "
DRAWS = 6_000  # the rules alone draw more
TOGETHER = 200  # rounds of one forward


@cache
def pair_logits() -> tuple[torch.Tensor, np.ndarray]:
    """Return the target's logits ``[1, vocab]`` and the draft's ``[vocab]`` behind the prompt."""
    ids = Tokenizer.load("builtin/target").encode(PROMPT)
    engine = Engine(load_target("builtin/target"), KvMemory(tokens=128))
    draft = LlamaDrafter(resolve("builtin/draft"))  # type: ignore[arg-type]
    return engine.forward([Row("s", 0, ids, 1, (0,))]), draft.stepper().feed(ids, 0)


def contract(chosen: Sampling, rule: Rule, number: int) -> Contract:
    return Contract("t", "p", f"s{number}", "m", "f", sampling=chosen, rule=rule, seed=number, trusted=True)


@pytest.mark.parametrize("chosen", [Sampling(0.7), Sampling(1.0, 50, 0.95)], ids=str)
@pytest.mark.parametrize("rule", Rule)
def test_next_tokens_follow_the_targets_distribution(rule: Rule, chosen: Sampling) -> None:
    target, draft = pair_logits()
    source, draws = random.Random(SEED), np.empty(DRAWS, dtype=np.int64)
    reported = sampling.truncated_law(draft, chosen)
    weights = reported.weights[0].astype(float)
    rounds = []
    for number in range(DRAWS):
        terms = contract(chosen, rule, number)
        if rule is Rule.COUPLED:
            token = sampling.choose_on_device(draft, chosen, terms.seed, 0, 0)
            rounds.append(Judged(terms, 0, (token,), None, 1))
        else:
            token = int(reported.ids[0, sampling.draw(weights, source.random())])
            rounds.append(Judged(terms, 0, (token,), reported, 1))
    for first in range(0, DRAWS, TOGETHER):
        results = judge(rounds[first : first + TOGETHER], target.repeat(2 * TOGETHER, 1), secret=SEED)
        draws[first : first + TOGETHER] = [result.acceptance.tokens[0] for result in results]
    assert fits(draws, sampling.law(target.numpy(), chosen)[0]) > LEAST_P


def test_rounds_are_judged_each_by_its_own_contract_and_rows() -> None:
    target, _ = pair_logits()
    logits = target.repeat(6, 1)
    best = int(target.argmax())
    rounds = [
        Judged(contract(Sampling(), Rule.COUPLED, 1), 5, (best, best), None, 2),
        Judged(contract(Sampling(), Rule.COUPLED, 2), 9, (best + 1,), None, 1),
        Judged(contract(Sampling(1.0), Rule.REJECTION, 3), 9, (), None, 0),
    ]
    first, second, third = (one.acceptance for one in judge(rounds, logits, secret=1))
    assert (first.accepted, first.tokens) == (2, (best,) * 3)
    assert (second.accepted, second.tokens) == (0, (best,))
    assert len(third.tokens) == 1


@pytest.mark.parametrize("rule", Rule)
def test_penalties_follow_the_text_and_the_window_before_each_position(rule: Rule) -> None:
    logits = torch.zeros(4, 10)
    logits[:, 5], logits[:, 6], logits[:, 7] = 3.0, 2.5, 1.0
    chosen = Sampling(frequency_penalty=2.0)
    # Token 5 was prompted, which does not count: 5 -> 1, then 6 -> 0.5; then 5 and 7 are level, to the lower id.
    law = DraftLaw(np.array([[5], [6], [5]], np.uint32), np.ones((3, 1), np.uint16)) if rule is Rule.REJECTION else None
    one = Judged(contract(chosen, rule, 1), 2, (5, 6, 5), law, 3, text=(5, 5), prompt_tokens=2)
    (result,) = judge([one], logits, secret=SEED)
    assert (result.acceptance.accepted, result.acceptance.tokens) == (3, (5, 6, 5, 7))


@pytest.mark.parametrize(
    "chosen", [Sampling(0.7, presence_penalty=1.5), Sampling(1.0, repetition_penalty=2.0)], ids=str
)
@pytest.mark.parametrize("rule", Rule)
def test_adjusted_next_tokens_follow_the_adjusted_distribution(rule: Rule, chosen: Sampling) -> None:
    target, _ = pair_logits()
    likeliest = target[0].topk(3).indices.tolist()
    text, draws = [9, *likeliest], np.empty(DRAWS, dtype=np.int64)
    rounds = [Judged(contract(chosen, rule, number), len(text), (), None, 0, text, 1) for number in range(DRAWS)]
    for first in range(0, DRAWS, TOGETHER):
        results = judge(rounds[first : first + TOGETHER], target.repeat(TOGETHER, 1), secret=SEED)
        draws[first : first + TOGETHER] = [result.acceptance.tokens[0] for result in results]
    plainly = penalised(target[0], chosen, text, 1)[None]
    assert fits(draws, sampling.law(plainly, chosen)[0]) > LEAST_P


def test_a_device_cannot_know_the_coins_of_the_rejection_rule() -> None:
    target, _ = pair_logits()
    terms = contract(Sampling(1.0), Rule.REJECTION, 1)
    drawn = {judge([Judged(terms, 0, (), None, 0)], target, secret)[0].acceptance.tokens for secret in range(20)}
    assert len(drawn) > 1


def test_a_gpu_chooses_what_the_cpu_does_and_all_rounds_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.from_numpy(np.random.default_rng(SEED).normal(scale=2.5, size=(12, 300)).astype(np.float32))
    terms = [Sampling(), Sampling(0.7), Sampling(), Sampling(1.0, 40, 0.9), Sampling(0.7, frequency_penalty=1.0)]
    feds = [2, 3, 0, 1, 1]
    rounds = [
        Judged(contract(chosen, Rule.COUPLED, 2**64 - 1 - number), 9, (1,) * fed, None, fed, (4, 1), 1)
        for number, (chosen, fed) in enumerate(zip(terms, feds, strict=True))
    ]
    own = list(logits.split([fed + 1 for fed in feds]))
    wanted = judging._choose(rounds, [part.numpy() for part in own], None)
    fetched: list[int] = []
    host = judging._host
    monkeypatch.setattr(judging, "_host", lambda ids: fetched.append(len(ids)) or host(ids))
    got = judging._choose(rounds, own, None)
    assert [ids.tolist() for ids in got] == [ids.tolist() for ids in wanted]
    assert fetched == [12]
