"""matplotlib, where there is one."""

from __future__ import annotations

from typing import Any

from dsdq.errors import DsdqError


def pyplot() -> Any:  # noqa: ANN401 - a module
    """Return ``matplotlib.pyplot``, which writes files and opens no window.

    Raises:
        DsdqError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = "a picture needs matplotlib, which is not installed; install dsdq[plot]"
        raise DsdqError(msg) from error
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
