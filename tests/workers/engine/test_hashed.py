"""The hash model's engine gives its text over any pages, and another one as soon as the pages are not right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dsdq.accept import Acceptance
from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import ModelError
from dsdq.policies.batching import StepBudget
from dsdq.policies.paging import BLOCK
from dsdq.testing.hashed import VOCAB_SIZE, decode
from workers.engine import hashed as module
from workers.engine.hashed import HashEngine
from workers.engine.planner import Planner, Request
from workers.engine.rounds import Judged
from workers.engine.rows import Row

CONTRACT = Contract("acme", "phone", "s", "testing/hash", "f", seed=3)
PROMPT = [7, 8, 9] * 30
OWN = decode(PROMPT, 10)


def verify(
    engine: HashEngine,
    text: Sequence[int],
    drafted: Sequence[int] = (),
    *,
    start: int = 0,
    blocks: tuple[int, ...] = (2, 0, 3),
    contract: Contract = CONTRACT,
) -> Acceptance:
    """Verify a draft behind ``text``, of which what lies before ``start`` was fed before."""
    row = Row("s", start, (*text[start:], *drafted), len(drafted) + 1, blocks)
    (judgement,) = engine.verify([row], [Judged(contract, len(text), tuple(drafted), None, len(drafted))], 0)
    return judgement.acceptance


@pytest.mark.parametrize("right", [0, 1, 4])
def test_the_longest_right_beginning_of_a_draft_stands_and_the_models_own_token_follows(right: int) -> None:
    drafted = [*OWN[:right], *(token + 1 for token in OWN[right:4])]
    assert verify(HashEngine(4), PROMPT, drafted) == Acceptance(right, tuple(OWN[: right + 1]))


def test_both_rules_and_every_temperature_are_the_texts_of_their_contracts() -> None:
    trusted = replace(CONTRACT, rule=Rule.REJECTION, trusted=True)
    assert verify(HashEngine(4), PROMPT, OWN[:3], contract=trusted) == Acceptance(3, tuple(OWN[:4]))
    warm = replace(CONTRACT, sampling=Sampling(temperature=0.5), choice=1)
    own = tuple(decode(PROMPT, 3, warm.sampling, warm.seed, warm.choice))
    assert verify(HashEngine(4), PROMPT, own[:2], contract=warm) == Acceptance(2, own)


def test_a_last_draft_token_outside_of_the_vocabulary_is_rejected() -> None:
    row = Row("s", 0, (*PROMPT, *OWN[:1]), 2, (0, 1))
    judged = Judged(CONTRACT, len(PROMPT), (OWN[0], VOCAB_SIZE), None, 1)
    (judgement,) = HashEngine(2).verify([row], [judged], 0)
    assert judgement.acceptance == Acceptance(1, tuple(OWN[:2]))


def test_a_text_may_be_fed_in_pieces_and_a_rejected_draft_is_overwritten() -> None:
    engine = HashEngine(4)
    assert engine.verify([Row("s", 0, PROMPT[:50], 0, (2,))], [], 0) == []
    assert verify(engine, PROMPT, [1, 2, 3], start=50) == Acceptance(0, (OWN[0],))
    assert verify(engine, [*PROMPT, OWN[0]], OWN[1:3], start=len(PROMPT)) == Acceptance(2, tuple(OWN[1:4]))


@pytest.mark.parametrize(
    ("start", "blocks", "right"),
    [
        (len(PROMPT), (2, 0, 3), True),
        (len(PROMPT), (2, 1, 3), False),
        (len(PROMPT), (0, 2, 3), False),
        (len(PROMPT) + 1, (2, 0, 3), False),
    ],
    ids=["its own", "a block never written", "blocks in another order", "a rejected token not fed again"],
)
def test_pages_that_are_not_the_texts_own_show_as_another_text(
    start: int, blocks: tuple[int, ...], right: bool
) -> None:
    engine = HashEngine(4)
    verify(engine, PROMPT, [OWN[0] + 1])
    assert (verify(engine, [*PROMPT, *OWN[:2]], start=start, blocks=blocks).tokens == (OWN[2],)) is right


def test_a_block_that_another_session_took_shows_as_another_text() -> None:
    engine = HashEngine(4)
    verify(engine, PROMPT)
    verify(engine, [2] * BLOCK, blocks=(2, 1))
    assert verify(engine, [*PROMPT, OWN[0]], start=len(PROMPT)).tokens != (OWN[1],)


def test_many_texts_over_few_pages_are_all_their_own() -> None:
    rng = random.Random(5)
    engine, planner = HashEngine(6), Planner(6, StepBudget(24, 48))
    texts = {f"s{number}": [rng.randrange(VOCAB_SIZE) for _ in range(40 + 9 * number)] for number in range(8)}
    wanted = {name: text + decode(text, 60) for name, text in texts.items()}
    for name in texts:
        planner.admit(name, "")
    for step in range(1000):
        waiting = {name: text for name, text in texts.items() if len(text) < len(wanted[name])}
        drafts = {name: tuple(wanted[name][len(text) :][: rng.randint(0, 4)]) for name, text in waiting.items()}
        if not waiting:
            break
        rows = planner.plan([Request(name, text, drafts[name], step) for name, text in waiting.items()], step)
        kept = [row.session for row in rows if row.keep]
        rounds = [Judged(CONTRACT, len(texts[name]), drafts[name], None, len(drafts[name])) for name in kept]
        for row in rows:
            planner.computed(row.session, texts[row.session], min(row.end, len(texts[row.session])))
        for name, judgement in zip(kept, engine.verify(rows, rounds, 0), strict=True):
            texts[name] += judgement.acceptance.tokens
            planner.computed(name, texts[name], len(texts[name]) - 1)
    assert planner.evictions > 0
    assert all(text[: len(wanted[name])] == wanted[name] for name, text in texts.items())


def test_a_row_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ModelError, match="below 4"):
        verify(HashEngine(4), PROMPT, blocks=(2, 4))
    with pytest.raises(ModelError, match="below 2048"):
        verify(HashEngine(4), PROMPT, [VOCAB_SIZE])


def test_a_step_takes_what_is_left_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    times = iter((10.0, 10.002, 20.0, 20.5))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(module.time, "sleep", slept.append)
    engine = HashEngine(4, step_ms=5, position_ms=0.5)
    verify(engine, PROMPT)
    verify(engine, PROMPT)
    assert slept == [pytest.approx(0.003 + 0.0005 * len(PROMPT)), 0.0]
