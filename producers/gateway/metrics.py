"""What a gateway counts, in vLLM's vocabulary: requests, and what their clients wait for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

_FIRST_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_BETWEEN_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_WHOLE_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The figures of one gateway process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "dsdq:http_requests", "Requests by route and status.", ["path", "status"], registry=self._registry
        )
        self.broken_streams = Counter(
            "dsdq:http_broken_streams",
            "Streams that ended with an error behind their 200.",
            ["status"],
            registry=self._registry,
        )
        self.running = Gauge("dsdq:http_requests_running", "Requests under way.", registry=self._registry)
        self.devices = Gauge("dsdq:gateway_devices", "Connections of devices.", registry=self._registry)
        self.first_token_s = self._histogram("time_to_first_token", "From a request to its first token.", _FIRST_S)
        self.between_tokens_s = self._histogram("inter_token_latency", "Mean time for a token of a text.", _BETWEEN_S)
        self.whole_s = self._histogram("e2e_request_latency", "From a request to its last token.", _WHOLE_S)
        self.tokens = Counter(
            "dsdq:gateway_generation_tokens",
            "Tokens that gateways' clients got.",
            ["model_name", "tenant"],
            registry=self._registry,
        )

    def page(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"dsdq:{name}_seconds", says, ["model_name"], buckets=buckets, registry=self._registry)
