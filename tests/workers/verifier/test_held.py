"""Rounds that are ahead of a missing one wait until the text has reached them, or has turned elsewhere."""

from __future__ import annotations

from typing import Any

from dsdq import digest
from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Owned
from dsdq.contract import Contract
from dsdq.session import SessionState, Transcript
from dsdq.stopping import StopFinder
from dsdq.wire import Decode, Draft, pack_contract
from workers.verifier.held import Held, Pending

PROMPT = (5, 9, 12, 7)
CONTRACT = Contract("acme", "phone", "s1", "m", "f", max_tokens=20)


def holding() -> Held:
    transcript = Transcript(pack_contract(CONTRACT), PROMPT)
    state = SessionState(CONTRACT, transcript, 1, "owner")
    return Held(state, Owned(CONTRACT, 1, "owner"), 0.0, StopFinder(None, ()))  # type: ignore[arg-type]


def a_round(number: int, before: tuple[int, ...], **changed: Any) -> Pending:
    """Return a round that believes in ``before`` behind the prompt."""
    text = digest.extend(Transcript(pack_contract(CONTRACT), PROMPT).digest, before)
    fields = {"branch": 0, "base": len(PROMPT) + len(before), "digest": text, "tokens": (1,)}
    message = Draft(**{"session": "s1", "round": number, **fields, **changed})
    return Pending(Entry("w1", "acme", f"{number}-0", b""), message, 0.0)


def ahead(held: Held, number: int, before: tuple[int, ...], **changed: Any) -> Pending:
    """Set a round aside."""
    pending = a_round(number, before, **changed)
    held.ahead.append(pending)
    return pending


def test_a_round_whose_predecessor_is_still_missing_goes_on_waiting() -> None:
    held = holding()
    waits = ahead(held, 3, (1, 2))
    held.state.transcript.extend([1])
    held.answer(0)
    assert (list(held.pending), held.ahead) == ([], [waits])


def test_rounds_that_the_text_has_reached_are_looked_at_again_in_their_order() -> None:
    held = holding()
    third, second, later = ahead(held, 3, (1, 2)), ahead(held, 2, (1,), tokens=(2, 1)), ahead(held, 4, (1, 2, 3))
    held.state.transcript.extend([1, 2])
    held.answer(0)
    assert (list(held.pending), held.ahead) == ([second, third], [later])
    assert held.in_flight() == [second, third, later]


def test_rounds_of_a_branch_that_was_rejected_wait_for_nothing_any_more() -> None:
    held = holding()
    stale, fresh = ahead(held, 2, (1, 2, 3)), ahead(held, 3, (9, 1, 2), branch=1)
    held.state.branch = 1
    assert held.answer(0) == [stale.entry]
    assert (list(held.pending), held.ahead) == ([], [fresh])


def test_a_round_that_was_answered_meanwhile_does_not_wait() -> None:
    held = holding()
    answered = ahead(held, 2, (1, 2, 3))
    held.state.answered = 2
    assert held.answer(0) == [answered.entry]
    assert held.in_flight() == []


def test_a_round_that_nobody_waits_for_any_more_is_not_let_in() -> None:
    held = holding()
    stale = a_round(2, (1, 2, 3))
    held.state.branch = 1
    assert held.receive(stale, 8) == [stale]
    assert held.in_flight() == []


def test_a_device_that_begins_another_branch_has_given_up_what_was_ahead_on_the_one_before() -> None:
    held = holding()
    given_up = [ahead(held, number, (1,) * number) for number in (2, 3, 4)]
    anew = a_round(5, (), branch=1)
    assert held.receive(anew, 3) == given_up
    assert held.in_flight() == [anew]
    late = a_round(6, (1,) * 6)
    assert held.receive(late, 3) == [late]


def test_what_is_ahead_of_a_draft_that_the_text_contradicts_is_over_with_it() -> None:
    held = holding()
    waits = a_round(2, (1,), tokens=(4, 5))
    held.pending.append(waits)
    behind = [ahead(held, 3, (1, 4, 5)), ahead(held, 4, (1, 4, 5, 1))]
    held.state.transcript.extend([1, 9])  # all of round 1 was right, but not the guess of the target's own token
    assert held.answer(0) == [one.entry for one in (waits, *behind)]
    assert held.in_flight() == []
    late = a_round(5, (1, 4, 5, 1, 1))
    assert held.receive(late, 8) == [late]


def test_a_device_is_awaited_from_when_none_of_its_rounds_waits() -> None:
    held = holding()
    first, second = a_round(1, ()), a_round(2, (1, 9))
    held.pending.extend((first, second))
    held.state.transcript.extend([1, 9])
    assert held.answer(1) == [first.entry]
    assert held.turnaround.answered_s == 0
    held.state.transcript.extend([1])
    assert held.answer(1) == [second.entry]
    assert held.turnaround.answered_s > 0


def test_a_device_is_awaited_once_its_rejected_windows_are_gone() -> None:
    held = holding()
    first, second = a_round(1, ()), a_round(2, (1, 9))
    held.pending.extend((first, second))
    held.state.transcript.extend([8])
    held.state.branch = 1
    assert held.answer(1) == [first.entry, second.entry]
    assert held.turnaround.answered_s > 0


def test_a_stream_that_goes_on_by_its_next_grant_waits_from_then_on() -> None:
    """The next grant comes while the one before it is answered: until then it waits for its own session's step."""
    held, entry = holding(), Entry("w1", "acme", "1-0", b"")
    grants = [Pending(entry, Decode("s1", 0, number, len(PROMPT), b"", 8 * number), 3.0 + number) for number in (1, 2)]
    draft = a_round(3, (1, 2))
    held.pending.extend([*grants, draft])
    held.go_on(7.0, final=False)
    assert [one.received_s for one in held.pending] == [7.0, 7.0, 0.0]
    assert [one.entry.passed for one in held.pending] == [True, False, False]
    assert held.pending[2] is draft
