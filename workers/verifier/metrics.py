"""A verifier's figures by the names that Prometheus knows them by, in vLLM's vocabulary. Needs no Prometheus itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dsdq.telemetry.figures import ROW_BOUNDS, SECOND_BOUNDS, Snapshot

PREFIX = "dsdq:"
LABELS = ("model_name", "worker")


@dataclass(frozen=True, slots=True)
class Number:
    """One number, a counter (whose name ends with ``_total``) or a gauge, read ``of`` a snapshot."""

    name: str
    says: str
    of: Callable[[Snapshot], float]


@dataclass(frozen=True, slots=True)
class Family:
    """Counters that a ``label`` tells apart."""

    name: str
    says: str
    label: str
    of: Callable[[Snapshot], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Counts between ``bounds``, and the sum of what was counted."""

    name: str
    says: str
    bounds: tuple[float, ...]
    counts: Callable[[Snapshot], tuple[int, ...]]
    sum: Callable[[Snapshot], float]


METRICS: tuple[Number | Family | Distribution, ...] = (
    Number("generation_tokens_total", "Tokens committed.", lambda one: one.generated),
    Number("prompt_tokens_total", "Prompt tokens fed ahead of rounds, also those fed again.", lambda one: one.prompt),
    Number("spec_decode_num_drafts_total", "Drafts verified.", lambda one: one.drafts),
    Number("spec_decode_num_draft_tokens_total", "Draft tokens verified.", lambda one: one.drafted),
    Number("spec_decode_num_accepted_tokens_total", "Draft tokens that stood.", lambda one: one.accepted),
    Family(
        "spec_decode_num_accepted_tokens_per_pos_total",
        "Draft tokens that stood, by their position in the draft.",
        "position",
        lambda one: {str(position): count for position, count in enumerate(one.accepted_at)},
    ),
    Number("num_requests_running", "Sessions that are open.", lambda one: one.running),
    Number("num_requests_waiting", "Opens that wait for a place.", lambda one: one.waiting),
    Number("kv_cache_usage_perc", "Part of the KV cache that sessions hold; 1 is all of it.", lambda one: one.kv_usage),
    Number("num_preemptions_total", "Sessions that gave their KV cache to others.", lambda one: one.preemptions),
    Family("request_success_total", "Sessions that ended, by why.", "finished_reason", lambda one: one.ended),
    Distribution(
        "iteration_rows", "Sessions of a step.", ROW_BOUNDS, lambda one: one.row_counts, lambda one: float(one.rows)
    ),
    Distribution(
        "iteration_seconds", "What a step took.", SECOND_BOUNDS, lambda one: one.second_counts, lambda one: one.step_s
    ),
    Number("takeovers_total", "Sessions taken over from other verifiers.", lambda one: one.takeovers),
    Family("refusals_total", "Opens that were refused, by why.", "code", lambda one: one.refusals),
    Family("tenant_generation_tokens_total", "Tokens committed, by tenant.", "tenant", lambda one: one.tenants),
)
SERVING, SERVING_SAYS = "verifier_serving", "1 while a verifier of the process has a lease that is good, else 0."
"""Without labels, and there from the start: what else is said may be what a verifier that is gone last said."""
NAMES = (PREFIX + SERVING, *(PREFIX + one.name for one in METRICS))
