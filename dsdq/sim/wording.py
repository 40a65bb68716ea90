"""Figures in words: what they are called, and how their numbers are written. Pure."""

from __future__ import annotations

import math

from dsdq.sim.statistics import Interval

LATENCIES = (("ttft_ms", "TTFT, ms"), ("tpot_ms", "TPOT, ms"), ("e2e_ms", "end to end, ms"))
OTHERS = (
    ("requests_per_s", "requests/s"),
    ("tokens_per_s", "tokens/s"),
    ("good_requests_per_s", "goodput, requests/s"),
    ("good_share", "within the SLO"),
    ("acceptance", "acceptance"),
    ("tokens_per_round", "tokens per round"),
    ("stream_share", "tokens streamed"),
    ("wasted_drafts", "drafts wasted"),
    ("bytes_up_per_token", "bytes up per token"),
    ("bytes_down_per_token", "bytes down per token"),
    ("utilisation", "verifiers busy"),
    ("place_ms_per_token", "wait for a place, ms per token"),
    ("queue_ms_per_token", "queue, ms per token"),
    ("network_ms_per_token", "network, ms per token"),
    ("device_wait_ms", "wait at device, ms"),
    ("fairness", "fairness (Jain)"),
    ("device_joule_per_token", "device, J per token"),
    ("cloud_joule_per_token", "cloud, J per token"),
    ("cost_per_million", "cost per 1M tokens"),
    ("billed_per_million", "billed per 1M tokens"),
    ("refused", "requests refused"),
    ("left", "requests given up"),
    ("retries", "sessions opened again"),
    ("repeats", "rounds asked for again"),
    ("evictions", "sessions evicted"),
    ("takeovers", "sessions taken over"),
    ("failures", "verifiers failed"),
)
_LABELS = dict((*LATENCIES, *OTHERS))
SHARES = {"good_share", "acceptance", "stream_share", "wasted_drafts", "utilisation"}


def number(value: float | None, name: str = "", digits: int = 4) -> str:
    """Return a figure as it is shown: a share in percent, anything else with so many digits."""
    if value is None or not math.isfinite(value):
        return "-"
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def label(figure: str) -> str:
    """Return what a figure is called."""
    return _LABELS.get(figure, figure)


def counted(count: int, what: str) -> str:
    """Return a number of things, one or more."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def span(within: Interval | None, name: str = "") -> str:
    """Return an interval of a figure."""
    return "-" if within is None else f"{number(within[0], name)} … {number(within[1], name)}"
