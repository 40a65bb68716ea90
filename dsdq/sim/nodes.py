"""Nodes of targets that work on one text at a time (:mod:`dsdq.sim.dsi`), and the devices that read what they make.

A request goes to a node by the routing policy, waits there for its turn, and has all targets of the node until its text
is done; its tokens are sent as soon as they are certain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from dsdq.policies import routing
from dsdq.policies.window import Choice, Mode
from dsdq.sim.cloud import Entry
from dsdq.sim.costs import StepTimes
from dsdq.sim.dsi import Commit, Course, Speeds, course
from dsdq.sim.guesses import Guesses
from dsdq.sim.held import UNKNOWN
from dsdq.sim.kernel import Kernel
from dsdq.sim.messages import Verdict
from dsdq.sim.record import FINISHED, LEFT, REFUSED, Record, Request
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.streams import Streams

if TYPE_CHECKING:
    from dsdq.sim.setting import Device, Setting


class Node:
    """Some targets and their drafter, which make one text after the other. Its figures are as a verifier's.

    ``luck`` is how long passes take.
    """

    def __init__(self, wid: str, kernel: Kernel, scenario: Scenario, record: Record, luck: Random) -> None:
        self.wid, self.slots, self.row_ms, self.alive = wid, 1, 0.0, True
        self._kernel, self._record = kernel, record
        self._figures, self._parallel = scenario.verifiers, scenario.parallel
        self._times, self._luck = StepTimes(scenario.verifiers), luck
        self._waiting: deque[Reading] = deque()
        self._busy = False

    @property
    def sessions(self) -> int:
        """Return how many texts it has, those among them that wait."""
        return len(self._waiting) + self._busy

    def fits(self, request: Request) -> bool:
        """Say whether a text has room in the KV cache of each target."""
        return request.prompt + request.output + self._parallel.lookahead <= self._figures.kv_tokens

    def open(self, reading: Reading) -> None:
        """Let a text wait for its turn."""
        self._waiting.append(reading)
        if not self._busy:
            self._next(None)

    def _next(self, _: object) -> None:
        """Make the text that has waited longest."""
        self._busy = bool(self._waiting)
        if not self._busy:
            return
        reading, now_ms = self._waiting.popleft(), self._kernel.now_ms
        made, fed_ms = self._course(reading), self._feed(reading.request.prompt, now_ms)
        before_ms, waited_ms = now_ms, now_ms - reading.opened_ms
        for commit in made.commits:
            at_ms = fed_ms + commit.at_ms
            self._kernel.at(at_ms, reading.certain, (commit, waited_ms, at_ms - before_ms))
            before_ms, waited_ms = at_ms, 0.0
        for one in made.passes:
            self._record.worked(fed_ms + one.started_ms, fed_ms + one.ended_ms, 1, one.positions)
        took_ms = fed_ms + made.ended_ms - now_ms
        self.row_ms = routing.moving_row_ms(self.row_ms, took_ms)
        self._kernel.after(took_ms, self._next)

    def _course(self, reading: Reading) -> Course:
        request, times = reading.request, self._times
        draft_ms = times.draft_ms([1])

        def _pass_ms(positions: int, length: int) -> float:
            return times.longer(self._luck) * times.step_ms(1, positions, request.prompt + length)

        made = course(
            reading.guesses,
            request.output,
            Speeds(draft_ms, _pass_ms, self._figures.between_ms),
            targets=self._parallel.targets,
            lookahead=self._parallel.lookahead,
            known_length=reading.known_length,
        )
        request.own_drafted += made.drafted - made.judged  # what is judged is counted as its verdict is read
        return made

    def _feed(self, prompt: int, now_ms: float) -> float:
        """Let every target read a prompt but for its last token; return when that is done."""
        for cached in range(0, prompt - 1, self._figures.prefill_tokens):
            count = min(self._figures.prefill_tokens, prompt - 1 - cached)
            now_ms += self._figures.between_ms if cached else 0.0
            ended_ms = now_ms + self._times.longer(self._luck) * self._times.step_ms(1, count, cached + count, count)
            for _ in range(self._parallel.targets):
                self._record.worked(now_ms, ended_ms, 1, count)
            now_ms = ended_ms
        return now_ms


class Nodes:
    """All nodes, and which of them a request goes to."""

    def __init__(self, kernel: Kernel, scenario: Scenario, streams: Streams, record: Record) -> None:
        luck = streams.of("nodes")
        self._kernel, self._heartbeat_ms = kernel, scenario.verifiers.heartbeat_ms
        self._choose = routing.POLICIES[scenario.routing.policy](luck.random("routing"))
        self._entries: list[Entry[Node]] = [
            Entry(
                Node(f"n{number}", kernel, scenario, record, luck.random("passes", number)),
                luck.random("heartbeat", number).random(),
            )
            for number in range(scenario.verifiers.count // scenario.parallel.targets)
        ]

    def route(self) -> Node:
        """Return the node that a request is to ask."""
        for entry in self._entries:
            entry.look(self._kernel.now_ms, self._heartbeat_ms)
        chosen: Entry[Node] = self._choose(self._entries, b"")  # type: ignore[assignment] # one of those given
        return chosen.verifier


class Reading:
    """One text, as its device asks for it and reads it. ``done`` is called when it is over, whatever became of it."""

    def __init__(
        self,
        setting: Setting,
        request: Request,
        device: Device,
        guesses: Guesses,
        done: Callable[[], None],
        leaves_at: int = UNKNOWN,
    ) -> None:
        self.request, self.guesses, self.known_length = request, guesses, setting.known_length
        self.opened_ms = 0.0
        self._setting, self._kernel, self._device, self._done = setting, setting.kernel, device, done
        self._leaves_at, self._asked_ms, self._over = leaves_at, 0.0, False

    def begin(self, nodes: Nodes) -> None:
        """Ask a node for the text."""
        self.request.began_ms = self._kernel.now_ms
        self._asked_ms = self._kernel.now_ms + self._device.begin_ms
        size = self._setting.broker.size(self.request.prompt)
        self.request.bytes_up += size
        there_ms = self._device.up.arrival_ms(self._asked_ms, size)
        self._kernel.at(there_ms, self._at_node, nodes.route())

    def _at_node(self, node: Node) -> None:
        if not node.fits(self.request):
            self._end(REFUSED)
            return
        self.opened_ms = self._kernel.now_ms
        node.open(self)

    def certain(self, what: tuple[Commit, float, float]) -> None:
        """Send tokens down that are certain now; it waited so long for its turn, and then was worked on."""
        commit, waited_ms, worked_ms = what
        if self._over:
            return
        choice = Choice(commit.judged, 1, Mode.COLOCATED)
        verdict = Verdict(
            choice, commit.judged, commit.accepted, commit.committed, commit.length, waited_ms, worked_ms, 1,
            commit.length >= self.request.output,
        )  # fmt: skip
        size = self._setting.broker.size(commit.committed)
        self.request.bytes_down += size
        leaves_ms = self._device.leaves_ms(self._kernel.now_ms, ahead=commit.length == commit.committed)
        there_ms = self._device.down.arrival_ms(leaves_ms, size)
        self._kernel.at(there_ms, self._read, verdict)

    def _read(self, verdict: Verdict) -> None:
        if self._over:
            return
        now_ms = self._kernel.now_ms
        self._setting.record.read(self.request, verdict, now_ms - self._asked_ms, now_ms)
        self._asked_ms = now_ms
        if verdict.finished:
            self._end(FINISHED)
        elif verdict.length >= self._leaves_at:
            self._end(LEFT)

    def _end(self, outcome: str) -> None:
        self._over = True
        self._setting.record.ended(self.request, outcome, self._kernel.now_ms)
        self._done()
