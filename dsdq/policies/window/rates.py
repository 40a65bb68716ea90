"""Committed tokens per second that each way of working comes to, from speeds that are known or estimated.

Acceptance is taken to be independent from token to token: α. With γ the window, C what a round takes beside
drafting:

- **Sequential**: ``τ / (γ·t_draft + C)`` with ``τ = (1 - α^(γ+1)) / (1 - α)``, ``C = network + queue + pass(γ + 1)``.
- **Pipelined**: from one rejection to the next all begins anew, so the rate is that of such a cycle: ``1 / (1 - α)``
  tokens are committed in one, and it ends when the verdict is read that shows the first wrong guess. Guess ``K`` being
  the first wrong one (``P(K) = α^K·(1 - α)``), that is the verdict of the cycle's window ``j = max(0, ⌈K/γ⌉ - 1)``:
  the token behind a window that stands shows already whether the next window's first one is right. So

      rate = 1 / ((1 - α) · Σ_j P(j)·V_j),   P(0) = 1 - α^(γ+1),   P(j) = α^(jγ+1)·(1 - α^γ)

  where the times V_j when verdicts are read follow from what has to wait for what, with D windows in flight: window j
  is drafted after window j-1 and after verdict j-D; its pass begins when it has arrived and the pass before has ended,
  and takes in what else has arrived by then.
- **Target-only**: ``1 / pass(1)``, **co-located**: ``τ' / (γ·t'_draft + pass(γ + 1))`` with acceptance and speed of the
  verifier's own drafter: a stream waits for the network only once.

``pass(n) = step + n·position`` is what a forward pass over n positions of this session takes among its batch mates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HORIZON = 12
"""Windows of a cycle that are followed one by one; behind them a cycle goes on at the pace that it has by then."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Speeds:
    """What a rate follows from; durations in milliseconds.

    Attributes:
        acceptance: α of the device's drafter behind a token that it drafted right, below 1.
        draft_ms: the device's time for a token.
        network_ms: round trip of messages, without queue and pass.
        queue_ms: how long a round waits for a pass of others.
        step_ms: what a pass takes, without
        position_ms: what each of its positions takes.
        stream_ms: what a streamed token takes beside its pass.
        first: φ, the same for a draft's first token, behind a rejection; α unless it is known. A drafter that looks up
            what it has read has long runs of right tokens, or none: then α is high and φ low.
    """

    acceptance: float
    draft_ms: float
    network_ms: float
    queue_ms: float
    step_ms: float
    position_ms: float
    stream_ms: float = 0.0
    first: float | None = None

    def values(self) -> tuple[float, ...]:
        """Return all of them, in their order."""
        return (
            self.acceptance,
            self.draft_ms,
            self.network_ms,
            self.queue_ms,
            self.step_ms,
            self.position_ms,
            self.stream_ms,
            self.acceptance if self.first is None else self.first,
        )

    def pass_ms(self, positions: Floats | int) -> Floats:
        """Return the time of a pass over so many positions."""
        return np.asarray(self.step_ms + self.position_ms * np.asarray(positions, dtype=np.float64))


def expected_tokens(acceptance: Floats | float, windows: Floats, first: Floats | float | None = None) -> Floats:
    """Return τ, the tokens that a round commits on average, for every window: the target's own and those that stand."""
    result: Floats = 1 + (acceptance if first is None else first) * (1 - acceptance**windows) / (1 - acceptance)
    return result


def sequential_rates(speeds: Speeds | Sequence[Speeds], windows: Floats) -> Floats:
    """Return committed tokens per second for every window, one in flight.

    All are at the same speeds; or as many windows in turn at each of several speeds.
    """
    each = _Lanes.of(speeds, len(windows))
    waits = each.network_ms + each.queue_ms + each.step_ms + each.position_ms * (windows + 1)
    tokens = expected_tokens(each.acceptance, windows, each.first)
    result: Floats = 1000 * tokens / (windows * each.draft_ms + waits)
    return result


def pipelined_rates(speeds: Speeds | Sequence[Speeds], windows: Floats, depths: NDArray[np.int64]) -> Floats:
    """Return committed tokens per second for every pair of a window and a depth of at least 2, likewise."""
    each = _Lanes.of(speeds, len(windows))
    alpha = each.acceptance
    reads = _reads(each, windows, depths)
    places = np.arange(HORIZON)[:, None]
    ends_in = each.first * alpha ** (places * windows) * (1 - alpha**windows)
    ends_in[0] = 1 - each.first * alpha**windows
    cycle_ms = (ends_in * reads).sum(axis=0) + _tail(each, windows, depths, reads)
    result: Floats = 1000 * (1 + each.first / (1 - alpha)) / cycle_ms
    return result


@dataclass(frozen=True, slots=True)
class _Lanes:
    """The fields of :class:`Speeds`, each of one value for all windows or one for each."""

    acceptance: Floats
    draft_ms: Floats
    network_ms: Floats
    queue_ms: Floats
    step_ms: Floats
    position_ms: Floats
    stream_ms: Floats
    first: Floats

    @classmethod
    def of(cls, speeds: Speeds | Sequence[Speeds], windows: int) -> _Lanes:
        """Take speeds that all of so many windows share, or each of several as many in turn."""
        if isinstance(speeds, Speeds):
            return cls(*np.asarray([speeds.values()], dtype=np.float64).T)
        values = np.asarray([one.values() for one in speeds], dtype=np.float64)
        return cls(*np.repeat(values, windows // len(speeds), axis=0).T)


def _tail(speeds: _Lanes, windows: Floats, depths: NDArray[np.int64], reads: Floats) -> Floats:
    """Return what windows behind the horizon add to a cycle's mean length: they come as those D before them did."""
    alpha, drafting_ms, lanes = speeds.acceptance, windows * speeds.draft_ms, np.arange(len(windows))
    # Verdicts may come in turns that do not fit into the depth: several are looked at, and drafts take their time.
    several = np.maximum(depths, HORIZON // 2)
    period_ms = depths * np.maximum((reads[-1] - reads[HORIZON - 1 - several, lanes]) / several, drafting_ms)
    again = alpha ** (windows * depths)
    tail = np.zeros(len(windows))
    for phase in range(int(depths.max())):
        reads_ms = reads[np.minimum(HORIZON + phase - depths, HORIZON - 1), lanes] + period_ms
        share = speeds.first * alpha ** ((HORIZON + phase) * windows) * (1 - alpha**windows) / (1 - again)
        tail += np.where(phase < depths, share * (reads_ms + period_ms * again / (1 - again)), 0.0)
    return tail


def _reads(speeds: _Lanes, windows: Floats, depths: NDArray[np.int64]) -> Floats:
    """Return when each window's verdict is read, ``[HORIZON, configurations]``, as if every guess were right."""
    lanes = np.arange(len(windows))
    up = speeds.network_ms / 2
    drafting, more = windows * speeds.draft_ms, windows * speeds.position_ms
    ends = np.zeros((HORIZON, len(windows)))  # of the pass that a window is in
    drafted, starts, ended = np.zeros(len(windows)), np.zeros(len(windows)), np.zeros(len(windows))
    opened = np.zeros(len(windows), dtype=np.int64)  # the first window of the latest pass
    for place in range(HORIZON):
        free = np.where(depths <= place, ends[np.maximum(place - depths, 0), lanes] + up, 0.0)
        drafted = np.maximum(drafted, free) + drafting
        arrived = drafted + up
        joins = (arrived <= starts) & (place > 0)
        # A round that meets no pass of ours may have to wait for one of others; one that queued for ours does not.
        starts = np.where(joins, starts, np.maximum(arrived + speeds.queue_ms, ended))
        opened = np.where(joins, opened, place)
        ended = np.where(joins, ended + more, starts + speeds.step_ms + more + speeds.position_ms * (place == 0))
        within = np.arange(place + 1)[:, None] >= opened
        ends[: place + 1] = np.where(within, ended, ends[: place + 1])
    return ends + up


def target_only_rate(speeds: Speeds) -> float:
    """Return committed tokens per second when the verifier decodes alone."""
    return 1000 / (float(speeds.pass_ms(1)) + speeds.stream_ms)


def colocated_rates(
    speeds: Speeds, acceptance: float, draft_ms: float, windows: Floats, first: float | None = None
) -> Floats:
    """Return committed tokens per second for every window when the verifier drafts too, as often right as is said."""
    taken = windows * draft_ms + speeds.pass_ms(windows + 1) + speeds.stream_ms
    result: Floats = 1000 * expected_tokens(acceptance, windows, first) / taken
    return result
