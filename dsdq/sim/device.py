"""One text on one device: draft, publish, draft on while verdicts are on their way, and read them.

The order of things is the live device's (``producers/device/rounds.py``): a session opens together with its first round
if that is drafted within a round trip; a verdict that leaves standing what is drafted behind it lets the device go on,
any other makes it begin again where the text is; a stream's next grant is asked for at half of the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from dsdq.policies.retry import LEAST_TIMEOUT_MS, AnswerTimeout, Backoff
from dsdq.policies.window import Choice, Mode, Observation, Static, Streaming, WindowPolicy, far_from
from dsdq.policies.window.protocol import PAUSE, RENEW
from dsdq.sim.guesses import Guesses
from dsdq.sim.guessing import Guessing
from dsdq.sim.held import UNKNOWN, Held
from dsdq.sim.messages import Answer, Grant, Opened, Verdict, Window
from dsdq.sim.opening import Opening
from dsdq.sim.record import FINISHED, LEFT, REFUSED, Request
from dsdq.sim.scenario.parts import live
from dsdq.sim.setting import Device, Setting

LAST_TOKEN = Choice(0, 1, Mode.TARGET_ONLY, budget=1)
LEAST_LOOK_MS = 1.0
MOST_TIMEOUT_MS: int = live("verdict_timeout_ms")


def _unheard(_: Answer) -> None:
    """Take an answer that nobody waits for."""


class Generation:
    """See the module. ``done`` is called when the text is over, whatever became of it.

    A device that ``leaves_at`` a position goes away there for good.
    """

    def __init__(
        self,
        setting: Setting,
        request: Request,
        policy: WindowPolicy,
        device: Device,
        guesses: tuple[Guesses, Guesses],
        done: Callable[[], None],
        leaves_at: int = UNKNOWN,
    ) -> None:
        self._setting, self._kernel, self._broker = setting, setting.kernel, setting.broker
        self._request, self._policy, self._device = request, policy, device
        self._guesses, self._done, self._leaves_at = guesses[0], done, leaves_at
        self._learns = not isinstance(policy, Static | Streaming)
        self._told = request.output if setting.known_length else UNKNOWN
        self._held = Held(
            f"{request.tenant}/{request.number}",
            request.tenant,
            request.prompt,
            request.output,
            guesses,
            self._say,
            known_length=setting.known_length,
        )
        self._length, self._next, self._branch, self._number = 0, 0, 0, 0
        self._widest = setting.max_window
        self._flight: deque[Window] = deque()
        self._drafting: Window | None = None
        self._made: Window | None = None  # drafted before the session was opened
        self._opening = Opening(setting, request, device, self._held, self._refuse)
        self._opened, self._over = False, False
        self._granted, self._asked_ms, self._last_grant = 0, 0.0, Choice(0)
        self._link_ms: float | None = None
        self._read_ms, self._draft_from_ms = 0.0, 0.0
        self._guessing = Guessing(guesses[0], device.draft_ms)
        self._watched, self._repeated_ms, self._look_ms = False, 0.0, 0.0
        self._timeout = AnswerTimeout(LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS)
        self._luck: Random | None = None
        self._backoff: Backoff | None = None

    def begin(self) -> None:
        """Ask for the text as soon as the device's program is ready, and knows who serves."""
        self._request.began_ms = self._kernel.now_ms
        if self._device.begin_ms:
            self._kernel.after(self._device.begin_ms, self._start)
        else:
            self._start(None)

    def _start(self, _: object) -> None:
        """Read the prompt, draft, and open the session: together with its first round if that is soon enough."""
        choice = self._choice()
        if choice.mode is Mode.SPECULATE and self._told == 1:
            choice = LAST_TOKEN
        if choice.mode is not Mode.SPECULATE:
            self._opening.ask(self._next_grant(choice))
            return
        self._read_prompt()
        self._draft(choice)
        self._kernel.after(self._device.round_trip_ms, self._open_alone)

    def _read_prompt(self) -> None:
        """Let the drafter read the prompt, before it drafts or guesses anything."""
        reading_ms = self._device.prompt_ms * self._request.prompt
        self._read_ms = self._kernel.now_ms + reading_ms
        self._request.drafter_ms += reading_ms

    def _open_alone(self, _: object) -> None:
        if not self._opening.asked:
            self._opening.ask(None)

    def _refuse(self) -> None:
        self._end(REFUSED)

    # Asking

    def _go_on(self) -> None:
        """Draft the next window, or ask for a grant, if it is time to."""
        if self._over or not self._opened:
            return
        choice = self._choice()
        if choice.mode is not Mode.SPECULATE:
            if self._granted <= self._length:
                self._drop()
                if not self._flight:
                    self._publish_grant(choice)
        elif self._granted <= self._length and self._drafting is None and len(self._flight) < choice.depth:
            self._draft(choice)

    def _choice(self) -> Choice:
        """Return the policy's choice, but no draft that the verifier does not want."""
        choice = self._policy.choose()
        return PAUSE if not self._widest and choice.mode is Mode.SPECULATE else choice

    def _draft(self, choice: Choice) -> None:
        """Draft a window behind all that is in flight, as wide as policy, verifier and text allow."""
        size = min(choice.window, self._widest, self._told - self._next - 1)
        if size <= 0:
            if not self._flight:
                self._publish_grant(LAST_TOKEN)
            return
        confidences: tuple[float, ...] = ()
        if self._policy.uses_confidence:
            confidences = self._told_apart(size)
            size = len(confidences) or size
        self._number += 1
        window = Window(self._number, self._branch, self._next, size, choice, size * self._device.draft_ms)
        window.confidences = confidences
        self._drafting = window
        self._draft_from_ms = max(self._kernel.now_ms, self._read_ms)
        self._kernel.at(self._draft_from_ms + window.draft_ms + self._device.round_ms, self._drafted, window)

    def _drop(self) -> None:
        """Let a draft be that nobody wants any more."""
        window, self._drafting = self._drafting, None
        if window is not None and window is not self._made:
            worked_ms = max(self._kernel.now_ms - self._draft_from_ms, 0.0)
            self._request.drafter_ms += min(worked_ms, window.draft_ms)

    def _told_apart(self, size: int) -> tuple[float, ...]:
        """Return the confidences of the tokens that the policy wants, of so many; none if there are none."""
        confidences = self._guesses.confidences(self._next, size)
        for place, confidence in enumerate(confidences, 1):
            if not self._policy.wants_more(confidence, place):
                return tuple(confidences[:place])
        return tuple(confidences)

    def _drafted(self, window: Window) -> None:
        """Publish a window, with the opening if that has not been sent; keep it while that is on its way."""
        if window is not self._drafting or self._over:
            return
        self._request.drafter_ms += window.draft_ms
        if window.end <= self._length:  # a verdict that came meanwhile has committed all of it
            self._drafting, self._next = None, self._length
            self._go_on()
            return
        asked = self._opening.asked
        if asked and not self._opened:
            self._made = window
            return
        self._launch(window)
        if asked:
            self._send(window, window.size)
            if len(self._flight) < window.choice.depth:
                self._go_on()
        else:
            self._opening.ask(window)

    def _launch(self, window: Window) -> None:
        window.published_ms, window.in_flight = self._kernel.now_ms, len(self._flight)
        self._drafting, self._made, self._next = None, None, window.end
        self._flight.append(window)
        self._setting.record.published(self._request, window)
        if self._setting.repeats:
            self._watch()

    def _publish_grant(self, choice: Choice) -> None:
        self._send(self._next_grant(choice), 0)

    def _next_grant(self, choice: Choice) -> Grant:
        fresh = self._granted <= self._length
        if fresh:
            self._asked_ms = self._kernel.now_ms
            self._begin_guessing()
        self._granted = min(max(self._granted, self._length + choice.budget), self._told)
        self._last_grant = choice
        if self._setting.repeats:
            self._watch()
        return Grant(self._granted, choice, fresh)

    def _send(self, message: Window | Grant, tokens: int) -> None:
        now_ms, size = self._kernel.now_ms, self._broker.size(tokens)
        self._request.bytes_up += size
        there_ms = self._device.up.arrival_ms(now_ms, size)
        self._link_ms = there_ms - now_ms + self._device.reply_ms(now_ms)
        if not (self._setting.repeats and self._setting.cloud.loses()):
            self._kernel.at(there_ms, self._arrive, message)

    def _arrive(self, message: Window | Grant) -> None:
        self._setting.cloud.receive(self._held, message)

    # What does not come

    def _watch(self) -> None:
        """Begin to look for answers that do not come, if nobody looks yet."""
        if not self._watched:
            self._watched = True
            self._kernel.after(self._timeout.ms, self._look)

    def _look(self, _: object) -> None:
        """Ask again for what has had no answer for too long, a window or the next token of a grant; look again."""
        now_ms, granted = self._kernel.now_ms, self._granted > self._length
        if self._over or not (self._flight or granted):
            self._watched = False
            return
        since_ms = max(self._flight[0].published_ms if self._flight else self._asked_ms, self._look_ms)
        left_ms = since_ms + self._timeout.ms - now_ms
        if left_ms > 0:
            self._kernel.after(max(left_ms, LEAST_LOOK_MS), self._look)
            return
        self._request.repeats += 1
        for message in self._flight or [Grant(self._granted, self._last_grant, fresh=False)]:
            self._send(message, message.size if isinstance(message, Window) else 0)
        if self._backoff is None:
            self._luck = self._luck or self._device.luck("repeats")
            self._backoff = Backoff(self._luck, self._timeout.ms, MOST_TIMEOUT_MS)
        self._repeated_ms, self._look_ms = now_ms, now_ms + self._backoff.next_ms()
        self._kernel.after(self._look_ms - now_ms + self._timeout.ms, self._look)

    # Answers

    def _say(self, answer: Answer) -> None:
        """Send an answer down; it is read when it is there."""
        if self._over:
            return
        size = self._broker.size(answer.committed if isinstance(answer, Verdict) else 0)
        self._request.bytes_down += size
        # What a session is opened with is read ahead too, be it a grant.
        leaves_ms = self._device.leaves_ms(self._kernel.now_ms, ahead=self._granted <= self._length or not self._length)
        there_ms = self._device.down.arrival_ms(leaves_ms, size)
        self._kernel.at(there_ms, self._read, answer)

    def _read(self, answer: Answer) -> None:
        if self._over:
            return
        if isinstance(answer, Opened):
            self._take_place(answer)
        elif answer.windows:
            self._read_verdict(answer)
        else:
            self._read_stream(answer)

    def _take_place(self, opened: Opened) -> None:
        if self._opened:
            return  # another verifier has taken the session over
        self._opened = True
        self._widest = opened.max_window
        self._count_waiting()
        if self._granted:
            self._read_prompt()
            self._begin_guessing()
        if self._made is not None:
            window = self._made
            self._launch(window)
            self._send(window, window.size)
        self._go_on()

    def _count_waiting(self) -> None:
        """Take the round that went along with the opening for sent a trip ago: policies see no slow link in it."""
        opening, self._link_ms = self._opening, self._opening.link_ms
        self._request.place_ms = max(self._held.opened_ms - opening.there_ms, 0.0)
        self._asked_ms = self._kernel.now_ms - opening.link_ms
        for window in self._flight:
            window.published_ms = self._asked_ms

    def _read_verdict(self, verdict: Verdict) -> None:
        last, flight = verdict.windows[-1], self._flight
        ahead = verdict.accepted == verdict.drafted and (self._drafting is not None or flight[-1] is not last)
        published_ms = verdict.windows[0].published_ms
        if verdict.keeps:
            while flight and flight[0].number <= last.number:
                flight.popleft()
        else:
            flight.clear()
            self._branch += 1
            self._drop()
        self._length = verdict.length
        if self._drafting is None and not flight:
            self._next = verdict.length
        self._take_in(verdict, published_ms, ahead=ahead)
        if not self._over:
            self._go_on()

    def _read_stream(self, verdict: Verdict) -> None:
        self._length = self._next = verdict.length
        self._branch += 1
        self._take_in(verdict, self._asked_ms)
        if self._over:
            return
        self._asked_ms = self._kernel.now_ms
        choice, left = self._choice(), self._granted - self._length
        if left <= 0:
            self._go_on()
        elif choice.mode is not Mode.SPECULATE:
            granted = self._last_grant
            other = verdict.choice is granted and far_from(choice.window, granted.window)
            renew = 0 if choice is PAUSE else RENEW * choice.budget
            if other or left <= min(renew, self._told - self._length - 1):
                self._publish_grant(choice)

    def _take_in(self, verdict: Verdict, since_ms: float, *, ahead: bool = False) -> None:
        """Take note of a verdict, let the policy know, and end with the text."""
        now_ms = self._kernel.now_ms
        waited_ms = now_ms - since_ms
        self._setting.record.read(self._request, verdict, waited_ms, now_ms)
        widest, self._widest = self._widest, verdict.max_window
        if self._setting.repeats:
            if since_ms > self._repeated_ms:  # what was repeated tells nothing
                self._timeout.observe(waited_ms)
            self._backoff = None
        if verdict.finished:
            self._end(FINISHED)
        elif verdict.length >= self._leaves_at:
            self._setting.cloud.abandon(self._held)
            self._end(LEFT)
        elif self._learns:
            self._policy.observe(self._observation(verdict, waited_ms, widest, ahead=ahead))

    def _observation(self, verdict: Verdict, waited_ms: float, widest: int, *, ahead: bool) -> Observation:
        """Return what a verdict shows the policy; ``widest`` is what the verifier asked for before it."""
        windows, device = verdict.windows, self._device
        link_ms, self._link_ms = self._link_ms, None
        guessed, right = (int(ahead), int(ahead and verdict.keeps)) if windows else self._guessed(verdict.length)
        return Observation(
            drafted=verdict.drafted,
            accepted=verdict.accepted,
            draft_ms=sum(window.draft_ms for window in windows),
            draft_token_ms=device.draft_ms if windows else 0.0,
            round_trip_ms=waited_ms,
            queue_ms=verdict.queue_ms,
            verify_ms=verdict.verify_ms,
            committed=verdict.committed,
            mode=verdict.choice.mode,
            time_ms=self._kernel.now_ms,
            part=verdict.part,
            in_flight=windows[0].in_flight if windows else 0,
            max_window=verdict.max_window,
            batch_rows=verdict.batch_rows,
            link_ms=link_ms,
            confidences=tuple(one for window in windows for one in window.confidences),
            guessed=guessed,
            guessed_right=right,
            guess_ms=0.0 if windows else guessed * device.draft_ms,
            # As live, what the verifier was asked to draft and did not counts as not known.
            wanted=verdict.drafted if windows else min(verdict.most, widest),
        )

    def _begin_guessing(self) -> None:
        """Guess what is committed from now on, once the prompt is read."""
        self._guessing.begin(self._length, max(self._kernel.now_ms, self._read_ms))

    def _guessed(self, length: int) -> tuple[int, int]:
        """Return how many tokens of a stream were guessed by now, along with it, and how many of them right."""
        if not self._policy.uses_guesses:
            return 0, 0
        guessed, right = self._guessing.judged(length, self._kernel.now_ms)
        if guessed:
            self._request.drafter_ms += self._guessing.took_ms
        return guessed, right

    def _end(self, outcome: str) -> None:
        """Be over, whatever is still on its way."""
        self._drop()
        self._over = True
        self._held.answer = _unheard  # nor does anything hold on to what is over
        self._opening.close()
        self._setting.record.ended(self._request, outcome, self._kernel.now_ms)
        self._done()
