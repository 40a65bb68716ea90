"""A policy that works the way that promises most, and tries what it cannot see: the machinery, whoever foretells rates.

Another mode is taken when its rate is higher by more than ``1 % + pause / 20 s``, where the pause is what the change
itself takes. What is not used is not seen, so it is tried: what the policy says at the beginning, and later a
mode whenever it would win if all that is uncertain were as good as it may well be (acceptance higher by 1.5 standard
errors; what was not heard of for long moves towards the best possible). A try is one round, or a grant of a few tokens.
What tries lost is kept account of: no more than 1.5 % of the time that has gone by, and one round. A device that
guesses along with streams and measures its link sees acceptance and network without a try
(:mod:`dsdq.policies.window.protocol`), so its acceptance is no reason for one.

A text that follows another begins the best way that one has found (:mod:`dsdq.policies.window.experience`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from dsdq.policies.window import rates
from dsdq.policies.window.estimates import Estimates
from dsdq.policies.window.planner import Plan
from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer

_STREAMS = (Mode.TARGET_ONLY, Mode.COLOCATED)
_GAIN = 0.01
_CLEARLY = 1.3
_AMORTISED_MS = 20_000.0
_TRIES_SHARE = 0.015
_HOPE = 1.5
_HALF_LIFE_MS = 10_000.0
TRIAL_TOKENS = {Mode.TARGET_ONLY: 2, Mode.COLOCATED: 12}
_TRIAL_ROUNDS = 1
_FIRST_ROUNDS = 3
_CREDIT_ROUNDS = 1
_HOPED_EVERY = 4
ROUND_TRIPS = 2.0
"""A grant's last half lasts for so many: one until the next is there, one in which a verdict may wait to be read."""


@dataclass(slots=True)
class _Trial:
    """A mode that is being tried: ``left`` rounds are still to be asked for, ``unread`` tokens of a grant to come."""

    choice: Choice
    left: int
    unread: int
    since_ms: float
    committed: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What rates are foretold from, as it is or as it may be: ``server`` is α and φ of the verifier's own drafter.

    Plans are wanted for these ``modes``, with windows of at most ``widest`` tokens where the device drafts.
    """

    modes: frozenset[Mode]
    known: Estimates
    speeds: rates.Speeds
    server: tuple[float, float]
    widest: int


class Planner(Protocol):
    """Foretells rates. Of what it found it may keep what helps it to find the next."""

    def plans(self, view: View) -> dict[Mode, Plan]:
        """Return the best way to work in each mode; none for the verifier's drafter before anything is known of it."""
        ...


class Explorer:
    """See the module. Planner ``plans`` is asked how things are, ``hopes`` how they may be.

    In the ``beginning`` some ways are tried, at least one of them, whatever the planners say.
    """

    uses_confidence: ClassVar[bool] = False
    uses_guesses: ClassVar[bool] = True

    def __init__(self, offer: Offer, plans: Planner, hopes: Planner, beginning: Sequence[Choice]) -> None:
        self._offer = offer
        self._planner, self._hoping = plans, hopes
        self._widest = offer.max_window
        self._beginning = beginning
        self._spent_ms, self._began_ms, self._now_ms = 0.0, -1.0, 0.0
        self._rate = 0.0
        self._unhoped = 0  # verdicts since a try was last considered
        self._begin(Estimates())

    def go_on_from(self, before: object) -> None:
        """Begin with what a policy of this kind has learned from the device's text before, if it is one."""
        if isinstance(before, Explorer):
            self._begin(before.learned())

    def learned(self) -> Estimates:
        """Return what the next text's policy may begin with."""
        return self._known.carried()

    def _begin(self, known: Estimates) -> None:
        """Begin a text: try what was never seen, or else work the best known way."""
        self._known = known
        self._plans: dict[Mode, Plan] | None = None  # since the last observation
        self._untried = [one for one in self._beginning if not known.seen[one.mode]]
        self._trial: _Trial | None = None
        if self._untried:
            self._current = self._untried[0]
            self._try(self._current, _FIRST_ROUNDS)
        else:
            best = max(self.plans().values(), key=lambda one: one.rate)
            self._current, self._rate = best.choice, best.rate

    def observe(self, observation: Observation) -> None:
        """Take in what a verdict showed; decide anew."""
        seen = observation
        self._now_ms = seen.time_ms
        if self._began_ms < 0:
            self._began_ms = seen.time_ms - seen.round_trip_ms - seen.draft_ms
        self._known.observe(seen)
        self._plans = None
        self._widest = max(1, min(self._offer.max_window, seen.max_window))
        self._narrow_trial()
        tried = self._follow_trial(seen)
        if self._trial is None or self._proves_best(seen) or self._proves_worse(seen):
            self._decide(tried)

    def choose(self) -> Choice:
        """Return the best known choice, or the one that is being tried."""
        if self._trial is not None and self._trial.left:
            return self._trial.choice
        return self._current

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft the whole window: it is as wide as pays on average."""
        return True

    def plans(self) -> dict[Mode, Plan]:
        """Return the best known way to work in each mode on offer."""
        if self._plans is None:
            self._plans = self._planner.plans(self.view())
        return self._plans

    def view(self) -> View:
        """Return how things are, as far as is known."""
        known = self._known
        return View(self._offer.modes, known, known.speeds(), known.drafters()[1].parts(), self._widest)

    def _hopes(self, mode: Mode) -> dict[Mode, Plan]:
        """Return the same for all but one mode, with everything that is not certain as good as it may well be."""
        known, now_ms = self._known, self._now_ms
        # What a device that guesses along sees of its acceptance costs nothing: no need to pay for it.
        hope = 0.0 if known.guesses else _HOPE
        device, verifier = known.drafters()
        acceptance, first = device.parts(hope, (now_ms - known.acceptance_ms) / _HALF_LIFE_MS)
        network_ms = known.network_ms.mean * 0.5 ** ((now_ms - known.heard_ms) / _HALF_LIFE_MS)
        server = verifier.parts(_HOPE, (now_ms - known.server_ms) / _HALF_LIFE_MS)
        hoped = replace(known.speeds(), acceptance=acceptance, first=first, network_ms=network_ms)
        return self._hoping.plans(View(self._offer.modes - {mode}, known, hoped, server, self._widest))

    def _follow_trial(self, seen: Observation) -> Mode | None:
        """Count a trial's verdict; return the mode that was tried if that was the last.

        What was granted may be less than the trial's budget: then another mode's verdict shows that it is over.
        """
        trial = self._trial
        if trial is None:
            return None
        ours = seen.mode is trial.choice.mode or (seen.silent and trial.choice.mode is Mode.SPECULATE)
        if ours:
            trial.left = max(0, trial.left - 1)
            trial.unread -= seen.committed
        trial.committed += seen.committed  # of a grant that was not used up too: that time was not lost
        if trial.left or (ours and trial.unread > 0):
            return None
        if self._rate:
            lost_ms = self._now_ms - trial.since_ms - 1000 * trial.committed / self._rate
            self._spent_ms += max(0.0, lost_ms)
        self._trial = None
        return trial.choice.mode

    def _narrow_trial(self) -> None:
        """Keep to what the verifier asks for, when it asks for less than what is being tried."""
        trial = self._trial
        if trial is not None and trial.choice.mode is Mode.SPECULATE and trial.choice.window > self._widest:
            trial.choice = replace(trial.choice, window=self._widest)

    def _proves_best(self, seen: Observation) -> bool:
        """End the trial of a stream that is the best by now, so that its grant is renewed in time."""
        trial = self._trial
        if self._untried[1:] or trial is None or seen.mode is not trial.choice.mode or seen.mode not in _STREAMS:
            return False
        plans = self.plans()
        if seen.mode not in plans or max(plans, key=lambda one: plans[one].rate) is not seen.mode:
            return False
        self._trial, self._current = None, plans[seen.mode].choice
        return True

    def _proves_worse(self, seen: Observation) -> bool:
        """End the trial of the target alone where drafts are clearly better: two passes say what it comes to.

        How often a device's drafts are right has to be seen by then, from guesses along with the stream.
        """
        known, trial = self._known, self._trial
        if trial is None or not trial.choice.mode is seen.mode is Mode.TARGET_ONLY or not known.guesses:
            return False
        plans = self.plans()
        if known.seen[Mode.TARGET_ONLY] < 2 or Mode.TARGET_ONLY not in plans:
            return False
        if max(plan.rate for plan in plans.values()) < _CLEARLY * plans[Mode.TARGET_ONLY].rate:
            return False
        self._trial = None
        return True

    def opening(self, choice: Choice) -> Choice:
        """Return one of the ways to begin with as it is best tried by what is known by then: as it is, unless told."""
        return choice

    def _decide(self, tried: Mode | None) -> None:
        if self._untried and self._known.seen[self._untried[0].mode]:
            self._untried.pop(0)
        if self._untried:
            self._try(self.opening(self._untried[0]), _FIRST_ROUNDS)
            return
        plans = self.plans()
        mode = self._current.mode if self._current.mode in plans else next(iter(plans))
        best = max(plans, key=lambda one: plans[one].rate)
        pause_ms = self._known.network_ms.mean + self._known.queue_ms.mean
        if best is not mode and plans[best].rate > plans[mode].rate * (1 + _GAIN + pause_ms / _AMORTISED_MS):
            mode = best
        self._current, self._rate = plans[mode].choice, plans[mode].rate
        self._consider_trial(mode, pause_ms, tried)

    def _consider_trial(self, mode: Mode, pause_ms: float, tried: Mode | None) -> None:
        """Try a mode that may well be better, if the account allows; what was ``tried`` just now goes on at once.

        Hopes hardly change from one verdict to the next, and reckoning them costs as much as the plans themselves.
        """
        self._unhoped += 1
        if tried is None and self._unhoped < _HOPED_EVERY:
            return
        self._unhoped = 0
        credit_ms = _CREDIT_ROUNDS * (pause_ms + self._known.passes.ms(1))
        allowed_ms = credit_ms + _TRIES_SHARE * (self._now_ms - self._began_ms) - self._spent_ms
        if allowed_ms <= 0:
            return
        for other, plan in self._hopes(mode).items():
            if plan.rate <= self._rate * (1 + _GAIN):
                continue
            trial = _trial_of(plan)
            change_ms = 0.0 if other is tried else 2 * pause_ms  # there and back
            if change_ms + 300 * (trial.budget or 2) / plan.rate <= allowed_ms:
                self._spent_ms += change_ms / 2
                self._try(trial)
                return

    def _try(self, choice: Choice, rounds: int = _TRIAL_ROUNDS) -> None:
        asked = rounds if choice.mode is Mode.SPECULATE else 1
        # Of a stream that another one is to follow, a verdict says enough: their grants join without a pause.
        unread = 1 if self._untried[1:] else choice.budget
        self._trial = _Trial(choice, asked, unread, self._now_ms)


def _trial_of(plan: Plan) -> Choice:
    if plan.choice.mode is Mode.SPECULATE:
        return plan.choice
    return replace(plan.choice, budget=TRIAL_TOKENS[plan.choice.mode])


def verifier_decides(offer: Offer, known: Estimates) -> bool:
    """Say whether a verifier that drafts is on offer and has passes for several sessions, by and large.

    A pass lasts as long for all of them, so that none gains by asking for no draft; and a device cannot see what a
    draft is worth to all. It asks for the widest window, and the verifier drafts no further than pays, or not at all.
    """
    return Mode.COLOCATED in offer.modes and known.seen[Mode.COLOCATED] > 0 and known.shared


def stream(mode: Mode, window: int, rate: float, speeds: rates.Speeds, drafted: float | None = None) -> Plan:
    """Return a plan with grants so large that the next, asked for at half of one, is there before a round is cut.

    A round has a whole ``window``, unless it is ``drafted`` for no further than so many tokens on average.
    """
    on_the_way = int(ROUND_TRIPS * rate * speeds.network_ms / 1000)
    round_tokens = window if drafted is None else min(window, round(2 * drafted))
    return Plan(Choice(window, 1, mode, min(1024, 2 * (on_the_way + round_tokens + 5))), rate)
