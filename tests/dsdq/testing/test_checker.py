"""A good history passes; each that was tampered with gives its finding, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsdq.contract import Contract, FinishReason
from dsdq.session import Counts, Transcript
from dsdq.testing.checker import check
from dsdq.testing.history import DeviceRecord, Head, History, Kind, Logged
from dsdq.wire import Closed, Decode, Draft, Error, Gap, Opened, Verdict, pack_contract

SESSION = "s1"
CONTRACT = pack_contract(Contract("default", "device-1", SESSION, "t", "f" * 8, max_tokens=10))
PROMPT = (5, 6, 7)
TEXT = tuple(range(20, 30))


class Story:
    """Builds a log as an honest verifier would, one step at a time."""

    def __init__(self) -> None:
        self.text = Transcript(CONTRACT, PROMPT)
        self.counts = Counts()
        self.entries: list[Logged] = []
        self.published: list[Draft | Decode] = []
        self.epoch = 0

    def add(self, message: Any) -> None:
        self.entries.append(Logged(len(self.entries) + 1, self.epoch, message))

    def open(self) -> None:
        self.epoch += 1
        place = self.text.length, self.text.digest
        self.add(Opened(SESSION, f"w{self.epoch}", self.epoch, "n", "r", *place, 8, 512))

    def draft(self, number: int, tokens: tuple[int, ...], branch: int = 0) -> None:
        base, digest = self.text.length, self.text.digest
        self.published.append(Draft(SESSION, branch, number, base, digest, tokens))

    def grant(self, number: int, budget: int, branch: int = 0, window: int = 0) -> None:
        self.published.append(Decode(SESSION, branch, number, self.text.length, self.text.digest, budget, window))

    def answer(self, first: int, last: int, tokens: tuple[int, ...], drafted: int, accepted: int) -> None:
        base = self.text.length
        self.text.extend(tokens)
        length, digest = self.text.length, self.text.digest
        verdict = Verdict(
            SESSION, first, last, 0, base, drafted, accepted, tokens, length, digest, drafted + 1, 0, 0, 1, 8
        )
        self.counts = self.counts.after(verdict)
        self.add(verdict)

    def close(self, reason: FinishReason = FinishReason.LENGTH) -> None:
        counts = self.counts
        totals = counts.rounds, counts.drafted, counts.accepted, counts.verified
        self.add(Closed(SESSION, reason, self.text.length, self.text.digest, *totals))

    def history(self, finish: FinishReason | None = FinishReason.LENGTH, error: str = "") -> History:
        head = Head(closed=True, epoch=self.epoch, length=self.text.length, entries=len(self.entries))
        shown = tuple(self.text.tokens[len(PROMPT) :])
        device = DeviceRecord(tuple(self.published), shown, finish, error)
        return History(SESSION, CONTRACT, PROMPT, tuple(self.entries), head, device, TEXT)


def good() -> Story:
    """One session: two rounds that merge, a takeover, a stale round, a repeated one, a grant, the end."""
    story = Story()
    story.open()
    story.draft(1, (20, 21))
    story.published.append(Draft(SESSION, 0, 2, 5, story.text.digest_after((20, 21)), (22, 99)))
    story.published.append(Draft(SESSION, 0, 3, 7, story.text.digest_after((20, 21, 22, 99)), (24,)))  # will be stale
    story.answer(1, 2, (20, 21, 22, 23), drafted=4, accepted=3)
    story.draft(4, (24,), branch=1)
    story.open()
    story.draft(4, (24,), branch=1)
    story.answer(4, 4, (24, 25), drafted=1, accepted=1)
    story.grant(5, 4, window=3)
    story.answer(5, 5, (26, 27), drafted=3, accepted=1)  # its own draft: no branch is rejected
    story.open()
    for token in (28, 29):
        story.answer(5, 5, (token,), drafted=0, accepted=0)
    story.close()
    return story


def kinds(history: History) -> list[Kind]:
    return [finding.kind for finding in check(history)]


def changed(history: History, place: int, **fields: object) -> History:
    """Return a history with other fields in the message of the entry at ``place``."""
    entries = list(history.entries)
    entries[place] = replace(entries[place], message=replace(entries[place].message, **fields))  # type: ignore[type-var]
    return replace(history, entries=entries)


def renumbered(history: History, messages: list[Logged]) -> History:
    entries = [replace(entry, number=number) for number, entry in enumerate(messages, 1)]
    return replace(history, entries=entries, head=replace(history.head, entries=len(entries)))


def test_a_good_history_has_no_finding() -> None:
    assert check(good().history()) == []


def test_a_lost_round_whose_tokens_were_committed_before_it_came_may_be_passed_over() -> None:
    story = Story()
    story.open()
    story.draft(1, (20, 21))
    behind = [story.text.digest_after((20, 21)), story.text.digest_after((20, 21, 22))]
    story.published.append(Draft(SESSION, 0, 2, 5, behind[0], (22,)))  # lost on its way: a guess of the bonus token
    story.published.append(Draft(SESSION, 0, 3, 6, behind[1], (23, 24)))
    story.answer(1, 1, (20, 21, 22), drafted=2, accepted=2)
    story.answer(3, 3, (23, 24, 25), drafted=2, accepted=2)
    story.grant(4, 4)
    for token in (26, 27, 28, 29):
        story.answer(4, 4, (token,), drafted=0, accepted=0)
    story.close()
    assert check(story.history()) == []


def test_a_round_that_its_device_gave_up_may_be_passed_over() -> None:
    story = Story()
    story.open()
    story.draft(1, (20, 21, 22))  # answered, and that is among what Redis lost
    story.draft(2, (20,), branch=1)
    story.answer(2, 2, (20, 21), drafted=1, accepted=1)
    story.grant(3, 8, branch=1)
    for token in TEXT[2:]:
        story.answer(3, 3, (token,), drafted=0, accepted=0)
    story.close()
    assert check(story.history()) == []


def test_a_grant_whose_place_a_later_one_took_may_be_passed_over() -> None:
    story = Story()
    story.open()
    story.grant(1, 8)
    story.answer(1, 1, (20,), drafted=0, accepted=0)
    story.grant(2, 9)  # lost on its way
    story.answer(1, 1, (21,), drafted=0, accepted=0)
    story.grant(3, 8)
    for token in TEXT[2:]:
        story.answer(3, 3, (token,), drafted=0, accepted=0)
    story.close()
    assert check(story.history()) == []


def test_a_refusal_is_a_history_too() -> None:
    story = Story()
    story.epoch = 1
    story.add(Error(SESSION, "wrong_target", "another model"))
    history = story.history(finish=None, error="refused")
    assert check(replace(history, head=Head(closed=True, epoch=1, length=0, entries=1))) == []


@pytest.mark.parametrize("shown", [0, 2])
def test_a_device_that_went_away_has_shown_less(shown: int) -> None:
    story = Story()
    story.open()
    story.draft(1, (20, 21))
    story.answer(1, 1, (20, 21, 22), drafted=2, accepted=2)
    story.close(FinishReason.CANCELLED)
    history = story.history(finish=None)
    assert check(replace(history, device=replace(history.device, shown=TEXT[:shown]))) == []


def test_an_error_ends_what_was_under_way() -> None:
    story = Story()
    story.open()
    story.draft(1, (20, 21))
    story.add(Error(SESSION, "expired", "too long"))
    assert check(story.history(finish=None, error="expired")) == []


def test_a_round_ahead_of_a_lost_one_is_answered_with_a_gap() -> None:
    story = good()
    entries = list(story.entries)
    entries.insert(1, Logged(0, 1, Gap(SESSION, 3)))
    assert check(renumbered(story.history(), entries)) == []


def hole(history: History) -> History:
    return replace(history, entries=[*history.entries[:2], *history.entries[3:]])


def no_opened(history: History) -> History:
    return renumbered(history, list(history.entries[1:]))


def another_prompt(history: History) -> History:
    return replace(history, prompt=(1, 2, 3))


def takeover_with_the_old_epoch(history: History) -> History:
    entries = list(history.entries)
    message = entries[2].message
    assert isinstance(message, Opened)
    entries[2] = replace(entries[2], epoch=1, message=replace(message, epoch=1))
    entries[3] = replace(entries[3], epoch=1)
    return replace(history, entries=entries)


def unknown_epoch(history: History) -> History:
    entries = list(history.entries)
    entries[1] = replace(entries[1], epoch=2)
    return replace(history, entries=entries)


def stale_worker(history: History) -> History:
    entries = list(history.entries)
    entries[3] = replace(entries[3], epoch=1)
    return replace(history, entries=entries)


def stale_close(history: History) -> History:
    entries = list(history.entries)
    entries[-1] = replace(entries[-1], epoch=2)
    return replace(history, entries=entries)


def behind_the_end(history: History) -> History:
    return renumbered(history, [*history.entries, Logged(0, 3, Gap(SESSION, 13))])


def without_end(history: History) -> History:
    return renumbered(history, list(history.entries[:-1]))


def committed_twice(history: History) -> History:
    return renumbered(history, [*history.entries[:2], *history.entries[1:]])


def wrong_length(history: History) -> History:
    return changed(history, 1, length=8)


def wrong_gap(history: History) -> History:
    return renumbered(history, [*history.entries[:1], Logged(0, 1, Gap(SESSION, 9)), *history.entries[1:]])


def takeover_of_another_text(history: History) -> History:
    return changed(history, 2, length=6)


def wrong_digest(history: History) -> History:
    return changed(history, 3, digest=b"x" * 16)


def another_token(history: History) -> History:
    return changed(history, 1, tokens=(20, 21, 22, 24))


def wrong_receipt(history: History) -> History:
    return changed(history, -1, rounds=2)


def two_contents(history: History) -> History:
    device = history.device
    other = replace(device.published[3], tokens=(77,))
    return replace(history, device=replace(device, published=[*device.published, other]))


def nobody_asked(history: History) -> History:
    device = history.device
    return replace(history, device=replace(device, published=device.published[:-1]))


def answered_again(history: History) -> History:
    return changed(history, 3, first_round=2, last_round=2)


def out_of_turn(history: History) -> History:
    """The device numbered its rounds 11, 12, 13, 10, 14, and they were answered as they came."""
    numbers = {1: 11, 2: 12, 3: 13, 4: 10, 5: 14}
    device = history.device
    published = [replace(one, round=numbers[one.round]) for one in device.published]
    history = replace(history, device=replace(device, published=published))
    for place, entry in enumerate(history.entries):
        if isinstance(entry.message, Verdict):
            first, last = numbers[entry.message.first_round], numbers[entry.message.last_round]
            history = changed(history, place, first_round=first, last_round=last)
    return history


def stale_round(history: History) -> History:
    return changed(history, 3, first_round=3, last_round=3)


def passed_over(history: History) -> History:
    device = history.device
    place = device.published[3]
    first, second = replace(place, round=4), replace(place, round=6)
    rest = [replace(one, round=one.round + 2) if one.round > 4 else one for one in device.published if one.round != 4]
    history = replace(history, device=replace(device, published=[*rest, first, second]))
    history = changed(history, 3, first_round=6, last_round=6)
    for entry in (4, 6, 7):
        history = changed(history, entry, first_round=7, last_round=7)
    return history


def not_drafted(history: History) -> History:
    device = history.device
    published = [replace(one, tokens=(20, 99)) if one.round == 1 else one for one in device.published]
    return replace(history, device=replace(device, published=published))


def beyond_the_grant(history: History) -> History:
    device = history.device
    published = [replace(one, budget=3) if isinstance(one, Decode) else one for one in device.published]
    return replace(history, device=replace(device, published=published))


def drafted_unasked(history: History) -> History:
    device = history.device
    published = [replace(one, window=2) if isinstance(one, Decode) else one for one in device.published]
    return replace(history, device=replace(device, published=published))


def open_head(history: History) -> History:
    return replace(history, head=replace(history.head, closed=False))


def short_head(history: History) -> History:
    return replace(history, head=replace(history.head, length=9))


def another_text(history: History) -> History:
    return replace(history, expected=(*TEXT[:4], 99, *TEXT[5:]))


def shown_twice(history: History) -> History:
    device = history.device
    return replace(history, device=replace(device, shown=[*device.shown[:4], *device.shown[2:]]))


def shown_too_little(history: History) -> History:
    device = history.device
    return replace(history, device=replace(device, shown=device.shown[:-1]))


def no_end_on_the_device(history: History) -> History:
    return replace(history, device=replace(history.device, finish_reason=None, error="no answer"))


def error_and_end(history: History) -> History:
    return replace(history, device=replace(history.device, error="digest mismatch"))


TAMPERED: list[tuple[Callable[[History], History], Kind]] = [
    (hole, Kind.NUMBERS),
    (no_opened, Kind.OPENING),
    (another_prompt, Kind.OPENING),
    (takeover_with_the_old_epoch, Kind.EPOCHS),
    (unknown_epoch, Kind.EPOCHS),
    (stale_worker, Kind.STALE_WORKER),
    (stale_close, Kind.STALE_WORKER),
    (behind_the_end, Kind.AFTER_END),
    (without_end, Kind.UNFINISHED),
    (committed_twice, Kind.BASE),
    (wrong_length, Kind.BASE),
    (wrong_gap, Kind.BASE),
    (takeover_of_another_text, Kind.BASE),
    (wrong_digest, Kind.DIGEST),
    (another_token, Kind.DIGEST),
    (wrong_receipt, Kind.RECEIPT),
    (two_contents, Kind.ROUND_REUSED),
    (nobody_asked, Kind.ROUND_UNKNOWN),
    (answered_again, Kind.ROUND_TWICE),
    (out_of_turn, Kind.ROUND_ORDER),
    (stale_round, Kind.ROUND_STALE),
    (passed_over, Kind.ROUND_LOST),
    (not_drafted, Kind.UNFOUNDED),
    (beyond_the_grant, Kind.ROUND_STALE),
    (drafted_unasked, Kind.UNFOUNDED),
    (open_head, Kind.HEAD),
    (short_head, Kind.HEAD),
    (another_text, Kind.TEXT),
    (shown_twice, Kind.SHOWN),
    (shown_too_little, Kind.SHOWN),
    (no_end_on_the_device, Kind.DEVICE),
    (error_and_end, Kind.DEVICE),
]


@pytest.mark.parametrize(("tamper", "kind"), TAMPERED, ids=[tamper.__name__ for tamper, _ in TAMPERED])
def test_what_was_tampered_with_is_found(tamper: Callable[[History], History], kind: Kind) -> None:
    found = check(tamper(good().history()))
    assert {finding.kind for finding in found} == {kind}, [str(one) for one in found]
