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
        ConfigError: the cluster cannot be reached.
    """
    if address:
        _check(address)
    import ray  # noqa: PLC0415 - an extra

    options = {"address": address} if address else {"address": "local", "num_cpus": jobs, "include_dashboard": False}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"--ray-address {address}: expected a cluster that can be reached, got: {why}") from None
    remote = ray.remote(outcome)

    def _run(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        waiting = list(enumerate(tasks))[::-1]
        places: dict[ray.ObjectRef[Outcome], int] = {}
        while waiting or places:
            while waiting and len(places) < MOST_AT_ONCE:
                place, task = waiting.pop()
                places[remote.remote(task)] = place
            (done,), _ = ray.wait(list(places))
            try:
                yield places.pop(done), ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ConfigError):
                    raise error.cause from None
                raise

    try:
        yield _run
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Return if somebody listens at ``host:port``: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"--ray-address: expected host:port, got {address!r}")
    try:
        create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"--ray-address {address}: expected a cluster that can be reached, got: {why}") from None
