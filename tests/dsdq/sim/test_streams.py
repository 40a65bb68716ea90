from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from dsdq.sim.streams import Streams


def draw(streams: Streams, name: str, *numbers: int) -> list[float]:
    return streams.generator(name, *numbers).random(4).tolist()


def test_a_stream_follows_from_seed_name_and_numbers_alone() -> None:
    streams = Streams(1)
    before = draw(streams, "text", 3)
    streams.random("other").random()
    assert draw(streams, "text", 3) == before == draw(Streams(1), "text", 3)


def test_streams_differ_by_seed_part_name_and_numbers() -> None:
    one = Streams(1)
    drawn = [
        draw(one, "text"),
        draw(one, "text", 1),
        draw(one, "text", 1, 2),
        draw(one, "text", 12),
        draw(one, "luck", 1),
        draw(one.of("phone"), "text", 1),
        draw(one.of("laptop"), "text", 1),
        draw(one.of("phone").of("laptop"), "text", 1),
        draw(Streams(2), "text", 1),
    ]
    assert len({tuple(numbers) for numbers in drawn}) == len(drawn)


def test_exponential_times_have_their_mean_and_deviation() -> None:
    times = list(islice(Streams(2).exponentials(5.0, "gaps"), 50_000))
    assert (np.mean(times), np.std(times)) == pytest.approx((5.0, 5.0), rel=0.02)
