"""Fair share: nobody gets ahead by more than a step, nobody waits for nothing, nobody saves up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.batching import Share, StepBudget, Work, fill
from dsdq.policies.fairness import FairShare, Prices, guaranteed
from tests.dsdq.policies.test_batching import EnoughRoom

BUDGET = 40
WIDEST = 9
TENANTS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.floats(0.25, 4), min_size=2)
PRICES = st.builds(Prices, row_ms=st.floats(0, 3), position_ms=st.floats(0.05, 2))
SIZES = st.lists(st.integers(1, WIDEST), min_size=1, max_size=7)


def fair_to(weights: Mapping[str, float], prices: Prices = Prices(), credit_positions: int = 0) -> FairShare:  # noqa: B008
    fair = FairShare(credit_positions=credit_positions)
    fair.weights, fair.prices = weights, prices
    return fair


def serve(fair: FairShare, works: Sequence[Work], prefill_tokens: int = 100) -> Sequence[Share]:
    """Take a step and charge for it what its prices say."""
    tenants = {work.session: work.tenant for work in works}
    shares = fill(fair.order(works), StepBudget(BUDGET, prefill_tokens), EnoughRoom())
    for share in shares:
        fair.charge(tenants[share.session], fair.prices.of(share.prefill + share.verify))
    verified = {share.session for share in shares if share.verify}
    fair.kept_waiting(work.tenant for work in works if work.session not in verified)
    return shares


class Crowd:
    """Tenants with sessions that always want something, served step by step."""

    def __init__(self, fair: FairShare, waiting: Mapping[str, Sequence[int]]) -> None:
        self.fair, self.served = fair, dict.fromkeys(waiting, 0.0)
        self._numbers, self._sizes = count(), {tenant: list(sizes) for tenant, sizes in waiting.items()}
        self._turns = dict.fromkeys(waiting, 0)
        self.works = {one.session: one for tenant in waiting for one in (self._next(tenant) for _ in range(BUDGET + 1))}

    def _next(self, tenant: str) -> Work:
        sizes, turn = self._sizes[tenant], self._turns[tenant]
        self._turns[tenant] += 1
        number = next(self._numbers)
        return Work(f"{tenant}{number}", 0, 0, sizes[turn % len(sizes)], float(number), tenant)

    def step(self) -> Sequence[Share]:
        """Serve a step; who was served comes again at once."""
        shares = serve(self.fair, list(self.works.values()))
        for share in shares:
            work = self.works.pop(share.session)
            self.served[work.tenant] += self.fair.prices.of(share.verify)
            fresh = self._next(work.tenant)
            self.works[fresh.session] = fresh
        return shares


@given(TENANTS, PRICES, st.lists(SIZES, min_size=4, max_size=4), st.integers(1, 60))
def test_of_tenants_that_always_have_work_none_gets_ahead_by_more_than_a_step(
    weights: dict[str, float], prices: Prices, sizes: list[list[int]], steps: int
) -> None:
    crowd = Crowd(fair_to(weights, prices), dict(zip(weights, sizes, strict=False)))
    for _ in range(steps):
        crowd.step()
    got = [crowd.served[tenant] / weight for tenant, weight in weights.items()]
    assert max(got) - min(got) <= 2 * prices.of(WIDEST) / min(weights.values()) + 1e-6


@given(TENANTS, st.lists(SIZES, min_size=4, max_size=4))
def test_no_room_is_left_where_something_waits_that_fits(weights: dict[str, float], sizes: list[list[int]]) -> None:
    crowd = Crowd(fair_to(weights), dict(zip(weights, sizes, strict=False)))
    for _ in range(20):
        taken = sum(share.verify for share in crowd.step())
        assert taken > BUDGET - WIDEST


@given(
    TENANTS,
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 200), st.integers(1, 9)), max_size=30),
)
def test_every_work_has_its_turn_once(weights: dict[str, float], wanted: list[tuple[str, int, int]]) -> None:
    works = [
        Work(str(number), 0, prefill, verify, 0.0, tenant) for number, (tenant, prefill, verify) in enumerate(wanted)
    ]
    assert sorted(work.session for work in fair_to(weights).order(works)) == sorted(work.session for work in works)


@pytest.mark.parametrize("weight", [1.0, 3.0, 0.5])
def test_what_one_does_not_want_the_other_gets(weight: float) -> None:
    works = [Work(f"a{number}", 0, 0, 4, 0.0, "a") for number in range(50)] + [Work("b", 0, 0, 4, 0.0, "b")]
    shares = serve(fair_to({"a": weight}), works)
    assert sum(share.verify for share in shares) == BUDGET
    assert "b" in {share.session for share in shares}


def test_weights_of_one_to_three_are_one_to_three_of_the_time() -> None:
    crowd = Crowd(fair_to({"heavy": 3.0}), {"light": [5], "heavy": [9]})
    for _ in range(400):
        crowd.step()
    assert crowd.served["heavy"] / crowd.served["light"] == pytest.approx(3, rel=0.02)


def test_weights_may_change_on_the_way() -> None:
    crowd = Crowd(fair_to({}), {"light": [5], "heavy": [5]})
    for _ in range(100):
        crowd.step()
    before = dict(crowd.served)
    crowd.fair.weights = {"heavy": 3.0}
    for _ in range(400):
        crowd.step()
    got = {tenant: crowd.served[tenant] - before[tenant] for tenant in before}
    assert got["heavy"] / got["light"] == pytest.approx(3, rel=0.02)


def test_ten_times_the_sessions_are_not_ten_times_the_time() -> None:
    fair, served = fair_to({}), {"f": 0, "q": 0}
    for step in range(200):
        works = [Work(f"f{step}.{number}", 0, 0, 5, 0.0, "flood") for number in range(100)]
        works += [Work(f"q{step}.{number}", 0, 0, 5, 1.0, "quiet") for number in range(10)]
        for share in serve(fair, works):
            served[share.session[0]] += share.verify
    assert served["f"] == pytest.approx(served["q"], rel=0.05)


def test_a_long_prompt_counts_as_what_a_step_takes_of_it() -> None:
    fair = FairShare(prefill_tokens=10)
    works = [Work("a-long", 0, 2000, 5, 0.0, "a"), *(Work(f"a{number}", 0, 0, 5, 1.0, "a") for number in range(9))]
    works += [Work(f"b{number}", 0, 0, 5, 1.0, "b") for number in range(9)]
    shares = serve(fair, works, prefill_tokens=10)
    tenants = [share.session[0] for share in shares if share.verify]
    assert tenants.count("a") >= 2


def test_prompts_that_wait_for_room_in_a_step_do_not_hold_up_their_tenants_windows() -> None:
    fair = FairShare(prefill_tokens=10)
    works = [Work(f"a-prompt{number}", 0, 200, 5, 0.0, "a") for number in range(20)]
    works += [Work(f"{tenant}{number}", 0, 0, 5, 1.0, tenant) for tenant in "ab" for number in range(9)]
    shares = serve(fair, works, prefill_tokens=10)
    assert [share.session[0] for share in shares if share.verify].count("a") >= 3


def test_a_pause_is_not_saved_up() -> None:
    fair = fair_to({}, credit_positions=BUDGET)
    away = Work("a", 0, 0, 5, 0.0, "a")
    fair.order([away])
    for number in range(300):
        serve(fair, [Work(f"b{number}", 0, 0, 5, 0.0, "b")])
    assert fair.counter("b") == 1500
    fair.order([away, Work("b", 0, 0, 5, 0.0, "b")])
    assert fair.counter("a") == pytest.approx(1500 - BUDGET, abs=5)


def test_a_small_tenant_that_never_has_to_wait_saves_nothing_up_either() -> None:
    fair = fair_to({}, credit_positions=BUDGET)
    for step in range(500):
        works = [Work(f"big{step}.{number}", 0, 0, 5, 0.0, "big") for number in range(6)]
        serve(fair, [*works, Work(f"small{step}", 0, 0, 5, 0.0, "small")])
    crowd = [Work(f"small{number}", 0, 0, 5, 0.0, "small") for number in range(50)]
    crowd += [Work(f"big{number}", 0, 0, 5, 1.0, "big") for number in range(50)]
    served = [share.session[0] for _ in range(4) for share in serve(fair, crowd)]
    assert served.count("b") >= 8


def test_a_newcomer_begins_where_the_others_are() -> None:
    fair = fair_to({}, credit_positions=BUDGET)
    for number in range(100):
        serve(fair, [Work(f"b{number}", 0, 0, 5, 0.0, "b")])
    fair.order([Work("new", 0, 0, 5, 0.0, "new"), Work("b", 0, 0, 5, 0.0, "b")])
    assert fair.counter("new") == pytest.approx(fair.counter("b"), abs=5)


def test_within_a_tenant_the_longest_waiting_comes_first() -> None:
    works = [Work(f"a{number}", 0, 0, 5, float(-number), "a") for number in range(4)]
    assert [work.session for work in FairShare().order(works)] == ["a3", "a2", "a1", "a0"]


def test_sessions_of_a_crowd_share_their_own_tenants_part_of_a_step() -> None:
    fair = fair_to({"heavy": 3.0})
    assert fair.crowd("alone", {"alone": 7}) == 7
    assert fair.crowd("flood", {"flood": 100, "quiet": 2}) == 200
    assert fair.crowd("quiet", {"flood": 100, "quiet": 2}) == 4
    assert fair.crowd("heavy", {"heavy": 6, "light": 6}) == 8


@given(st.integers(1, 200), st.lists(st.floats(0.1, 10), min_size=1, max_size=20))
def test_guaranteed_places_are_no_more_than_there_are_but_for_one_each(places: int, weights: list[float]) -> None:
    given_out = [guaranteed(places, weight, weights) for weight in weights]
    assert min(given_out) >= 1
    assert sum(given_out) <= places + len(weights)
    assert guaranteed(places, 1.0, [1.0]) == places
