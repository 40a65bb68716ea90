"""What happened to a session, as spans of OpenTelemetry: where that is installed and an exporter's endpoint is named.

A trace's id follows from its session's name, and a round's span from its number and where its verdict begins: device
and verifier speak of the same ones, and nothing about them goes over the wire. A span is recorded when it has ended, so
that whoever is not traced pays for one comparison. Spans of a session::

    generate                 the device, from the prompt to the last token
    └── round                the device, from the request's publication to its verdict
        └── verify           the verifier, from the request's arrival to the verdict

Several rounds may be answered by one verdict; it is that of the first.
"""

from __future__ import annotations

import atexit
import os
from hashlib import blake2b
from threading import local
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING

from dsdq.telemetry.logs import get_logger
from dsdq.wire import Verdict

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

log = get_logger("traces")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_tracer: _Tracer | None = None


def configure(service: str) -> None:
    """Export spans of this process as ``service`` if one of ``ENDPOINTS`` is set; OTEL_* variables say the rest."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:  # the variables may be there for other programs
        log.warning("not traced", missing=error.name, hint="install dsdq[otel]")
        return
    export(BatchSpanProcessor(OTLPSpanExporter()), service)


def export(processor: SpanProcessor, service: str) -> None:
    """Give every span that is recorded from now on to ``processor``, until the process ends."""
    global _tracer  # noqa: PLW0603 - a process has one way out
    _tracer = _Tracer(processor, service)
    atexit.register(processor.shutdown)


def record_text(session: str, since_s: float, **attributes: str | float) -> None:
    """Record a whole text, from ``since_s`` (monotonic seconds) until now."""
    if _tracer is not None:
        _tracer.record("generate", session, since_s, attributes, key="generate")


def record_round(verdict: Verdict, since_s: float) -> None:
    """Record a round at its device, from ``since_s`` (monotonic seconds) until now."""
    if _tracer is not None:
        _tracer.record("round", verdict.session, since_s, _figures(verdict), key=_key(verdict), parent="generate")


def record_verdict(verdict: Verdict, since_s: float, worker: str) -> None:
    """Record what a verifier did for a round, from ``since_s`` (monotonic seconds) until now."""
    if _tracer is not None:
        attributes = {"worker": worker, **_figures(verdict)}
        _tracer.record("verify", verdict.session, since_s, attributes, parent=_key(verdict))


def trace_id(session: str) -> int:
    """Return the id of a session's trace, 128 bits."""
    return _digest(session, 16)


class _Tracer:
    """Records spans under ids that follow from names."""

    def __init__(self, processor: SpanProcessor, service: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

        class _Given(RandomIdGenerator):
            """Gives the ids that this thread is about to use, and random ones for a span without a name."""

            def generate_trace_id(self) -> int:
                """Return the trace's id."""
                return int(given.trace)

            def generate_span_id(self) -> int:
                """Return the span's id."""
                return given.span or super().generate_span_id()

        given = self._given = local()
        self._api = trace
        # OTEL_SERVICE_NAME, where it is set, is more than what we say.
        resource = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"dsdq-{service}"})
        provider = TracerProvider(resource=resource, id_generator=_Given())
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("dsdq")

    def record(
        self,
        name: str,
        session: str,
        since_s: float,
        attributes: dict[str, str | float],
        *,
        key: str = "",
        parent: str = "",
    ) -> None:
        """Record a span from ``since_s`` until now; its id follows from ``key``, its parent's from ``parent``."""
        api, ended_ns = self._api, time_ns()
        self._given.trace, self._given.span = trace_id(session), _span_id(session, key) if key else 0
        above = None
        if parent:
            flags = api.TraceFlags(api.TraceFlags.SAMPLED)
            known = api.SpanContext(trace_id(session), _span_id(session, parent), is_remote=True, trace_flags=flags)
            above = api.set_span_in_context(api.NonRecordingSpan(known))
        named = {"dsdq.session": session, **{f"dsdq.{name}": value for name, value in attributes.items()}}
        took_ns = monotonic_ns() - round(1e9 * since_s)
        span = self._tracer.start_span(name, above, attributes=named, start_time=ended_ns - took_ns)
        span.end(ended_ns)


def _key(verdict: Verdict) -> str:
    return f"round {verdict.first_round} {verdict.base}"  # a grant's one round has several verdicts


def _figures(verdict: Verdict) -> dict[str, str | float]:
    return {
        "round": verdict.first_round,
        "drafted": verdict.drafted,
        "accepted": verdict.accepted,
        "tokens": len(verdict.tokens),
        "batch_rows": verdict.batch_rows,
    }


def _span_id(session: str, key: str) -> int:
    return _digest(f"{session} {key}", 8)


def _digest(text: str, size: int) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest())
