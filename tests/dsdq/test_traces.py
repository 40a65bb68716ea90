from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from time import monotonic

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dsdq.telemetry import traces
from dsdq.wire import Verdict


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(traces, "_tracer", None)
    traces.export(SimpleSpanProcessor(exporter), "test")
    yield exporter
    monkeypatch.undo()


def verdict_of(session: str, round_: int, base: int = 16) -> Verdict:
    return Verdict(session, round_, round_, 0, base, 4, 2, (7, 8, 9), base + 3, b"", 5, 10, 20, 1, 8)


def test_spans_of_a_session_find_each_other_by_its_name_alone(exported: InMemorySpanExporter) -> None:
    since_s = monotonic() - 2
    traces.record_verdict(verdict_of("s1", 3), since_s, "w1")
    traces.record_round(verdict_of("s1", 3), since_s)
    traces.record_text("s1", since_s, tokens=9)
    verdict, round_, text = exported.get_finished_spans()
    assert {span.context.trace_id for span in (verdict, round_, text)} == {traces.trace_id("s1")}
    assert text.parent is None
    assert round_.parent.span_id == text.context.span_id
    assert verdict.parent.span_id == round_.context.span_id
    assert verdict.context.span_id != round_.context.span_id
    assert 2e9 <= text.end_time - text.start_time < 60e9
    assert dict(text.attributes) == {"dsdq.session": "s1", "dsdq.tokens": 9}
    assert text.resource.attributes["service.name"] == "dsdq-test"


def test_sessions_and_verdicts_of_one_grant_are_told_apart(exported: InMemorySpanExporter) -> None:
    for session, base in (("s1", 16), ("s2", 16), ("s2", 19)):
        traces.record_round(verdict_of(session, 1, base), monotonic())
    first, second, again = exported.get_finished_spans()
    assert first.context.trace_id != second.context.trace_id == again.context.trace_id
    assert second.context.span_id != again.context.span_id


def test_nothing_is_imported_or_recorded_where_no_endpoint_is_named() -> None:
    program = (
        "import sys\nfrom dsdq.telemetry import traces\ntraces.configure('x')\n"
        "traces.record_text('s', 0.0)\nprint('opentelemetry' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    assert ended.stdout == "False\n"


def test_an_endpoint_without_the_extra_is_said_and_hurts_nobody() -> None:
    program = (
        "import sys\nsys.modules['opentelemetry'] = None\nfrom dsdq.telemetry import traces\n"
        "traces.configure('x')\ntraces.record_text('s', 0.0)"
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert "dsdq[otel]" in ended.stderr
