"""A drafter that is right as often as it is told, and says the same again when it is asked again."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing import hashed as module
from dsdq.testing.hashed import decode
from producers.drafters import load_drafter
from producers.drafters.recorded import RecordedDrafter
from tests.producers.drafters.conftest import Until

CONTRACT = Contract("acme", "phone", "s1", "testing/hash", "f", seed=11)
TOKENIZER = Tokenizer.load("builtin/target")
TEXT = (5, 6, 7)
MANY = 4000


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7)], ids=str)
def test_a_perfect_one_proposes_the_targets_own_text(sampling: Sampling) -> None:
    contract = replace(CONTRACT, sampling=sampling, choice=2)
    session = RecordedDrafter(1.0).start(contract, TOKENIZER)
    assert list(session.propose(TEXT, 9).tokens) == decode(TEXT, 9, sampling, contract.seed, contract.choice)


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.8, 1.0])
def test_so_many_of_its_tokens_are_right(acceptance: float) -> None:
    drafted = RecordedDrafter(acceptance).start(CONTRACT, TOKENIZER).propose(TEXT, MANY).tokens
    right = sum(token == own for token, own in zip(drafted, decode(TEXT, MANY), strict=True))
    assert abs(right / MANY - acceptance) <= 4 * (acceptance * (1 - acceptance) / MANY) ** 0.5


def test_a_draft_depends_on_seed_and_text_alone() -> None:
    drafter, text = RecordedDrafter(0.5), [*TEXT, *decode(TEXT, 20)]
    session = drafter.start(CONTRACT, TOKENIZER)
    first = [session.propose(text[:length], 8).tokens for length in range(3, 23)]
    again = [drafter.start(CONTRACT, TOKENIZER).propose(text[:length], 8).tokens for length in range(3, 23)]
    assert first == again
    assert first[0][1:] == first[1][:7]
    assert (
        drafter.start(replace(CONTRACT, seed=12), TOKENIZER).propose(TEXT, 64).tokens
        != session.propose(TEXT, 64).tokens
    )


def test_each_token_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, drafted_s = 7.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        drafted_s.append(now_s)

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep, perf_counter=lambda: now_s))
    RecordedDrafter(1.0, ms_per_token=250).start(CONTRACT, TOKENIZER).propose(TEXT, 4)
    assert drafted_s == [7.25, 7.5, 7.75, 8.0]


def test_a_draft_ends_where_it_is_told_to() -> None:
    session = RecordedDrafter(0.5).start(CONTRACT, TOKENIZER)
    go_on = Until(3)
    assert session.propose(TEXT, 8, go_on).tokens == session.propose(TEXT, 3).tokens
    assert go_on.asked == [(length, None) for length in (1, 2, 3)]


def test_under_the_rejection_rule_it_reports_what_it_is_sure_of() -> None:
    proposal = (
        RecordedDrafter(1.0).start(replace(CONTRACT, rule=Rule.REJECTION, trusted=True), TOKENIZER).propose(TEXT, 3)
    )
    assert proposal.law is not None
    assert proposal.law.ids[:, 0].tolist() == list(proposal.tokens)


def test_its_name_says_how_good_and_how_fast() -> None:
    drafter = load_drafter("hash:0.25:3")
    assert drafter.fingerprint == ""
    assert drafter.start(CONTRACT, TOKENIZER).propose(TEXT, 64) == RecordedDrafter(0.25).start(
        CONTRACT, TOKENIZER
    ).propose(TEXT, 64)


@pytest.mark.parametrize("name", ["hash:", "hash:x", "hash:0.5:1:2", "hash:1.5", "hash:nan", "hash:0.5:-1"])
def test_a_name_that_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        load_drafter(name)
