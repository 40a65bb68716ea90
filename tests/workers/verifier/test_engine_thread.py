from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from dsdq.errors import ModelError
from workers.engine.hashed import HashEngine
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row
from workers.verifier.engine_thread import EngineThread


class Noting(HashEngine):
    """Notes on which thread it was made, and on which it verifies."""

    def __init__(self, *, step_ms: float = 0.0) -> None:
        super().__init__(kv_blocks=1, step_ms=step_ms)
        self.threads = [threading.current_thread()]

    def verify(self, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        self.threads.append(threading.current_thread())
        return super().verify(rows, rounds, secret)


@pytest.fixture
async def thread() -> AsyncIterator[EngineThread]:
    thread = EngineThread()
    yield thread
    thread.stop()


ROW = Row("s1", 0, (5, 9), 0, (0,))


async def test_an_engine_that_takes_its_time_is_made_and_verifies_on_one_thread(thread: EngineThread) -> None:
    engine = Noting(step_ms=0.1)
    await thread.start(lambda: engine)
    engine.threads = [await thread.run(threading.current_thread)]
    for _ in range(3):
        await thread.verify([ROW], [], 0)
    assert len(set(engine.threads)) == 1
    assert threading.current_thread() not in engine.threads


async def test_a_brief_engine_verifies_where_it_is_asked(thread: EngineThread) -> None:
    engine = Noting()
    await thread.start(lambda: engine)
    await thread.verify([ROW], [], 0)
    assert engine.threads[-1] is threading.current_thread()


@pytest.mark.parametrize("step_ms", [0.0, 0.1])
async def test_what_an_engine_raises_reaches_who_asked(thread: EngineThread, step_ms: float) -> None:
    await thread.start(lambda: HashEngine(kv_blocks=1, step_ms=step_ms))
    with pytest.raises(ModelError):
        await thread.verify([], [], 0)
