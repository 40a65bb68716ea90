"""``/metrics`` and ``/health`` of a verifier's process, for Prometheus and whoever restarts processes.

They are answered on a thread of their own, so that a verifier whose loop hangs is seen to, and by what was last said of
whichever verifier lives in the process. Needs prometheus_client.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import accumulate
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Thread
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dsdq.errors import ConfigError
from dsdq.telemetry.figures import Snapshot
from dsdq.telemetry.logs import get_logger
from workers.verifier.figures import Figures
from workers.verifier.metrics import LABELS, METRICS, PREFIX, SERVING, SERVING_SAYS, Distribution, Family, Number

log = get_logger("verifier")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_CLIENTS = 16
PATIENCE_S = 5.0  # for a client to say what it wants, and to take it


class FiguresCollector(Collector):
    """Gives Prometheus what was last said."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Give every metric; before the first verifier of the process serves, only that none does."""
        yield GaugeMetricFamily(PREFIX + SERVING, SERVING_SAYS, value=float(self._figures.serves()))
        last = self._figures.last
        if last is not None:
            for metric in METRICS:
                yield _measured(metric, last)


def _measured(metric: Number | Family | Distribution, last: Snapshot) -> Metric:
    name, whose = PREFIX + metric.name, [last.model, last.worker]
    if isinstance(metric, Distribution):
        histogram = HistogramMetricFamily(name, metric.says, labels=LABELS)
        bounds = [*map(str, metric.bounds), "+Inf"]
        counts = list(accumulate(metric.counts(last)))
        histogram.add_metric(whose, list(zip(bounds, counts, strict=True)), metric.sum(last))
        return histogram
    if isinstance(metric, Family):
        family = CounterMetricFamily(name, metric.says, labels=(*LABELS, metric.label))
        for value, count in metric.of(last).items():
            family.add_metric([*whose, value], count)
        return family
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    number = kind(name, metric.says, labels=LABELS)
    number.add_metric(whose, metric.of(last))
    return number


class _Server(ThreadingTCPServer):
    """Answers so many clients at once; it hangs up on more."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], figures: Figures) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.figures = figures
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(FiguresCollector(figures))
        self._places = BoundedSemaphore(MOST_CLIENTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Answer on a thread."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """Say nothing of clients that went away."""
        if not isinstance(sys.exception(), OSError):
            log.error("metrics failed", exc_info=True)  # noqa: LOG014 - socketserver calls it as it handles one


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE, generate_latest(self.server.registry))
        elif path == "/health":
            lives = self.server.figures.serves()
            status = "ok" if lives else "no verifier of this process has a lease that is good"
            self._answer(200 if lives else 503, "application/json", json.dumps({"status": status}).encode())
        else:
            self._answer(404, "text/plain", b"expected /metrics or /health\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it
        """Say nothing of requests."""


@contextmanager
def exposed(figures: Figures, host: str, port: int) -> Iterator[None]:
    """Answer at an address for the block.

    Raises:
        ConfigError: it cannot listen there.
    """
    try:
        server = _Server((host, port), figures)
    except OSError as error:
        raise ConfigError(f"DSDQ_METRICS_PORT: expected an address to listen at, got {host}:{port}: {error}") from None
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
