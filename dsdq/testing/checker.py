"""The history checker: whether what is left of a session shows that nothing was lost, and nothing done twice. Pure.

It is given a session's log, its head, what its device published and showed, and the text of a quiet run, and knows
nothing of how they came to be. The log is replayed with the code that both sides use (:mod:`dsdq.session`), and what
must hold is asked of every entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dsdq.contract import FinishReason
from dsdq.session import Counts, Live, SessionState, Transcript, liveness
from dsdq.tenants.usage import Usage, total
from dsdq.testing.history import Finding, History, Kind
from dsdq.wire import Closed, Decode, Draft, Error, Gap, Opened, Verdict, unpack_contract

Said = Iterator[tuple[Kind, str]]

_EARLY = (FinishReason.CANCELLED, FinishReason.EXPIRED)  # the device went away before the end


def check(history: History) -> list[Finding]:
    """Return what is wrong with a history; nothing is how it should be.

    What cannot be told any more because of a finding (the text behind a hole in the log, say) is left out.
    """
    for parts in ((_check_numbers,), (_check_opening,), (_check_shape,), (_check_text,), (_check_rounds, _check_ends)):
        found = [Finding(kind, history.session, detail) for part in parts for kind, detail in part(history)]
        if found:
            return found
    return []


def bill_of(histories: Sequence[History]) -> Usage:
    """Return what is to be paid for sessions by their logs, but for how long their keys and values were kept."""
    opened = sum(isinstance(history.entries[0].message, Opened) for history in histories)
    return total(Usage.of(verdict) for history in histories for verdict in history.verdicts) + Usage(sessions=opened)


# The log as a list


def _check_numbers(history: History) -> Said:
    numbers = [entry.number for entry in history.entries]
    if numbers != list(range(1, len(numbers) + 1)):
        yield Kind.NUMBERS, f"expected entries 1 to {len(numbers)}, got {numbers}"


def _check_opening(history: History) -> Said:
    first = history.entries[0].message if history.entries else None
    text = Transcript(history.contract, history.prompt)
    if not isinstance(first, Opened | Error):
        yield Kind.OPENING, f"expected opened or error, got {type(first).__name__.lower()}"
    elif isinstance(first, Opened) and (first.length, first.digest) != (text.length, text.digest):
        yield Kind.OPENING, f"expected {text.length} prompt tokens of this contract, got {first.length}"


def _check_shape(history: History) -> Said:
    yield from _check_epochs(history)
    ends = [entry.number for entry in history.entries if isinstance(entry.message, Closed | Error)]
    if not ends:
        yield Kind.UNFINISHED, f"the last of {len(history.entries)} entries is neither closed nor error"
    elif ends[0] < len(history.entries):
        yield Kind.AFTER_END, f"entry {ends[0]} of {len(history.entries)} ends the session"


def _check_epochs(history: History) -> Said:
    epoch = 0
    for entry in history.entries:
        if isinstance(entry.message, Opened):
            if not epoch < entry.message.epoch == entry.epoch:
                told = f"opened {entry.message.epoch}, written by {entry.epoch}"
                yield Kind.EPOCHS, f"entry {entry.number}: expected more than {epoch}, got {told}"
            epoch = max(epoch, entry.message.epoch)
        elif entry.epoch < epoch:
            what = type(entry.message).__name__.lower()
            yield Kind.STALE_WORKER, f"entry {entry.number}: {what} of epoch {entry.epoch} behind opened {epoch}"
        elif entry.epoch > epoch and entry.number > 1:  # a refusal has no opened before it
            yield Kind.EPOCHS, f"entry {entry.number}: epoch {entry.epoch} has no opened, the last is {epoch}"


# The text


def _check_text(history: History) -> Said:
    """Replay the log; stop where it does not continue."""
    text, counts = Transcript(history.contract, history.prompt), Counts()
    for entry in history.entries:
        message = entry.message
        wrong: tuple[Kind, str] | None = None
        if isinstance(message, Verdict):
            wrong = _continues(text, message)
            if wrong is None:
                text.extend(message.tokens)
                counts = counts.after(message)
        elif isinstance(message, Gap) and message.expected != text.length:
            wrong = Kind.BASE, f"gap at {message.expected}, the text has {text.length} tokens"
        elif isinstance(message, Opened) and (message.length, message.digest) != (text.length, text.digest):
            wrong = Kind.BASE, f"opened at {message.length}, the text has {text.length} tokens"
        elif isinstance(message, Closed):
            wrong = _receipt(text, counts, message)
        if wrong is not None:
            yield wrong[0], f"entry {entry.number}: {wrong[1]}"
            return


def _continues(text: Transcript, verdict: Verdict) -> tuple[Kind, str] | None:
    if verdict.base != text.length or verdict.length != verdict.base + len(verdict.tokens) or not verdict.tokens:
        span = f"{verdict.base} to {verdict.length} with {len(verdict.tokens)} tokens"
        return Kind.BASE, f"verdict of {span}, the text has {text.length} tokens"
    if verdict.digest != text.digest_after(verdict.tokens):
        return Kind.DIGEST, f"verdict of length {verdict.length}"
    return None


def _receipt(text: Transcript, counts: Counts, closed: Closed) -> tuple[Kind, str] | None:
    due = counts.receipt(closed.session, closed.reason, text.length, text.digest)
    told = replace(closed, key=b"", signature=b"")
    return None if told == due else (Kind.RECEIPT, f"expected {due}, got {told}")


# The rounds


def _check_rounds(history: History) -> Said:
    rounds: dict[int, Draft | Decode] = {}
    for message in history.device.published:
        if rounds.setdefault(message.round, message) != message:
            yield Kind.ROUND_REUSED, f"round {message.round}"
    replay = _Rounds(history, rounds)
    for verdict in history.verdicts:
        wrong = next(replay.take(verdict), None)
        if wrong is not None:  # what follows from it is not said again
            yield wrong
            return


class _Rounds:
    """Follows which rounds have been answered while the text grows."""

    def __init__(self, history: History, rounds: dict[int, Draft | Decode]) -> None:
        text = Transcript(history.contract, history.prompt)
        # No round ever counts as answered here: whether one was is this class's own question.
        self._state = SessionState(unpack_contract(history.contract, with_unknown=True), text, 0, "")
        self._rounds = rounds
        self._answered: set[int] = set()
        self._last = 0

    def take(self, verdict: Verdict) -> Said:
        """Say what is wrong with a verdict's rounds, and with those it passes over."""
        span = range(verdict.first_round, verdict.last_round + 1)
        missing = [number for number in span if number not in self._rounds]
        if missing or not span:
            yield Kind.ROUND_UNKNOWN, f"rounds {missing or f'{verdict.first_round} to {verdict.last_round}'}"
        else:
            yield from self._check_turn(span)
            yield from self._check_passed(verdict)
            yield from self._check_foundation(verdict, [self._rounds[number] for number in span])
        self._answered.update(span)
        self._last = max(self._last, verdict.last_round)
        granted = isinstance(self._rounds.get(verdict.first_round), Decode)
        self._state.commit(verdict, final=False, granted=granted)

    def _check_turn(self, span: range) -> Said:
        goes_on = span[0] == self._last and isinstance(self._rounds[self._last], Decode)
        if goes_on or span[0] > self._last:
            return
        if again := self._answered.intersection(span):
            yield Kind.ROUND_TWICE, f"rounds {sorted(again)}"
        else:
            yield Kind.ROUND_ORDER, f"round {span[0]} behind {self._last}"

    def _check_foundation(self, verdict: Verdict, rounds: Sequence[Draft | Decode]) -> Said:
        if not isinstance(liveness(self._state, rounds[0]), Live):
            yield Kind.ROUND_STALE, f"round {verdict.first_round} at length {verdict.base}"
            return
        grants = [one for one in rounds if isinstance(one, Decode)]
        if not (_granted(verdict, grants) if grants else _drafted(verdict, rounds)):
            yield Kind.UNFOUNDED, f"rounds {verdict.first_round} to {verdict.last_round} at {verdict.base}"

    def _check_passed(self, verdict: Verdict) -> Said:
        """A round that is never answered must be stale when a later one is, or its tokens committed by then.

        Or a later one has taken its place: a grant that reaches as far; or anything of a later branch, by which a
        device says that it gave the round up, as it does when Redis has lost the end of the text.
        """
        answered = self._rounds[verdict.first_round]
        for number in range(self._last + 1, answered.round):
            message = self._rounds.get(number)
            if message is None or message.branch < answered.branch or _replaces(answered, message):
                continue
            status = liveness(self._state, message)
            if isinstance(status, Live) and (status.tokens or isinstance(message, Decode)):
                when = f"at length {verdict.base}, branch {self._state.branch}, after round {self._last}"
                yield Kind.ROUND_LOST, f"{_told(message)} was live when {_told(answered)} was answered {when}"


def _replaces(later: Draft | Decode, earlier: Draft | Decode) -> bool:
    """Say whether a grant takes the place of an earlier one."""
    return isinstance(later, Decode) and isinstance(earlier, Decode) and later.end >= earlier.end


def _told(message: Draft | Decode) -> str:
    """Return a round in words."""
    asks = f"{message.tokens}" if isinstance(message, Draft) else f"a grant of {message.budget}"
    return f"round {message.round} ({asks} at {message.base}, branch {message.branch})"


def _granted(verdict: Verdict, grants: Sequence[Decode]) -> bool:
    """Say whether grants allow what a verdict drafted and committed."""
    budget = max(one.end for one in grants)
    return verdict.length <= budget and verdict.drafted <= max(one.window for one in grants)


def _drafted(verdict: Verdict, rounds: Sequence[Draft | Decode]) -> bool:
    """Say whether what a verdict accepted was drafted, with one token of the target's own behind it."""
    drafted = {
        (one.base + place, token) for one in rounds if isinstance(one, Draft) for place, token in enumerate(one.tokens)
    }
    accepted = set(enumerate(verdict.tokens[: verdict.accepted], verdict.base))
    return accepted <= drafted and len(verdict.tokens) <= verdict.accepted + 1


# The ends


def _check_ends(history: History) -> Said:
    text = [token for verdict in history.verdicts for token in verdict.tokens]
    end = history.end
    whole = isinstance(end, Closed) and end.reason not in _EARLY
    expected = list(history.expected)
    if text != (expected if whole else expected[: len(text)]):
        yield Kind.TEXT, _difference(expected, text)
    shown = list(history.device.shown)
    if shown != (text if history.device.finish_reason else text[: len(shown)]):
        yield Kind.SHOWN, _difference(text, shown)
    yield from _check_head(history, len(history.prompt) + len(text))
    yield from _check_device(history)


def _check_head(history: History, length: int) -> Said:
    head, last = history.head, history.entries[-1]
    epoch = max((entry.message.epoch for entry in history.entries if isinstance(entry.message, Opened)), default=None)
    due: tuple[object, ...] = (True, last.number, epoch, length)
    told: tuple[object, ...] = (head.closed, head.entries, head.epoch, head.length)
    if epoch is None:  # refused: there never was a text
        due, told = due[:2], told[:2]
    if told != due:
        yield Kind.HEAD, f"expected (closed, entries, epoch, length) {due}, got {told}"


def _check_device(history: History) -> Said:
    device, end = history.device, history.end
    reason = end.reason if isinstance(end, Closed) else None
    if reason in _EARLY:
        reason = None
    if device.finish_reason != reason:
        yield Kind.DEVICE, f"the log ends with {reason or 'no text'}, the device with {device.finish_reason or 'none'}"
    elif device.error and reason is not None:
        yield Kind.DEVICE, f"the log ends with {reason}, the device raised {device.error}"


def _difference(expected: Sequence[int], came: Sequence[int]) -> str:
    place = next((i for i, pair in enumerate(zip(expected, came, strict=False)) if pair[0] != pair[1]), None)
    where = min(len(expected), len(came)) if place is None else place
    return f"expected {len(expected)} tokens, got {len(came)}; the first difference is at {where}"
