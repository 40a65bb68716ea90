"""What a verifier counts, where it is counted, and how long it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.figures import FiguresStore
from dsdq.bus.registry import WorkerInfo
from dsdq.models.names import HASH_TARGET
from dsdq.policies.batching import StepBudget
from dsdq.telemetry.figures import MOST_TENANTS, OTHERS, ROW_BOUNDS, Snapshot
from dsdq.wire import Cancel, Decode, Error, ErrorCode, Verdict
from tests.conftest import Serve
from tests.workers.verifier.conftest import PROMPT, Wire, another
from tests.workers.verifier.mortals import Mortal, device_of, follow, until
from workers.engine.planner import Planner
from workers.engine.rows import Row
from workers.verifier.figures import Figures

INFO = WorkerInfo("w1", "m", "r", "f", "t", "n", 100, 100, 8, 4)
PLANNER = Planner(8, StepBudget(8, 8))


def verdict(drafted: int, accepted: int, tokens: int) -> Verdict:
    return Verdict("s", 1, 1, 0, 3, drafted, accepted, tuple(range(tokens)), 3 + tokens, b"", drafted + 1, 0, 0, 1, 8)


def taken(figures: Figures, planner: Planner = PLANNER) -> Snapshot:
    return figures.take(INFO, planner, [], 0, 1000)


def test_verdicts_are_counted_as_they_are_and_by_position() -> None:
    figures = Figures()
    figures.decided([("acme", verdict(4, 2, 3)), ("globex", verdict(4, 4, 5)), ("acme", verdict(0, 0, 1))])
    figures.decided([("acme", verdict(3, 0, 1))])
    found = taken(figures)
    assert (found.drafts, found.drafted, found.accepted, found.generated) == (3, 11, 6, 10)
    assert found.accepted_at[:5] == [2, 2, 1, 1, 0]
    assert found.tenants == {"acme": 5, "globex": 5}


def test_steps_are_counted_by_their_rows_and_by_what_they_took() -> None:
    figures = Figures()
    rows = [Row("s", 0, (1, 2, 3), 1, ()), Row("t", 4, (1,), 1, ()), Row("u", 4, (1,), 1, ())]
    figures.stepped(rows, 0.004)
    figures.stepped(rows[:1], 0.02)
    figures.stepped(rows * 1000, 100.0)
    found = taken(figures)
    assert (found.steps, found.rows, found.positions) == (3, 3004, 5008)
    assert found.row_counts == (1, 0, 1, *[0] * (len(ROW_BOUNDS) - 3), 1)
    assert [place for place, count in enumerate(found.second_counts) if count] == [2, 4, 12]


def test_no_more_tenants_are_named_than_there_is_room_for() -> None:
    figures = Figures()
    for number in range(3 * MOST_TENANTS):
        figures.decided([(f"t{number}", verdict(0, 0, 1))])
    figures.decided([("t0", verdict(0, 0, 1))])
    found = taken(figures)
    assert len(found.tenants) == MOST_TENANTS + 1
    assert found.tenants["t0"] == 2
    assert found.tenants[OTHERS] == 2 * MOST_TENANTS


def test_evictions_add_up_over_verifiers_that_begin_anew() -> None:
    figures, first, second = Figures(), Planner(8, StepBudget(8, 8)), Planner(8, StepBudget(8, 8))
    first.evictions = 3
    assert taken(figures, first).preemptions == 3
    first.evictions = 4
    assert taken(figures, first).preemptions == 4
    assert taken(figures, second).preemptions == 4
    second.evictions = 1
    assert taken(figures, second).preemptions == 5


def test_a_snapshot_changes_no_more_once_it_is_taken() -> None:
    figures = Figures()
    figures.decided([("acme", verdict(4, 2, 3))])
    before = taken(figures)
    packed = before.pack()
    figures.decided([("acme", verdict(4, 2, 3))])
    figures.ended(Error("s1", ErrorCode.MALFORMED, ""))
    figures.refused("quota")
    assert before.pack() == packed
    assert taken(figures).refusals == {"quota": 1}


# Where it is counted


async def test_ends_and_refusals_are_counted_by_why(wire: Wire) -> None:
    await wire.open()
    await wire.send(Decode("s1", 0, 1, len(PROMPT), wire.text.digest, budget=20))
    other = another(wire, "s2")
    await other.open()
    await other.send(Cancel("s2"))
    wrong = another(wire, "s3", target="another")
    await wrong.send(wrong.opening)
    refusal = await wrong.next()
    assert isinstance(refusal, Error)

    async def ended() -> bool:
        return not len(wire.verifier._sessions)

    await until(ended)
    found = wire.verifier._measure()
    assert {why: count for why, count in found.ended.items() if count} == {"length": 1, "cancelled": 1}
    assert found.refusals == {ErrorCode.WRONG_TARGET: 1}
    assert found.generated == 20


async def test_a_session_that_is_taken_over_is_counted_by_its_heir(
    redis: Redis, mortal: Callable[..., Awaitable[Mortal]]
) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    second = await mortal()
    await first.kill()
    await follow(device, second.verifier)

    async def counted() -> bool:
        return second.verifier._measure().takeovers == 1

    await until(counted)
    assert first.verifier._measure().takeovers == 0
    assert second.verifier._measure().running == 1


# How long it is shown


async def test_a_verifier_shows_its_figures_while_it_serves_and_takes_them_along(serve: Serve, redis: Redis) -> None:
    store = FiguresStore(redis)
    async with serve(HASH_TARGET, allow_unsafe_redis=True) as verifier:

        async def shown() -> bool:
            return bool((await store.read()).snapshots)

        await until(shown)
        (one,) = (await store.read()).snapshots
        assert (one.worker, one.model, one.slots) == (verifier.info.wid, HASH_TARGET, verifier.info.slots)
        assert one.ttl_ms > verifier._limits.lease_ms
    assert await redis.keys("{w.*") == []


async def test_a_verifier_that_hands_over_takes_its_figures_along(
    redis: Redis, mortal: Callable[..., Awaitable[Mortal]]
) -> None:
    verifier = (await mortal()).verifier
    device = device_of(redis, verifier)
    await device.open()
    await verifier._shown.write(verifier._measure())
    await verifier._leave()
    assert await redis.exists(keys.worker_figures(verifier.info.wid)) == 0
    assert await redis.zscore(keys.workers(HASH_TARGET), verifier.info.wid) == 0  # for others to take over
