"""What a scenario says: who is there, how fast, how far, and what decides. Units are in the names; all is checked.

A scenario is data: it is read from YAML or TOML (:mod:`dsdq.sim.scenario.reading`), and nothing in it is code. Types
are strict, since a number in quotes, or a ``true`` where a number belongs, is a slip of the pen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, Strict, field_validator, model_serializer, model_validator

from dsdq.policies.window import Mode
from dsdq.sim.scenario.deciding import Batching, Parallel, Routing, Window
from dsdq.sim.scenario.parts import At, Name, NotNegative, Part, Positive, Share, Text, live
from dsdq.sim.scenario.workload import Workload
from dsdq.tenants.usage import PRICED


class Link(Part):
    """A device's way to Redis and back.

    Attributes:
        rtt_ms: round trip of a small message, as long as it stays the same.
        up_share: how much of it is the way up.
        jitter_ms: mean of what a round trip takes longer, exponentially distributed, half of it in each direction.
        up_kbps: bandwidth up; 0 is no bound.
        down_kbps: likewise down.
        loss: share of messages that are lost in the network and sent again after ``resend_ms``; what is behind waits.
        resend_ms: how long TCP takes to notice that.
        reorder: share of messages up that others may overtake; they take a round trip longer. What comes down is read
            from a log, in order.
        drops_per_hour: how often the connection breaks.
        drop_s: for how long, on average; what was to be sent waits.
        trace: instead of ``rtt_ms``: as it changes, pairs of seconds and milliseconds, repeated when it ends.
    """

    rtt_ms: NotNegative = 30.0
    up_share: Share = 0.5
    jitter_ms: NotNegative = 0.0
    up_kbps: NotNegative = 0.0
    down_kbps: NotNegative = 0.0
    loss: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    resend_ms: Positive = 200.0
    reorder: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    drops_per_hour: NotNegative = 0.0
    drop_s: Positive = 5.0
    trace: Annotated[tuple[At, ...], Field(max_length=100_000), Strict(strict=False)] = ()

    @field_validator("trace")
    @classmethod
    def _rising(cls, trace: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        times = [at_s for at_s, _ in trace]
        if trace and (times[0] != 0 or times != sorted(set(times))):
            msg = "expected seconds that begin at 0 and rise"
            raise ValueError(msg)
        return trace

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.trace and "rtt_ms" in self.model_fields_set:
            msg = "expected one of rtt_ms, trace, got both"
            raise ValueError(msg)
        return self

    @model_serializer(mode="wrap")
    def _without_rtt(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the round trip out where a trace is given instead."""
        document: dict[str, Any] = dump(self)
        if self.trace:
            document.pop("rtt_ms", None)
        return document


class Arrivals(Part):
    """When a class of devices asks for texts: by chance at a rate, or each again some time after its last one ended.

    Attributes:
        per_s: requests a second of the whole class (Poisson), each at a device drawn by chance.
        per_device_per_s: the same for each device.
        think_s: instead: each device asks, reads for so long (exponential), and asks again.
        trace: instead: a JSONL file of requests, each with ``at_s``, ``prompt``, ``output`` and perhaps ``device``.
    """

    per_s: Positive | None = None
    per_device_per_s: Positive | None = None
    think_s: NotNegative | None = None
    trace: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            expected = ", ".join(type(self).model_fields)
            msg = f"expected exactly one of {expected}, got {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self


class Devices(Part):
    """Devices of one kind.

    Attributes:
        count: how many.
        draft_ms: what one takes to draft a token.
        prompt_ms: what its drafter takes to read a prompt token.
        begin_ms: what its program takes before it asks for a text.
        round_ms: what its program takes for each round, beside drafting.
        draft_gb: memory that the draft model takes.
        memory_gb: memory that there is for it.
        draft_watts: power while it drafts, above idling.
        radio_joule_per_mb: energy of what is sent and received.
        link: its way to Redis.
        tenant: whose they are.
        workload: by its name.
        arrivals: when they ask.
        leave: share of texts in whose middle the device goes away for good.
        open_timeout_ms: how long it asks for a place while every verifier is full, before it gives up.
        remembers: whether its program lives on between texts, so that a window policy begins with what the one of the
            text before has learned.
        profile: name of the profile that the fields not given come from.
    """

    count: Annotated[int, Field(ge=1, le=10_000_000)]
    draft_ms: NotNegative = 10.0
    prompt_ms: NotNegative = 0.0
    begin_ms: NotNegative = 0.0
    round_ms: NotNegative = 0.0
    draft_gb: NotNegative = 0.0
    memory_gb: NotNegative = 1e6
    draft_watts: NotNegative = 0.0
    radio_joule_per_mb: NotNegative = 0.0
    link: Link = Link()
    tenant: Name = "default"
    workload: Name = "default"
    arrivals: Arrivals = Arrivals(think_s=0.0)
    leave: Share = 0.0
    open_timeout_ms: Positive = live("open_timeout_ms")
    remembers: bool = True
    profile: Name | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.draft_gb > self.memory_gb:
            msg = f"expected draft_gb within memory_gb, got {self.draft_gb:g} of {self.memory_gb:g}"
            raise ValueError(msg)
        return self


class OwnDraft(Part):
    """A drafter beside the target: what one pass over all rows takes, for each of a window's places."""

    step_ms: NotNegative = 1.0
    position_ms: NotNegative = 0.0


class Verifiers(Part):
    """Verifiers, all alike. A step over n positions of r rows takes ``step + r·row + n·position + context``.

    Attributes:
        count: how many.
        step_ms: what any step takes (reading the weights).
        row_ms: what each session of a step adds.
        position_ms: what each of its positions adds.
        prefill_ms: what each position adds that only feeds a prompt; as ``position_ms`` if it is not given.
        variation: standard deviation of what a step takes, over its mean; log-normal.
        between_ms: what its program takes from a step's end to the next one's beginning.
        context_ms_per_1k: what each thousand tokens of the rows' texts adds (reading their keys and values).
        kv_tokens: tokens that its KV cache holds.
        slots: sessions that it holds at once.
        place_wait_ms: a session that would wait for a place for longer is told to come back.
        step_tokens: window tokens of one step.
        prefill_tokens: prompt tokens of one step beside them.
        draft: its own drafter, if it has one.
        heartbeat_ms: how old its figures may be that routing sees.
        failures_per_hour: how often each of them dies.
        lease_ms: how long it takes until another takes its sessions over.
        return_s: how long it takes to come back, as another one.
        watts: power while it works.
        idle_watts: power while it waits.
        per_hour: what an hour of it costs, in the prices' currency.
        profile: name of the profile that the fields not given come from.
    """

    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    step_ms: Positive = 30.0
    row_ms: NotNegative = 0.0
    position_ms: NotNegative = 0.3
    prefill_ms: NotNegative | None = None
    variation: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    between_ms: NotNegative = 0.0
    context_ms_per_1k: NotNegative = 0.0
    kv_tokens: Annotated[int, Field(ge=64, le=1 << 30)] = 1 << 20
    slots: Annotated[int, Field(ge=1, le=100_000)] = live("slots")
    place_wait_ms: NotNegative = live("place_wait_ms")
    step_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = live("step_tokens")
    prefill_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = live("prefill_tokens")
    draft: OwnDraft | None = None
    heartbeat_ms: Positive = 250.0
    failures_per_hour: NotNegative = 0.0
    lease_ms: Positive = live("lease_ms")
    return_s: Positive = 10.0
    watts: NotNegative = 0.0
    idle_watts: NotNegative = 0.0
    per_hour: NotNegative = 0.0
    profile: Name | None = None


class Broker(Part):
    """Redis between devices and verifiers.

    Attributes:
        latency_ms: from a publication until its reader has it, in each direction.
        pushed: whether answers are pushed to devices, as a gateway does. Else each read of a feed must reach Redis
            first, so that an answer behind another waits for that; only answers to drafts are read ahead on far links.
        inbox_bound: sessions of one tenant that may wait for a place at one verifier before its inbox says BUSY.
        loss: share of published rounds that a failover loses; the device repeats them.
        message_bytes: of any message, without its tokens.
        token_bytes: of each token.
    """

    latency_ms: NotNegative = 0.5
    pushed: bool = False
    inbox_bound: Annotated[int, Field(ge=2, le=1 << 30)] = live("inbox_bound")
    loss: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    message_bytes: NotNegative = 90.0
    token_bytes: NotNegative = 2.5

    def size(self, tokens: int) -> float:
        """Return the bytes of a message with so many tokens."""
        return self.message_bytes + self.token_bytes * tokens


class Tenant(Part):
    """Somebody with devices: its weight where verifiers are busy."""

    weight: Positive = 1.0


class Way(StrEnum):
    """Who drafts: ``distributed`` leaves it to the window policy; the others are what it is compared with."""

    DISTRIBUTED = "distributed"
    TARGET_ONLY = "target-only"
    COLOCATED = "co-located"
    PARALLEL = "dsi"


class Slo(Part):
    """What counts as served well; a request that keeps to all of these is good."""

    ttft_ms: Positive = 2000.0
    tpot_ms: Positive = 100.0
    e2e_ms: Positive = 1e9


class Prices(Part):
    """What is paid for: ``per_million`` as in a price book (``dsdq usage --prices``), and energy."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    per_million: dict[str, NotNegative] = Field(default_factory=dict)
    per_kwh: NotNegative = 0.0

    @field_validator("per_million")
    @classmethod
    def _priced(cls, per_million: dict[str, float]) -> dict[str, float]:
        unknown = [name for name in per_million if name not in PRICED]
        if unknown:
            msg = f"expected prices of {', '.join(PRICED)}, got one of {unknown[0][:64]!r}"
            raise ValueError(msg)
        return per_million


class Scenario(Part):
    """A whole world. Devices, tenants and workloads have names; a name that is used must be there.

    Attributes:
        name: of the scenario.
        about: one sentence.
        seed: of all luck.
        duration_s: how long requests arrive; what has begun then is finished.
        warm_up_s: what is not measured at the beginning, while devices and verifiers get into their stride.
        cool_down_s: what is not measured at the end, so that the last texts that are measured end under load, too.
        way: who drafts.
    """

    name: Name
    about: Text = ""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    duration_s: Positive = 60.0
    warm_up_s: NotNegative = 0.0
    cool_down_s: NotNegative = 0.0
    way: Annotated[Way, Strict(strict=False)] = Way.DISTRIBUTED
    devices: Annotated[dict[Name, Devices], Field(min_length=1, max_length=1000)]
    verifiers: Verifiers = Verifiers()
    workloads: dict[Name, Workload] = Field(default_factory=lambda: {"default": Workload()})
    tenants: dict[Name, Tenant] = Field(default_factory=lambda: {"default": Tenant()})
    broker: Broker = Broker()
    window: Window = Window()
    parallel: Parallel = Parallel()
    routing: Routing = Routing()
    batching: Batching = Batching()
    slo: Slo = Slo()
    prices: Prices = Prices()
    version: Literal[1] = 1

    @property
    def drafts_at_verifiers(self) -> bool:
        """Say whether verifiers may come to draft: they can, and windows are not the same whatever happens."""
        fixed = self.way is Way.DISTRIBUTED and self.window.policy.startswith("static")
        return self.verifiers.draft is not None and not fixed

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, devices in self.devices.items():
            for what, named, known in (
                ("tenant", devices.tenant, self.tenants),
                ("workload", devices.workload, self.workloads),
            ):
                if named not in known:
                    msg = f"devices.{name}.{what}: expected one of {', '.join(known)}, got {named!r}"
                    raise ValueError(msg)
        self._check_measured()
        if self.verifiers.draft is None:
            if self.way in {Way.COLOCATED, Way.PARALLEL}:
                msg = f"verifiers.draft: expected a drafter for the way {self.way}, got none"
                raise ValueError(msg)
            self.window.check({*Mode} - {Mode.COLOCATED}, "window.")
        if self.way is Way.PARALLEL:
            self._check_nodes()
        return self

    def _check_measured(self) -> None:
        left_s = self.duration_s - self.warm_up_s
        for name, within_s, whole in (
            ("warm_up_s", self.duration_s, "duration_s"),
            ("cool_down_s", left_s, "what warm_up_s leaves of duration_s"),
        ):
            if getattr(self, name) >= within_s:
                msg = f"{name}: expected less than {whole} ({within_s:g}), got {getattr(self, name):g}"
                raise ValueError(msg)

    def _check_nodes(self) -> None:
        """Check that verifiers make up whole nodes, and that nothing fails or gets lost in the middle of a text."""
        count, targets = self.verifiers.count, self.parallel.targets
        if count % targets:
            msg = f"verifiers.count: expected a multiple of parallel.targets ({targets}) for the way dsi, got {count}"
            raise ValueError(msg)
        if self.verifiers.failures_per_hour:
            msg = "verifiers.failures_per_hour: expected 0 for the way dsi, whose nodes do not fail, got "
            raise ValueError(f"{msg}{self.verifiers.failures_per_hour:g}")
        if self.broker.loss:
            msg = f"broker.loss: expected 0 for the way dsi, which repeats nothing, got {self.broker.loss:g}"
            raise ValueError(msg)
