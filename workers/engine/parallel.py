"""One model over several processes: rank 0 decides what the engine does, the other ranks do the same.

Tensor parallelism needs every rank to make the same calls in the same order, because the ranks exchange parts of each
layer's results. Rank 0 owns a :class:`Leader` in the engine's place: it tells the others of each method call and then
makes it. The others :func:`follow`. Nothing here knows the engine's methods, only that a call's arguments can be
pickled and that it does the same on each rank.

Nobody waits for ever. A rank that has died is noticed by its closed connection; one that is silent (rank 0 sends a beat
while there is nothing to do), by a time limit. A rank whose call fails unlike the others' ends, and the others with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import distributed

from dsdq.errors import DsdqError, ParallelError
from workers.engine.launch import TORCHRUN

JOINING = timedelta(minutes=10)  # processes start and import at different speeds
LOADING = timedelta(hours=2)  # ranks read different parts of large files, some much later than others
_BEATS_PER_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A method call that every rank makes. ``before`` names the error that the call before it ended with on rank 0."""

    method: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    before: str | None


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing to do, but rank 0 is there."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The last message."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that run one model together; ``channel`` is a gloo group of all of them."""

    rank: int
    size: int
    channel: Any
    limit: timedelta

    def meet(self) -> None:
        """Wait until every rank has come this far: all have loaded their share.

        Raises:
            ParallelError: one of them ended before, or takes longer than :data:`LOADING`.
        """
        try:
            distributed.monitored_barrier(self.channel, timeout=LOADING)
        except RuntimeError as error:
            msg = f"rank {self.rank}: another rank ended while the model was loaded; its own message says why"
            raise ParallelError(msg) from error

    def send(self, message: Call | Beat | Stop) -> None:
        """Tell every other rank; from rank 0 only.

        Raises:
            ParallelError: one of them is gone.
        """
        self._broadcast([message])

    def receive(self) -> Call | Beat | Stop:
        """Return what rank 0 says next.

        Raises:
            ParallelError: it is gone, or silent for longer than the limit.
        """
        box: list[Any] = [None]
        self._broadcast(box)
        message: Call | Beat | Stop = box[0]
        return message

    def least(self, value: int) -> int:
        """Return the least of what the ranks call this with; all must.

        Raises:
            ParallelError: one of them is gone.
        """
        box = torch.tensor([value])
        try:
            distributed.all_reduce(box, distributed.ReduceOp.MIN, group=self.channel)
        except RuntimeError as error:
            msg = f"rank {self.rank}: another rank is gone; all ranks must end"
            raise ParallelError(msg) from error
        return int(box[0])

    def leave(self) -> None:
        """Leave the group; nothing can be said after."""
        distributed.destroy_process_group()

    def _broadcast(self, box: list[Any]) -> None:
        try:
            distributed.broadcast_object_list(box, src=0, group=self.channel, device=torch.device("cpu"))
        except RuntimeError as error:
            seconds = self.limit.total_seconds()
            msg = f"rank {self.rank}: another rank is gone, or was silent for {seconds:.0f} s; all ranks must end"
            raise ParallelError(msg) from error


def join(device: str, limit_ms: int) -> Ranks:
    """Join the other ranks that torchrun started: gloo on the CPU, NCCL beside it on GPUs.

    From then on, none may be silent for longer than ``limit_ms`` between calls. Inside a call torch's own limits hold.

    Raises:
        ParallelError: they did not come within :data:`JOINING`, or the launcher's variables make no sense.
    """
    limit = timedelta(milliseconds=limit_ms)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        if device != "cpu":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(backend, timeout=JOINING)
        channel = distributed.new_group(backend="gloo", timeout=limit)
    except (RuntimeError, ValueError, KeyError) as error:
        names = ", ".join(f"{name}={os.environ.get(name)}" for name in TORCHRUN)
        msg = f"tensor parallelism: the ranks did not find one another ({names}): {error}"
        raise ParallelError(msg) from error
    return Ranks(distributed.get_rank(), distributed.get_world_size(), channel, limit)


class Leader:
    """Stands for ``engine`` on rank 0: its methods are called on every rank, its other attributes are read here.

    Its methods return what the engine's return here, and raise the project's own errors as they are. Calls come from
    one thread at a time, as the engine's do.
    """

    def __init__(self, engine: Any, ranks: Ranks) -> None:  # noqa: ANN401 - whatever it leads
        """Begin to lead; the other ranks follow from here on."""
        self._engine = engine
        self._ranks = ranks
        self._before: str | None = None
        self._lost = False
        self._ended = threading.Event()
        self._sending = threading.Lock()
        self._beating = threading.Thread(target=self._beat, name="beat", daemon=True)
        self._beating.start()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the engine's attributes
        value = getattr(self._engine, name)
        return partial(self.run, name) if callable(value) else value

    def run(self, method: str, *positional: Any, **named: Any) -> Any:  # noqa: ANN401 - the engine's methods
        """Make a call on every rank and return what it returns here.

        Raises:
            DsdqError: what the call raised; the same on every rank, which stay together.
            ParallelError: a rank is gone, or the call failed in a way that leaves the ranks apart; the leader is of no
                use any more.
        """
        with self._sending:
            self._send(Call(method, positional, named, self._before))
            self._before = None
            try:
                return getattr(self._engine, method)(*positional, **named)
            except DsdqError as error:
                self._before = type(error).__name__
                raise
            except Exception as error:
                self._lost = True
                raise ParallelError(_failed(self._ranks, method, error)) from error

    def stop(self) -> None:
        """Let the other ranks end; they end by themselves where one is lost."""
        self._ended.set()
        self._beating.join()
        with self._sending:
            if not self._lost:
                self._send(Stop())

    def _send(self, message: Call | Beat | Stop) -> None:
        if self._lost:
            msg = f"rank {self._ranks.rank}: another rank is gone; all ranks must end"
            raise ParallelError(msg)
        try:
            self._ranks.send(message)
        except ParallelError:
            self._lost = True
            raise

    def _beat(self) -> None:
        while not self._ended.wait(self._ranks.limit.total_seconds() / _BEATS_PER_LIMIT):
            if not self._sending.acquire(blocking=False):
                continue  # in a call, which says as much
            try:
                self._send(Beat())
            except ParallelError:
                return  # the next call raises it again, where somebody listens
            finally:
                self._sending.release()


def follow(engine: Any, ranks: Ranks) -> None:  # noqa: ANN401 - whatever rank 0 leads
    """Make every call that rank 0 makes, until it stops.

    Raises:
        ParallelError: rank 0 is gone or silent, or a call ended otherwise here than there.
    """
    before: str | None = None
    while not isinstance(message := ranks.receive(), Stop):
        if isinstance(message, Call):
            if message.before != before:
                msg = (
                    f"rank {ranks.rank}: the last call ended with {before or 'success'} here and with "
                    f"{message.before or 'success'} on rank 0; all ranks must end"
                )
                raise ParallelError(msg)
            before = _follow_call(engine, message, ranks)


def _follow_call(engine: Any, call: Call, ranks: Ranks) -> str | None:  # noqa: ANN401 - see follow
    """Make a call and return the name of the project's error that it raised, if it did."""
    try:
        getattr(engine, call.method)(*call.positional, **call.named)
    except DsdqError as error:
        return type(error).__name__
    except Exception as error:
        raise ParallelError(_failed(ranks, call.method, error)) from error
    return None


def _failed(ranks: Ranks, method: str, error: Exception) -> str:
    return f"rank {ranks.rank}: {method} failed: {type(error).__name__}: {error}; all ranks must end"
