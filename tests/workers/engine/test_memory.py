from __future__ import annotations

import pytest
import torch

from dsdq.errors import ConfigError, ModelError
from dsdq.policies.paging import BLOCK
from workers.engine import memory
from workers.engine.memory import KvMemory, blocks_within, parse_bytes

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1073741824", 1 << 30), ("4GiB", 4 << 30), ("1.5 MiB", 3 << 19), ("500MB", 500_000_000), ("2k", 2000)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "4 TiB", "1e9", "GiB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="4GiB"):
        parse_bytes(text)


def test_the_tightest_bound_decides() -> None:
    assert blocks_within(KvMemory(tokens=10 * BLOCK + 1), {CPU: 1000}, 500) == 10
    assert blocks_within(KvMemory(bytes=7999), {CPU: 1000}, 500) == 7
    assert blocks_within(KvMemory(tokens=10 * BLOCK, bytes=7999), {CPU: 1000}, 500) == 7


def test_without_a_bound_a_share_of_what_is_free_is_taken_but_no_more_than_is_of_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_on", lambda _: 100_000)
    assert blocks_within(KvMemory(), {CPU: 1000}, 500) == 50
    assert blocks_within(KvMemory(sessions=3), {CPU: 1000}, 2 * BLOCK + 1) == 9


def test_too_little_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelError, match=r"2000 bytes\), got 1000 bytes"):
        blocks_within(KvMemory(bytes=1999), {CPU: 1000}, 500)
