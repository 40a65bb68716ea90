"""How a session gets its place: its device asks a verifier, comes back where it is refused, and gives up in the end.

Pauses and patience are those of the live device (``producers/device/link.py``): who is refused again is one of many,
and for who is not there at all one waits for longer than for who is full.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from dsdq.policies.retry import LONGEST_RETRY_MS, RETRY_MS, Backoff
from dsdq.sim.held import Held
from dsdq.sim.messages import Grant, Window
from dsdq.sim.record import Request
from dsdq.sim.scenario.parts import live
from dsdq.sim.setting import Device, Setting
from dsdq.sim.verifier import Verifier

First = Window | Grant | None
"""What goes along with an opening."""


GIVE_UP_MS: int = live("give_up_ms")
"""For so long a device asks for a place where nobody answers."""


class Opening:
    """One session's.

    ``asked`` says whether it has been asked for; ``give_up`` is called where there is no place. ``link_ms`` is what the
    latest try took to Redis and back, ``there_ms`` when the first could have been taken in.
    """

    __slots__ = (
        "_asked_ms",
        "_backoff",
        "_device",
        "_give_up",
        "_held",
        "_luck",
        "_refusals",
        "_request",
        "_setting",
        "link_ms",
        "there_ms",
    )

    def __init__(
        self, setting: Setting, request: Request, device: Device, held: Held, give_up: Callable[[], None]
    ) -> None:
        self._setting, self._request, self._device, self._held = setting, request, device, held
        self._give_up: Callable[[], None] | None = give_up
        self.link_ms, self.there_ms = 0.0, -1.0
        self._asked_ms: float | None = None
        self._luck: Random | None = None
        self._backoff: Backoff | None = None
        self._refusals = 0

    @property
    def asked(self) -> bool:
        """Say whether a verifier has been asked."""
        return self._asked_ms is not None

    def close(self) -> None:
        """Be over: nobody is told anything any more."""
        self._give_up = None

    def ask(self, first: First) -> None:
        """Ask a verifier for a place."""
        setting = self._setting
        if self._asked_ms is None:
            self._asked_ms = setting.kernel.now_ms
        verifier = setting.cloud.route()
        if verifier is None:
            self._arrived()
            self._come_back(self._pause_ms(), first, GIVE_UP_MS)
            return
        size = setting.broker.size(self._request.prompt + (first.size if isinstance(first, Window) else 0))
        self._request.bytes_up += size
        now_ms = setting.kernel.now_ms
        there_ms = self._device.up.arrival_ms(now_ms, size)
        self.link_ms = there_ms - now_ms + self._device.reply_ms(now_ms)
        setting.kernel.at(there_ms, self._at_verifier, (verifier, first))

    def _at_verifier(self, asked: tuple[Verifier, First]) -> None:
        """Let the verifier take the session in, or hear when to come back."""
        self._arrived()
        verifier, first = asked
        if not verifier.fits(self._held):
            self._refuse()
            return
        refusal_ms = self._setting.cloud.open(self._held, verifier)
        if refusal_ms is None:
            self._come_back(self._heard_ms() + self._pause_ms(), first, GIVE_UP_MS)
        elif refusal_ms:
            self._refusals += 1
            pause_ms = refusal_ms * self._lucky().uniform(0.5, 1.5) * self._refusals
            self._come_back(self._heard_ms() + pause_ms, first, self._device.open_timeout_ms)
        elif first is not None:
            self._setting.cloud.receive(self._held, first)

    def _arrived(self) -> None:
        if self.there_ms < 0:
            self.there_ms = self._setting.kernel.now_ms

    def _come_back(self, pause_ms: float, first: First, patience_ms: float) -> None:
        """Ask again behind a pause, unless patience is over by then."""
        kernel, began_ms = self._setting.kernel, self._asked_ms or 0.0
        if kernel.now_ms + pause_ms - began_ms >= patience_ms:
            self._refuse()
            return
        self._request.retries += 1
        kernel.after(pause_ms, self.ask, first)

    def _refuse(self) -> None:
        if self._give_up is not None:
            self._give_up()

    def _heard_ms(self) -> float:
        return self._device.reply_ms(self._setting.kernel.now_ms)

    def _pause_ms(self) -> float:
        if self._backoff is None:
            self._backoff = Backoff(self._lucky(), RETRY_MS, LONGEST_RETRY_MS)
        return self._backoff.next_ms()

    def _lucky(self) -> Random:
        if self._luck is None:
            self._luck = self._device.luck("opening")
        return self._luck
