"""What a simulation came to, in figures: latencies, rates, waste, waits, fairness, energy, cost. Pure.

Latencies are of requests that arrived within what is measured (behind the warm-up, before the cool-down) and were
finished; rates and utilisation are of that time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from dsdq.policies.window import Mode
from dsdq.sim.record import FINISHED, LEFT, REFUSED, Record, Request
from dsdq.sim.scenario.model import Scenario
from dsdq.tenants.usage import PriceBook, Usage

PERCENTILES = (50, 95, 99)
_JOULE_PER_KWH = 3_600_000.0

Floats = NDArray[np.float64]


def figures(scenario: Scenario, record: Record) -> dict[str, float]:
    """Return all figures by name; units are in the names, shares are of 1. What there is nothing of is NaN.

    ``tpot_ms`` is the time between a text's first token and its last, for each token behind the first;
    ``good_requests_per_s`` counts those of ``requests_per_s`` that kept to the scenario's SLO, ``good_share`` what
    part such requests are of those that came in what is measured.
    """
    measured = [one for one in record.requests if record.measures(one.arrival_ms)]
    finished = [one for one in measured if one.outcome == FINISHED]
    seconds = (record.end_ms - record.begin_ms) / 1000
    return {
        **_outcomes(measured),
        **_latencies(finished),
        **_rates(scenario, record, measured, seconds),
        **_drafting(finished),
        **_waits(finished),
        **_cloud(scenario, record, seconds),
        **_fairness(scenario, record),
        **_spent(scenario, record, finished, seconds),
    }


def tpot_ms(request: Request) -> float:
    """Return a finished request's time for a token behind its first; NaN for a text of one token."""
    return (request.ended_ms - request.first_ms) / (request.committed - 1) if request.committed > 1 else float("nan")


def is_good(scenario: Scenario, request: Request) -> bool:
    """Say whether a finished request kept to the SLO."""
    slo = scenario.slo
    return (
        request.first_ms - request.arrival_ms <= slo.ttft_ms
        and not tpot_ms(request) > slo.tpot_ms
        and request.ended_ms - request.arrival_ms <= slo.e2e_ms
    )


def windows(record: Record) -> dict[str, int]:
    """Return how many verdicts came under each way of working: ``8x2`` is windows of 8, two in flight."""
    names: Counter[str] = Counter()
    for choice, count in record.choices.items():
        way = f"{choice.window}x{choice.depth}" if choice.mode is Mode.SPECULATE else choice.mode.value
        names[way if choice.mode is not Mode.COLOCATED else f"{way}:{choice.window}"] += count
    return dict(names.most_common())


def _outcomes(measured: Sequence[Request]) -> dict[str, float]:
    outcomes = Counter(one.outcome for one in measured)
    return {
        "requests": len(measured),
        "finished": outcomes[FINISHED],
        "refused": outcomes[REFUSED],
        "left": outcomes[LEFT],
        "retries": sum(one.retries for one in measured),
        "repeats": sum(one.repeats for one in measured),
    }


def _latencies(finished: Sequence[Request]) -> dict[str, float]:
    return {
        **_spread("ttft_ms", [one.first_ms - one.arrival_ms for one in finished]),
        **_spread("tpot_ms", [tpot_ms(one) for one in finished if one.committed > 1]),
        **_spread("e2e_ms", [one.ended_ms - one.arrival_ms for one in finished]),
        **_spread("device_wait_ms", [one.began_ms - one.arrival_ms for one in finished]),
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return mean and percentiles."""
    if not values:
        return {key: float("nan") for key in (name, *(f"{name}_p{one}" for one in PERCENTILES))}
    found = np.percentile(values, PERCENTILES)
    return {name: float(np.mean(values))} | {
        f"{name}_p{one}": float(value) for one, value in zip(PERCENTILES, found, strict=True)
    }


def _rates(scenario: Scenario, record: Record, measured: Sequence[Request], seconds: float) -> dict[str, float]:
    """Return rates, and the share of good requests among those that were not given up: who is refused is not served."""
    ended = [one for one in record.requests if one.outcome == FINISHED and record.measures(one.ended_ms)]
    asked = [one for one in measured if one.outcome in {FINISHED, REFUSED}]
    good = sum(one.outcome == FINISHED and is_good(scenario, one) for one in asked)
    return {
        "requests_per_s": len(ended) / seconds,
        "tokens_per_s": record.committed.total() / seconds,
        "good_requests_per_s": sum(is_good(scenario, one) for one in ended) / seconds,
        "good_share": _share(good, len(asked)),
    }


def _drafting(finished: Sequence[Request]) -> dict[str, float]:
    total = {
        name: sum(getattr(one, name) for one in finished)
        for name in ("rounds", "committed", "judged", "accepted", "stream_tokens", "bytes_up", "bytes_down")
    }
    drafted = sum(one.drafted + one.own_drafted for one in finished)
    return {
        "acceptance": _share(total["accepted"], total["judged"]),
        "tokens_per_round": _share(total["committed"], total["rounds"]),
        "stream_share": _share(total["stream_tokens"], total["committed"]),
        "drafted_per_token": _share(drafted, total["committed"]),
        "wasted_drafts": 1 - _share(total["accepted"], drafted),
        "bytes_up_per_token": _share(total["bytes_up"], total["committed"]),
        "bytes_down_per_token": _share(total["bytes_down"], total["committed"]),
    }


def _waits(finished: Sequence[Request]) -> dict[str, float]:
    """Return what a token was waited for, on average: for a place, in a verifier's queue and passes, in the network."""
    committed = sum(one.committed for one in finished)
    return {
        f"{name}_per_token": _share(sum(getattr(one, name) for one in finished), committed)
        for name in ("place_ms", "queue_ms", "verify_ms", "network_ms", "draft_ms")
    }


def _cloud(scenario: Scenario, record: Record, seconds: float) -> dict[str, float]:
    return {
        "utilisation": record.busy_ms / (1000 * seconds * scenario.verifiers.count),
        "rows_per_step": _share(record.rows, record.steps),
        "positions_per_step": _share(record.positions, record.steps),
        "evictions": record.evictions,
        "takeovers": record.takeovers,
        "failures": record.failures,
        "events": record.events,
    }


def _fairness(scenario: Scenario, record: Record) -> dict[str, float]:
    """Return Jain's index over tenants of the tokens that each got in what is measured, by weight; 1 is even.

    It tells of shares where all want more than theirs: who asks for little gets little. Who asks for nothing is not in.
    """
    asking = {one.tenant for one in record.requests if one.arrival_ms < record.end_ms}
    shares = [record.committed[name] / one.weight for name, one in scenario.tenants.items() if name in asking]
    squares = sum(share * share for share in shares)
    return {"fairness": sum(shares) ** 2 / (len(shares) * squares) if squares else float("nan")}


def _spent(scenario: Scenario, record: Record, finished: Sequence[Request], seconds: float) -> dict[str, float]:
    """Return energy and cost for each token: of devices, of verifiers, and what the price book says."""
    verifiers, prices = scenario.verifiers, scenario.prices
    committed = sum(one.committed for one in finished)
    device_j = sum(_device_joule(scenario, one) for one in finished)
    busy_s = record.busy_ms / 1000
    cloud_j = verifiers.watts * busy_s + verifiers.idle_watts * max(seconds * verifiers.count - busy_s, 0.0)
    hours = seconds * verifiers.count / 3600
    cloud_cost = hours * verifiers.per_hour + cloud_j / _JOULE_PER_KWH * prices.per_kwh
    billed = float(_book(scenario).cost(_usage(finished)))
    return {
        "device_joule_per_token": _share(device_j, committed),
        "cloud_joule_per_token": _share(cloud_j, record.committed.total()),
        "cost_per_million": _share(1e6 * cloud_cost, record.committed.total()),
        "billed_per_million": _share(1e6 * billed, committed),
    }


def _device_joule(scenario: Scenario, request: Request) -> float:
    devices = scenario.devices[request.devices]
    sent_mb = (request.bytes_up + request.bytes_down) / 1e6
    return devices.draft_watts * request.drafter_ms / 1000 + devices.radio_joule_per_mb * sent_mb


def _book(scenario: Scenario) -> PriceBook:
    prices = scenario.prices
    return PriceBook(prices.currency, {name: Decimal(repr(price)) for name, price in prices.per_million.items()})


def _usage(finished: Sequence[Request]) -> Usage:
    judged, accepted = sum(one.judged for one in finished), sum(one.accepted for one in finished)
    return Usage(
        sessions=len(finished),
        committed=sum(one.committed for one in finished),
        accepted=accepted,
        rejected=judged - accepted,
        verified=judged + sum(one.rounds for one in finished),
        prefill=sum(max(one.prompt - 1, 0) for one in finished),
        kv_token_ms=round(sum(one.kv_token_ms for one in finished)),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
