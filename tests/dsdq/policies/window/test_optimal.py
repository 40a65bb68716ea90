from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdq.policies.pipeline import World, simulate
from dsdq.policies.window import Choice, Mode, Observation, Offer, rates
from dsdq.policies.window.optimal import Optimal
from dsdq.policies.window.planner import WINDOWS
from dsdq.policies.window.rates import Speeds

WARM_UP_ROUNDS = 10
BOTH = frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})
OFFER = Offer(max_window=20, max_depth=4, modes=BOTH)
BASE = World(acceptance=0.9, draft_ms=1, rtt_ms=60, step_ms=25, position_ms=0.5)


@dataclass(frozen=True)
class Always:
    choice: Choice

    def observe(self, observation: Observation) -> None:
        pass

    def choose(self) -> Choice:
        return self.choice

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        return True


def worth(world: World, choice: Choice) -> float:
    """The committed tokens per second that a choice comes to, speeds being known."""
    wait_ms = world.busy * (world.step_ms + 5 * world.position_ms) / 2
    speeds = Speeds(world.acceptance, world.draft_ms, world.rtt_ms, wait_ms, world.step_ms, world.position_ms)
    window = np.asarray([float(choice.window)])
    match choice.mode:
        case Mode.TARGET_ONLY:
            return rates.target_only_rate(speeds)
        case Mode.COLOCATED:
            return float(rates.colocated_rates(speeds, world.server_acceptance, world.server_draft_ms, window)[0])
        case _ if choice.depth == 1:
            return float(rates.sequential_rates(speeds, window)[0])
        case _:
            return float(rates.pipelined_rates(speeds, window, np.asarray([choice.depth]))[0])


def single_modes(world: World) -> list[Choice]:
    """The best way to work in each mode, if it is kept throughout."""
    windows = [window for window in WINDOWS if window <= OFFER.max_window]
    deep = max(
        (Choice(window, depth) for window, depth in product(windows, (2, 3, 4))), key=lambda one: worth(world, one)
    )
    flat = max((Choice(window) for window in windows), key=lambda one: worth(world, one))
    single = [flat, deep, Choice(0, 1, Mode.TARGET_ONLY, 1000)]
    if world.server_acceptance:
        streams = (Choice(window, 1, Mode.COLOCATED, 1000) for window in windows)
        single.append(max(streams, key=lambda one: worth(world, one)))
    return single


def share_of_best(world: World, *, seed: int, tokens: int, sees: bool = True) -> float:
    modes = frozenset(Mode) if world.server_acceptance else BOTH
    policy = Optimal(replace(OFFER, modes=modes))
    own = simulate(policy, world, seed=seed, tokens=tokens, sees=sees).tokens_per_s(WARM_UP_ROUNDS)
    best = max(simulate(Always(one), world, seed=seed, tokens=tokens).tokens_per_s(1) for one in single_modes(world))
    return own / best


@pytest.mark.parametrize("rtt_ms", [0, 60, 200])
@pytest.mark.parametrize("acceptance", [0.1, 0.5, 0.9])
def test_it_is_never_far_below_the_best_single_mode(rtt_ms: float, acceptance: float) -> None:
    for draft_ms in (0.25, 3.0):
        world = World(acceptance, draft_ms, rtt_ms, step_ms=10, position_ms=0.1)
        share = share_of_best(world, seed=1, tokens=2000)
        assert share >= 0.97, f"{world}: {share:.3f} of the best mode"


@pytest.mark.parametrize("rtt_ms", [0, 60, 200])
@pytest.mark.parametrize("acceptance", [0.1, 0.8])
def test_a_verifier_that_drafts_too_is_made_use_of(rtt_ms: float, acceptance: float) -> None:
    world = World(acceptance, 1, rtt_ms, step_ms=20, position_ms=0.2, server_acceptance=0.7, server_draft_ms=2)
    assert share_of_best(world, seed=2, tokens=3000) >= 0.97


@pytest.mark.parametrize("rtt_ms", [10, 60])
def test_jitter_and_a_busy_verifier_do_not_confuse_it(rtt_ms: float) -> None:
    world = World(0.8, 1, rtt_ms, step_ms=20, position_ms=0.2, jitter_ms=5, busy=0.5)
    assert share_of_best(world, seed=3, tokens=3000) >= 0.97


@pytest.mark.parametrize("acceptance", [0.1, 0.9])
def test_without_guesses_and_link_times_tries_still_cost_little(acceptance: float) -> None:
    world = replace(BASE, acceptance=acceptance)
    assert share_of_best(world, seed=4, tokens=4000, sees=False) >= 0.97


class Watched(Optimal):
    """Notes what it would choose next after each answer to a request: a draft's verdict, or half of a grant."""

    def __init__(self, offer: Offer) -> None:
        super().__init__(offer)
        self.rounds: list[tuple[float, Choice]] = []

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        if observation.mode is not Mode.SPECULATE and observation.link_ms is None and observation.part:
            return
        self.rounds.append((observation.time_ms, self.choose()))


def rounds_to_follow(script: Callable[[float], World], changed_ms: float, seed: int) -> int:
    """The answers after a change until what is chosen is worth 0.9 of the best, as all that follow are on average."""
    policy = Watched(OFFER)
    simulate(policy, script, seed=seed, tokens=2500)
    after = [(time_ms, choice) for time_ms, choice in policy.rounds if changed_ms <= time_ms < changed_ms + 8000]
    world = script(changed_ms)
    best = max(worth(world, one) for one in single_modes(world))
    shares = [worth(world, choice) / best for _, choice in after]
    followed = next(number for number, share in enumerate(shares, 1) if share >= 0.9)
    assert np.mean(shares[followed:]) >= 0.93
    return followed


CHANGES = {
    "acceptance falls": (BASE, replace(BASE, acceptance=0.1)),
    "acceptance rises": (replace(BASE, acceptance=0.1), BASE),
    "the network slows down": (replace(BASE, acceptance=0.7, rtt_ms=0), replace(BASE, acceptance=0.7, rtt_ms=200)),
    "the network recovers": (replace(BASE, acceptance=0.7, rtt_ms=200), replace(BASE, acceptance=0.7, rtt_ms=0)),
    "the verifier slows down": (BASE, replace(BASE, step_ms=100, busy=0.5)),
    "the verifier recovers": (replace(BASE, step_ms=100, busy=0.5), BASE),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_it_follows_a_change_within_ten_rounds(change: str, seed: int) -> None:
    before, after = CHANGES[change]
    assert rounds_to_follow(lambda now_ms: before if now_ms < 8000 else after, 8000, seed) <= 10


def test_it_finds_its_way_there_and_back() -> None:
    def script(now_ms: float) -> World:
        return BASE if not 8000 <= now_ms < 16_000 else replace(BASE, acceptance=0.1)

    policy = Watched(OFFER)
    simulate(policy, script, seed=5, tokens=2500)
    modes = [
        {choice.mode for time_ms, choice in policy.rounds if start <= time_ms < start + 4000}
        for start in (4000, 12_000, 20_000)
    ]
    assert modes == [{Mode.SPECULATE}, {Mode.TARGET_ONLY}, {Mode.SPECULATE}]


def test_a_stream_that_ends_before_its_trial_does_is_not_waited_for() -> None:
    policy, now_ms = Optimal(replace(OFFER, modes=frozenset(Mode))), 0.0

    def see(mode: Mode, accepted: int, verify_ms: float = 20.0, **seen: int) -> None:
        nonlocal now_ms
        now_ms += verify_ms + 10
        times = {"round_trip_ms": verify_ms + 10, "queue_ms": 0.0, "verify_ms": verify_ms, "time_ms": now_ms}
        policy.observe(Observation(4, accepted, 4.0, committed=accepted + 1, mode=mode, **times, **seen))

    while policy.choose().mode is not Mode.COLOCATED:
        see(Mode.SPECULATE, 4)
    see(Mode.COLOCATED, 0, verify_ms=200.0, wanted=4)  # one token of all that the trial grants
    for _ in range(40):
        see(Mode.SPECULATE, 0)
    assert policy.choose().mode is not Mode.SPECULATE


observations = st.builds(
    Observation,
    drafted=st.integers(0, 64),
    accepted=st.just(0),
    draft_ms=st.floats(0, 1000),
    round_trip_ms=st.floats(0, 10_000),
    queue_ms=st.floats(0, 1000),
    verify_ms=st.floats(0, 1000),
    committed=st.integers(1, 65),
    draft_token_ms=st.floats(0, 100),
    mode=st.sampled_from(Mode),
    part=st.integers(0, 3),
    in_flight=st.integers(0, 8),
    max_window=st.integers(0, 64),
    link_ms=st.none() | st.floats(0, 1000),
    guessed=st.integers(0, 3),
    wanted=st.integers(0, 64),
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(observations, st.floats(0, 1), st.floats(0, 500)), max_size=12),
    st.builds(
        Offer,
        max_window=st.integers(1, 64),
        max_depth=st.integers(1, 8),
        modes=st.frozensets(st.sampled_from(Mode), min_size=1),
    ),
)
def test_whatever_it_is_told_it_stays_within_the_offer_and_repeats_itself(
    told: list[tuple[Observation, float, float]], offer: Offer
) -> None:
    one, other, now_ms = Optimal(offer), Optimal(offer), 0.0
    for observation, share, passed_ms in told:
        now_ms += passed_ms
        seen = replace(
            observation,
            accepted=int(share * observation.drafted),
            guessed_right=int(share * observation.guessed),
            time_ms=now_ms,
        )
        one.observe(seen)
        other.observe(seen)
        choice = one.choose()
        assert choice == one.choose() == other.choose()
        assert choice.mode in offer.modes
        assert 1 <= choice.depth <= offer.max_depth
        if choice.mode is Mode.TARGET_ONLY:
            assert choice.window == 0
        else:
            asked = offer.max_window if choice.mode is Mode.COLOCATED else seen.max_window
            assert 1 <= choice.window <= max(1, min(offer.max_window, asked))
        assert (choice.budget > 0) == (choice.mode is not Mode.SPECULATE)
