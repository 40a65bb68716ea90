"""One trace per session through device and verifier, as an OpenTelemetry collector gets it."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dsdq.models.names import HASH_TARGET
from dsdq.processes import spawn

TEXTS, TOKENS, LATEST_S = 2, 24, 100


class Collector:
    """Keeps the spans that are exported to ``url``, each with its service's name."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    attributes = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                    for scope in of_resource.scope_spans:
                        collector.spans += [(attributes["service.name"], span) for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


def attribute(span: Span, name: str) -> str | int:
    (value,) = [one.value for one in span.attributes if one.key == name]
    return value.string_value or int(value.int_value)


async def test_a_texts_spans_of_device_and_verifier_are_one_tree(redis_url: str, collector: Collector) -> None:
    traced = ["env", f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.url}", "DSDQ_ALLOW_UNSAFE_REDIS=1"]
    dsdq = [*traced, "OTEL_EXPORTER_OTLP_COMPRESSION=none", sys.executable, "-m", "dsdq"]
    asks = ["generate", "--redis", redis_url, "--draft", "hash:0.8", "--max-tokens", str(TOKENS), "--ignore-eos"]
    verifier = await spawn([*dsdq, "verifier", "--redis", redis_url, "--target", HASH_TARGET], stdout=True)
    try:
        async with asyncio.timeout(LATEST_S):
            await verifier.read_line()
            for text in range(TEXTS):
                device = await asyncio.create_subprocess_exec(*dsdq, *asks, f"text {text}", stdout=-1)
                await device.communicate()
                assert device.returncode == 0
    finally:
        await verifier.stop()
    traces = defaultdict[bytes, list[tuple[str, Span]]](list)
    for service, span in collector.spans:
        traces[span.trace_id].append((service, span))
    assert len(traces) == TEXTS
    for spans in traces.values():
        assert len({attribute(span, "dsdq.session") for _, span in spans}) == 1
        by_name = {name: [span for _, span in spans if span.name == name] for name in ("generate", "round", "verify")}
        assert {(service, span.name) for service, span in spans} == {
            ("dsdq-generate", "generate"),
            ("dsdq-generate", "round"),
            ("dsdq-verifier", "verify"),
        }
        (text,) = by_name["generate"]
        assert attribute(text, "dsdq.tokens") == TOKENS
        assert sum(attribute(span, "dsdq.tokens") for span in by_name["round"]) == TOKENS
        assert {span.parent_span_id for span in by_name["round"]} == {text.span_id}
        assert sorted(span.parent_span_id for span in by_name["verify"]) == sorted(
            span.span_id for span in by_name["round"]
        )
        assert all(span.start_time_unix_nano <= span.end_time_unix_nano for _, span in spans)
