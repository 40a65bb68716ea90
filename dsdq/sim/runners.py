"""Who does simulations: this process, several processes, or (:mod:`dsdq.sim.on_ray`) a cluster.

A runner takes tasks and gives each one's place and outcome as it is done, in any order. An outcome follows from its
task alone, so that results do not depend on who does them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TypeVar

from dsdq.errors import ConfigError
from dsdq.sim.outcome import Outcome, Task, hashed, key, outcome

Runner = Callable[[Sequence[Task]], Iterator[tuple[int, Outcome]]]

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 4


def here(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
    """Do tasks one after the other, in this process."""
    for place, task in enumerate(tasks):
        yield place, outcome(task)


@contextmanager
def processes(jobs: int) -> Iterator[Runner]:
    """Give a runner of so many processes, which are started as they are needed; of none but this one for one.

    Raises:
        ConfigError: when tasks are run: a process was ended from outside.
    """
    if jobs == 1:
        yield here
        return
    # Not forked: the command line may run threads, such as a progress bar's.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin)

    def _run(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        places = {pool.submit(outcome, task): place for place, task in enumerate(tasks)}
        with _whole(jobs):
            for done in as_completed(places):
                yield places.pop(done), done.result()

    try:
        yield _run
    finally:
        pool.shutdown(cancel_futures=True)


def remembering(run: Runner) -> Runner:
    """Return a runner that does no simulation twice, other than for its requests or events."""
    known: dict[tuple[str, bool, Path | None], Outcome] = {}
    once = cache(hashed)

    def _again(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        alike: dict[tuple[str, bool, Path | None], list[int]] = {}
        for place, task in enumerate(tasks):
            alike.setdefault((key(task.scenario, once), task.requests, task.events), []).append(place)
        for one in alike.keys() & known.keys():
            yield from ((place, known[one]) for place in alike.pop(one))
        fresh = list(alike.items())
        for number, found in run([tasks[places[0]] for _, places in fresh]):
            (name, *_), places = fresh[number]
            known[name, False, None] = replace(found, requests=None, events=None)
            yield from ((place, found) for place in places)

    return _again


def in_order(run: Runner, tasks: Sequence[Task]) -> list[Outcome]:
    """Return all outcomes in the order of their tasks."""
    found = dict(run(tasks))
    return [found[place] for place in range(len(tasks))]


def spread(do: Callable[[T], R], tasks: Iterable[T], jobs: int) -> Iterator[R]:
    """Give what tasks of any kind come to, in their order, done by so many processes; by none but this one for one.

    Raises:
        ConfigError: a process was ended from outside.
    """
    if jobs == 1:
        yield from map(do, tasks)
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin)
    try:
        with _whole(jobs):
            yield from pool.map(do, tasks, chunksize=_AT_ONCE)
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _whole(jobs: int) -> Iterator[None]:
    """Tell of a process of a pool that was ended from outside."""
    try:
        yield
    except BrokenProcessPool:
        raise ConfigError(
            f"--jobs {jobs}: expected processes that simulate to end by themselves, got one that was ended from "
            "outside; give fewer if memory ran out"
        ) from None


def _begin() -> None:
    """Begin a process of a pool: it ends with its parent, however that ends, and at once when it is interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
