"""Simulations on a Ray cluster, for those who outgrow one machine. dsdq has to be installed on its machines.

Traces and event logs are files: a cluster has to see them where this machine does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import create_connection

from dsdq.errors import ConfigError
from dsdq.sim.outcome import Outcome, Task, outcome
from dsdq.sim.runners import Runner

CONNECT_S = 5.0

MOST_AT_ONCE = 10_000
"""Tasks that Ray is given at a time."""


@contextmanager
def on_ray(jobs: int, address: str | None = None) -> Iterator[Runner]:
    """Give a runner of the cluster at an address, or else of one on this machine, of so many cores.

    Raises:
        ConfigError: the cluster cannot be reached; when tasks are run: a task was lost, as by a machine that is gone.
    """
    if address is not None:
        _check(address)
    import ray  # noqa: PLC0415 - an extra

    _start(jobs, address)

    def _run(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        try:
            yield from _done(tasks)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ConfigError):
                raise error.cause from None
            raise
        except (ray.exceptions.RayError, ConnectionError) as error:
            why = _first_line(error)
            raise ConfigError(f"--on ray: expected a cluster that does every task, got: {why}") from None

    try:
        yield _run
    finally:
        ray.shutdown()


def _start(jobs: int, address: str | None) -> None:
    import ray  # noqa: PLC0415 - an extra

    local = {"address": "local", "num_cpus": jobs, "include_dashboard": False}
    options = local if address is None else {"address": address}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise _unreached(address, error) from None


def _done(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
    """Do tasks and give each one's place and outcome as it is done."""
    import ray  # noqa: PLC0415 - an extra

    remote = ray.remote(outcome)
    waiting = list(enumerate(tasks))[::-1]
    places: dict[ray.ObjectRef[Outcome], int] = {}
    while waiting or places:
        while waiting and len(places) < MOST_AT_ONCE:
            place, task = waiting.pop()
            places[remote.remote(task)] = place
        (done,), _ = ray.wait(list(places))
        yield places.pop(done), ray.get(done)


def _check(address: str) -> None:
    """Return if somebody listens at ``host:port``: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"--ray-address: expected host:port, got {address!r}")
    try:
        create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise _unreached(address, error) from None


def _unreached(address: str | None, error: Exception) -> ConfigError:
    if address is None:
        return ConfigError(f"--on ray: expected a cluster on this machine to start, got: {_first_line(error)}")
    return ConfigError(f"--ray-address {address}: expected a cluster that can be reached, got: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
