"""Give the free pages of malloc's heap back to the system, and spare the garbage collector what stays for good.

What comes and goes with every message leaves holes between what stays. Python's own blocks fill theirs again, but a
verifier's larger ones (buffers, tables of dicts) touch ever new places of a heap that is given back only from its end:
without this, resident memory grows for hours though nothing is kept.
"""

from __future__ import annotations

import ctypes
import gc


def give_back_free_pages() -> None:
    """Call glibc's ``malloc_trim``, some ms for a gigabyte; where the C library is another, do nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def pass_over_what_is_here() -> None:
    """Let the garbage collector look at nothing again that exists now.

    To look through all that torch and transformers have loaded takes it 0.2 s, in which no thread runs.
    """
    gc.collect()
    gc.freeze()
