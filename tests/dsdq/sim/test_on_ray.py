"""What goes wrong with a cluster is one line; a real one is asked in the tests of `dsdq sim sweep`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from dsdq.errors import ConfigError
from dsdq.sim import on_ray as module
from dsdq.sim.on_ray import on_ray
from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.runners import in_order
from tests.dsdq.sim.small import SMALL

ray = pytest.importorskip("ray", reason="needs dsdq[ray]")


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Have every task of a cluster end with an error, on a cluster that need not be there."""

    def done(_: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        raise error
        yield

    monkeypatch.setattr(module, "_start", lambda *_: None)
    monkeypatch.setattr(module, "_done", done)


def run() -> None:
    with on_ray(1) as runner:
        in_order(runner, [Task(SMALL)])


def test_a_task_that_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ray.exceptions.OutOfMemoryError("Task was killed\nas memory ran out"))
    with pytest.raises(ConfigError, match=r"^--on ray: expected a cluster that does every task, got: Task was killed$"):
        run()


def test_what_a_task_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = ConfigError("trace a.jsonl: expected a file")
    failing(monkeypatch, ray.exceptions.RayTaskError("outcome", "remotely", cause))
    with pytest.raises(ConfigError, match=r"^trace a\.jsonl: expected a file$"):
        run()


@pytest.mark.parametrize(("said", "why"), [("no room\nat all", "no room"), ("", "RuntimeError")])
def test_a_cluster_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, said: str, why: str) -> None:
    def start(**_: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(ConfigError, match=f"^--on ray: expected a cluster on this machine to start, got: {why}$"):
        run()
