"""What decides in a scenario: how far devices draft, where sessions go, and what goes into a step."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dsdq.contract import MAX_WINDOW
from dsdq.errors import ConfigError
from dsdq.policies import batching, routing
from dsdq.policies.window import MAX_DEPTH, Mode, Offer, load_policy
from dsdq.sim.scenario.mistakes import shown
from dsdq.sim.scenario.parts import NotNegative, Part


def one_of(known: Collection[str]) -> AfterValidator:
    """Return what refuses any name but some."""

    def _known(name: str) -> str:
        if name not in known:
            msg = f"expected one of {', '.join(known)}, got {shown(name)}"
            raise ValueError(msg)
        return name

    return AfterValidator(_known)


class Window(Part):
    """How far devices draft.

    Attributes:
        policy: as ``dsdq generate --policy`` takes it.
        max_window: tokens, the contract's bound.
        max_depth: windows in flight.
        steered: whether verifiers ask for narrower windows under load, as dsdq's do.
    """

    policy: str = "optimal"
    max_window: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = 32
    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 4
    steered: bool = True

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.check(Mode)
        return self

    def check(self, modes: Iterable[Mode], place: str = "") -> None:
        """Return if the policy can be chosen where these modes are on offer.

        Raises:
            ValueError: it cannot; the message begins with the field's path from ``place``.
        """
        try:
            load_policy(self.policy, Offer(self.max_window, self.max_depth, frozenset(modes)))
        except ConfigError as error:
            msg = f"{place}policy: {error}"
            raise ValueError(msg) from None


class Parallel(Part):
    """Speculation parallelism (DSI, arXiv 2405.14105): several targets verify parts of one text at the same time.

    A node makes one text after the other, in the order in which they came, however long that takes: tenants' weights,
    bounds of inboxes, orders of batches, slots, and for how long places are waited for mean nothing to it.

    Attributes:
        targets: that work on one text.
        lookahead: draft tokens of each verification.
    """

    targets: Annotated[int, Field(ge=1, le=64)] = 4
    lookahead: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = 1


class Routing(Part):
    """Which verifier a new session goes to.

    Attributes:
        policy: what chooses.
        trust_s: for how long a device goes by what the registry showed of several verifiers; it takes a round trip to
            look again.
        trust_alone_s: likewise where there is one verifier.
    """

    policy: Annotated[str, one_of(routing.POLICIES)] = "power-of-two"
    trust_s: NotNegative = 0.25
    trust_alone_s: NotNegative = 2.0


class Batching(Part):
    """What goes into a step: the order within a tenant, and whether steps wait for rounds that are nearly here."""

    order: Annotated[str, one_of(batching.ORDERS)] = "fifo"
    lingers: bool = True
