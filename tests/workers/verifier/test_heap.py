"""Free memory that lies between what is still used goes back to the system; what stays costs the collector nothing."""

import ctypes
import gc
import platform

import psutil
import pytest

from workers.verifier.heap import give_back_free_pages, pass_over_what_is_here

BLOCK_BYTES, BLOCKS = 16_384, 2_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc: others have no malloc_trim")
def test_free_pages_below_one_that_is_used_are_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    for block in blocks[:-1]:
        libc.free(block)
    process = psutil.Process()
    before = process.memory_info().rss
    give_back_free_pages()
    freed = before - process.memory_info().rss
    libc.free(blocks[-1])
    assert freed > BLOCK_BYTES * BLOCKS // 2


def test_what_is_here_is_not_looked_at_again_and_what_comes_is() -> None:
    here: list[object] = []
    pass_over_what_is_here()
    later: list[object] = []
    looked_at = {id(one) for one in gc.get_objects()}
    assert id(here) not in looked_at
    assert id(later) in looked_at
