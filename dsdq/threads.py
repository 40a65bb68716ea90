"""How many threads may wait for work, and how."""

from __future__ import annotations

import os
import threading
from functools import cache
from types import TracebackType

from threadpoolctl import ThreadpoolController

_OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def share_cores() -> None:
    """Let idle OpenMP threads wait some microseconds for the next operation, then sleep. Call before torch is imported.

    Waking them for each of a small model's operations would double its time; spinning on would take the cores from
    other processes. Variables that are already set stay as they are.
    """
    for name, value in _OPENMP.items():
        os.environ.setdefault(name, value)


class OneBlasThread:
    """Keep numpy's matrix products on one thread while anybody in the process is inside; afterwards all is as before.

    On the matrices of a draft model a second thread gains nothing, and OpenBLAS's go on spinning after each product.
    """

    def __init__(self) -> None:
        self._blas = ThreadpoolController().select(user_api="blas")
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit = self._blas.limit(limits=1)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.restore_original_limits()


@cache
def one_blas_thread() -> OneBlasThread:
    """Return the process's own."""
    return OneBlasThread()
