"""Several processes with one model: the same text as one process, and an end for all when one of them is lost."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from dsdq.client import GREEDY
from dsdq.errors import ModelError, ParallelError
from dsdq.models.target import load_target
from dsdq.testing.reference import load_reference
from tests.workers.engine.rank import NEW_TOKENS, PROMPTS, greedy
from workers.engine.engine import Engine
from workers.engine.launch import follows, launched
from workers.engine.memory import KvMemory
from workers.engine.parallel import Beat, Call, Leader, Stop, follow

ROOT = Path(__file__).parents[3]
ENDS_S = 60


# With nothing but a queue between the ranks


class Line:
    """What :class:`workers.engine.parallel.Ranks` is to a leader and one follower, inside one process."""

    rank, size = 0, 2

    def __init__(self, limit_s: float = 60) -> None:
        self.limit = timedelta(seconds=limit_s)
        self.said: queue.Queue[Call | Beat | Stop] = queue.Queue()
        self.gone = False

    def send(self, message: Call | Beat | Stop) -> None:
        if self.gone:
            raise ParallelError("gone")
        self.said.put(message)

    def receive(self) -> Call | Beat | Stop:
        return self.said.get(timeout=ENDS_S)


class Tally:
    """Adds up; refuses odd numbers, and everything while it is ``broken``."""

    def __init__(self, *, broken: bool = False) -> None:
        self.total = 0
        self.broken = broken

    def add(self, number: int, *, times: int = 1) -> int:
        if self.broken:
            raise RuntimeError("no memory")
        if number % 2:
            raise ModelError("odd")
        self.total += number * times
        return self.total


@contextmanager
def led(line: Line, here: Tally, there: Tally) -> Iterator[tuple[Leader, list[BaseException]]]:
    ended: list[BaseException] = []

    def run() -> None:
        try:
            follow(there, line)  # type: ignore[arg-type]
        except ParallelError as error:
            ended.append(error)

    follower = threading.Thread(target=run)
    follower.start()
    leader = Leader(here, line)  # type: ignore[arg-type]
    try:
        yield leader, ended
        leader.stop()
    finally:
        line.said.put(Stop())
        follower.join(ENDS_S)


def test_every_rank_makes_the_call_and_rank_0_returns_the_result() -> None:
    here, there = Tally(), Tally()
    with led(Line(), here, there) as (leader, ended):
        assert leader.add(2) == 2
        assert leader.add(4, times=10) == leader.total == 42
    assert (there.total, ended) == (42, [])


def test_a_refusal_is_the_same_everywhere_and_the_ranks_go_on() -> None:
    here, there = Tally(), Tally()
    with led(Line(), here, there) as (leader, ended):
        with pytest.raises(ModelError, match="odd"):
            leader.add(1)
        leader.add(2)
    assert (there.total, ended) == (2, [])


def test_a_rank_that_fails_alone_ends_and_says_why() -> None:
    with led(Line(), Tally(), Tally(broken=True)) as (leader, ended):
        leader.add(2)
    assert "add failed: RuntimeError: no memory" in str(ended[0])


def test_a_rank_that_refuses_alone_ends_before_the_next_call() -> None:
    here, there = Tally(), Tally()
    there.add = lambda *_, **__: here.add(1)  # type: ignore[method-assign]
    with led(Line(), here, there) as (leader, ended):
        leader.add(2)
        leader.add(2)
    assert "ended with ModelError here and with success on rank 0" in str(ended[0])


def test_a_leader_that_failed_or_lost_a_rank_makes_no_more_calls() -> None:
    line = Line()
    leader = Leader(Tally(broken=True), line)  # type: ignore[arg-type]
    for expected in ("add failed: RuntimeError", "another rank is gone"):
        with pytest.raises(ParallelError, match=expected):
            leader.add(2)
    leader.stop()
    line.gone = True
    leader = Leader(Tally(), line)  # type: ignore[arg-type]
    with pytest.raises(ParallelError, match="gone"):
        leader.add(2)
    leader.stop()


def test_an_idle_leader_says_that_it_is_there() -> None:
    line = Line(limit_s=0.1)
    leader = Leader(Tally(), line)  # type: ignore[arg-type]
    assert isinstance(line.receive(), Beat)
    leader.stop()
    while isinstance(last := line.receive(), Beat):
        pass
    assert isinstance(last, Stop)


def test_the_launchers_variables_say_who_one_is() -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert launched(variables)
    assert not follows(variables)
    assert follows({**variables, "RANK": "1"})
    assert not launched({**variables, "WORLD_SIZE": "1"})
    assert not launched({"WORLD_SIZE": "2"})


# With two real processes


@contextmanager
def two_ranks(*arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("rank.py")), *arguments],
            env={**os.environ, **common, **paths, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_greedy_text_of_two_ranks_is_that_of_one(tiny: Callable[[str], Path]) -> None:
    folder = str(tiny("llama"))
    with two_ranks("serve", folder) as (first, second):
        said, _ = first.communicate(timeout=ENDS_S)
        assert (first.returncode, second.wait(ENDS_S)) == (0, 0)
    answer = json.loads(said.splitlines()[-1])
    assert answer["numerics"].endswith("/block64/tp2")
    alone = Engine(load_target(folder), KvMemory(tokens=1024))
    for prompt, text in zip(PROMPTS, answer["texts"], strict=True):
        wanted = greedy(alone, prompt)
        assert len(text) == NEW_TOKENS
        if text != wanted:
            first_difference = next(i for i, (a, b) in enumerate(zip(text, wanted, strict=True)) if a != b)
            assert first_difference in load_reference(folder).near_ties(prompt, wanted, GREEDY, 0)
            print(f"near-tie at position {first_difference}")


@pytest.mark.parametrize(("wrong", "code"), [("die", 3), ("fail", 2)])
def test_a_rank_that_is_lost_ends_the_other_with_a_sentence(wrong: str, code: int) -> None:
    with two_ranks(wrong) as (first, second):
        said, _ = first.communicate(timeout=ENDS_S)
        assert (first.returncode, second.wait(ENDS_S)) == (2, code)
    assert "another rank is gone" in said


def test_a_silent_rank_0_ends_the_other_within_the_limit() -> None:
    with two_ranks("silent") as (_, second):
        said, _ = second.communicate(timeout=ENDS_S)
        assert second.returncode == 2
    assert "silent for 3 s" in said
