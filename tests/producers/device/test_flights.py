"""What stands of several windows in flight, by every verdict that can come."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.contract import Contract
from dsdq.drafting import Proposal
from dsdq.session import Ahead, Duplicate, Live, SessionState, Stale, Transcript, check_verdict, liveness
from dsdq.wire import Decode, Draft, Verdict, pack_contract
from producers.device.flights import Flights, Guessed, Landed

CONTRACT = Contract("acme", "phone", "s1", "target", "fingerprint")
PROMPT = (1, 2, 3)
RIGHT = Guessed(1, 1)


@dataclass
class Device:
    """A device's side, and its verifier's by hand: the target says ``own`` behind the prompt."""

    own: tuple[int, ...]
    transcript: Transcript = field(default_factory=lambda: Transcript(pack_contract(CONTRACT), PROMPT))

    def __post_init__(self) -> None:
        self.flights = Flights("s1", self.transcript)
        self.state = SessionState(CONTRACT, Transcript(pack_contract(CONTRACT), PROMPT), 1, "owner")

    def verdict(self, window: Draft) -> Verdict | None:
        """Return what the verifier answers to a window, None where it answers nothing any more."""
        live = liveness(self.state, window)
        if not isinstance(live, Live):
            assert isinstance(live, Stale | Duplicate | Ahead)  # held until its predecessor comes, or a later round
            return None
        base = self.state.transcript.length
        own = self.own[base - len(PROMPT) :]
        accepted = next((n for n, token in enumerate(live.tokens) if token != own[n]), len(live.tokens))
        tokens = own[: accepted + 1]
        answer = Verdict(
            "s1", window.round, window.round, window.branch, base, len(live.tokens), accepted, tokens,
            base + len(tokens), self.state.transcript.digest_after(tokens), 1, 0, 0, 1, 8,
        )  # fmt: skip
        self.state.commit(answer, final=True)
        return answer

    def land(self, verdict: Verdict) -> Landed:
        check_verdict(self.transcript, verdict)
        return self.flights.land(verdict)


def answered(device: Device, window: Draft) -> Verdict:
    verdict = device.verdict(window)
    assert verdict is not None
    return verdict


def test_windows_follow_each_other_and_name_the_text_before_them() -> None:
    device = Device((7, 8, 9, 10, 11))
    first, second = device.flights.launch((7, 8)), device.flights.launch((9, 10))
    assert (first.round, first.base, first.digest) == (1, 3, device.transcript.digest)
    assert (second.round, second.base, second.digest) == (2, 5, device.transcript.digest_after((7, 8)))
    assert list(device.flights.text()) == [1, 2, 3, 7, 8, 9, 10]
    assert (len(device.flights), device.flights.length) == (2, 7)


def test_a_window_stands_whose_first_token_is_the_targets_own_next_one() -> None:
    device = Device((7, 8, 9, 10, 11))
    first, second = device.flights.launch((7, 8)), device.flights.launch((9, 10))
    assert device.land(answered(device, first)) == Landed(0, RIGHT)
    assert list(device.flights) == [second]
    assert list(device.flights.text()) == [1, 2, 3, 7, 8, 9, 10]
    last = answered(device, second)
    assert (last.drafted, last.accepted, last.tokens) == (1, 1, (10, 11))
    assert device.land(last) == Landed()
    assert len(device.flights) == 0
    assert device.flights.launch((12,)).branch == 0


def test_a_window_of_one_token_that_was_guessed_right_adds_the_targets_next() -> None:
    device = Device((7, 8, 9))
    first, second = device.flights.launch((7,)), device.flights.launch((8,))
    device.land(answered(device, first))
    last = answered(device, second)
    assert (last.drafted, last.tokens) == (0, (9,))
    assert device.land(last) == Landed()
    assert list(device.flights.text()) == [1, 2, 3, 7, 8, 9]


@pytest.mark.parametrize("tokens", [(7, 0), (0, 8)], ids=["at its end", "at its beginning"])
def test_a_rejection_refutes_all_that_follows(tokens: tuple[int, ...]) -> None:
    device = Device((7, 8, 9, 10, 11))
    first, second = device.flights.launch(tokens), device.flights.launch((9, 10, 11))
    assert device.land(answered(device, first)) == Landed(3)
    assert device.verdict(second) is None
    assert len(device.flights) == 0
    assert device.flights.text() == device.transcript.tokens
    assert device.flights.launch((9,)).branch == 1


def test_a_wrong_guess_of_the_targets_own_token_refutes_all_that_follows() -> None:
    device = Device((7, 8, 9, 10, 11))
    first, second = device.flights.launch((7, 8)), device.flights.launch((0, 10))
    third = device.flights.launch((11,))
    assert device.land(answered(device, first)) == Landed(3, Guessed(1, 0))
    assert device.verdict(second) is None
    again = device.flights.launch((10, 11))
    assert (again.base, again.branch, again.round) == (6, 1, 4)
    answered(device, again)
    assert device.verdict(third) is None


def test_a_verdict_of_several_windows_answers_them_all() -> None:
    device = Device((7, 8, 9, 10, 11))
    device.flights.launch((7, 8))
    device.flights.launch((9,))
    third = device.flights.launch((10,))
    merged = Verdict(
        "s1", 1, 2, 0, 3, 3, 3, (7, 8, 9, 10), 7, device.transcript.digest_after((7, 8, 9, 10)), 4, 0, 0, 1, 8
    )  # fmt: skip
    assert device.land(merged) == Landed(0, RIGHT)
    assert list(device.flights) == [third]


def test_a_draft_made_meanwhile_follows_what_was_in_flight() -> None:
    device = Device((7, 8, 9, 10, 11))
    device.flights.launch((7, 8))
    assert device.flights.standing(device.flights.place, Proposal((9, 10))) == Proposal((9, 10))
    assert device.flights.standing(device.flights.place, Proposal(())) == Proposal(())


def test_a_draft_whose_guess_of_the_targets_own_token_was_right_follows_that_token() -> None:
    device = Device((7, 8, 9, 10, 11))
    window, place = device.flights.launch((7, 8)), device.flights.place
    device.land(answered(device, window))
    assert device.flights.committed_since(place) == (9,)
    drafted = Proposal((9, 10, 11), confidences=(0.7, 0.8, 0.9))
    standing = device.flights.standing(place, drafted)
    assert standing == Proposal((10, 11), confidences=(0.8, 0.9))
    behind = device.flights.launch(standing.tokens)
    assert (behind.base, behind.branch) == (6, 0)
    assert answered(device, behind).accepted == 2


@pytest.mark.parametrize("tokens", [(), (9,), (0, 10)], ids=["silent", "nothing behind it", "guessed wrong"])
def test_nothing_stands_of_a_draft_that_the_targets_own_token_refuted_or_overtook(tokens: tuple[int, ...]) -> None:
    device = Device((7, 8, 9, 10, 11))
    window, place = device.flights.launch((7, 8)), device.flights.place
    device.land(answered(device, window))
    assert device.flights.standing(place, Proposal(tokens)) is None


def test_nothing_stands_of_a_draft_behind_a_rejection() -> None:
    device = Device((7, 8, 9, 10, 11))
    window, place = device.flights.launch((7, 0)), device.flights.place
    device.land(answered(device, window))
    assert device.flights.committed_since(place) is None
    assert device.flights.standing(place, Proposal((9, 10))) is None


def test_a_grant_begins_where_the_committed_text_ends() -> None:
    device = Device((7, 8, 9))
    device.land(answered(device, device.flights.launch((7,))))
    assert device.flights.grant(5) == Decode("s1", 0, 2, 5, device.transcript.digest, budget=5)


def test_what_the_verifier_drafts_for_a_grant_and_rejects_leaves_the_grant_standing() -> None:
    device = Device((7, 8, 9))
    grant = device.flights.grant(3, window=2)
    verdict = Verdict("s1", 1, 1, 0, 3, 2, 0, (7,), 4, device.transcript.digest_after((7,)), 3, 0, 0, 1, 8)
    assert device.flights.grant_of(verdict) == grant
    assert device.land(verdict) == Landed()
    assert (device.flights.granted, device.flights.place.branch) == (2, 0)


@given(st.lists(st.one_of(st.none(), st.lists(st.booleans(), min_size=1, max_size=4)), max_size=30), st.randoms())
def test_both_sides_agree_on_what_stands_and_the_text_is_the_targets(
    events: list[list[bool] | None], rng: random.Random
) -> None:
    """``None`` lets the oldest window that was sent arrive; anything else sends one, right or wrong at each place."""
    own = tuple(rng.randrange(3) for _ in range(200))
    device, sent = Device(own), list[Draft]()
    for guess in events:
        if guess is not None:
            known = device.flights.length - len(PROMPT)
            sent.append(device.flights.launch(tuple(own[known + n] if right else 3 for n, right in enumerate(guess))))
        elif sent:
            stands = sent[0] in list(device.flights)
            verdict = device.verdict(sent.pop(0))
            assert (verdict is not None) == stands
            if verdict is not None:
                device.land(verdict)
    assert tuple(device.transcript.tokens[len(PROMPT) :]) == own[: device.transcript.generated]
