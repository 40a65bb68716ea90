from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from dsdq.errors import ModelError
from workers.engine.cuda_graphs import Bucket, Graphs, bucket_of, buckets, whole

SMALL, WIDE, LARGE = Bucket(8, 2, 4, 4), Bucket(8, 8, 8, 4), Bucket(64, 8, 32, 4)


@pytest.mark.parametrize(
    ("need", "bucket"),
    [
        (Bucket(1, 1, 1, 1), SMALL),
        (Bucket(8, 2, 4, 4), SMALL),
        (Bucket(8, 3, 4, 4), WIDE),
        (Bucket(9, 1, 1, 1), LARGE),
        (Bucket(8, 8, 9, 4), LARGE),
        (Bucket(65, 1, 1, 1), None),
        (Bucket(1, 1, 1, 5), None),
    ],
)
def test_a_forward_goes_to_the_smallest_bucket_that_holds_it(need: Bucket, bucket: Bucket | None) -> None:
    assert bucket_of(need, [LARGE, WIDE, SMALL]) == bucket


@pytest.mark.parametrize("tile", [1, 64])
def test_every_step_within_the_budget_has_a_bucket_that_wastes_little(tile: int) -> None:
    shapes = buckets(640, context_blocks=128, split_blocks=8, tile=tile)
    for tokens in range(1, 641):
        for blocks in (1, 8, 9, 128):
            need = Bucket(whole(tokens, tile), tokens, whole(tokens, tile), blocks)
            bucket = bucket_of(need, shapes)
            assert bucket is not None
            assert bucket.tokens < max(65, min(2 * tokens, tokens + 64))
            assert bucket.blocks < 4 * max(blocks, 8)
    assert all(bucket.tokens % tile == bucket.kept % tile == 0 for bucket in shapes)
    assert bucket_of(Bucket(641, 1, 1, 1), shapes) is None


def test_no_bucket_is_wider_than_the_context_or_takes_gigabytes_of_partial_results() -> None:
    assert {bucket.blocks for bucket in buckets(64, context_blocks=20, split_blocks=8, tile=1)} == {8, 20}
    long = [bucket for bucket in buckets(1024, 4096, 8, 1) if bucket.blocks == 512]
    assert max(bucket.tokens for bucket in long) == 256


class Recorder:
    """Stands for the capture of a graph: a replay runs the call again and writes over the output."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, call: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        self.captured += 1
        output = torch.full_like(call(), torch.nan)  # a capture computes nothing

        def replay() -> None:
            self.replayed += 1
            output.copy_(call())

        return replay, output


def double(bucket: Bucket, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    assert len(inputs["x"]) == bucket.tokens
    return inputs["x"] * 2


def padded(values: list[float]) -> Callable[[Bucket], dict[str, torch.Tensor]]:
    return lambda bucket: {"x": torch.tensor(values + [0.0] * (bucket.tokens - len(values)))}


def test_a_bucket_is_captured_once_and_replayed_with_fresh_inputs() -> None:
    recorder = Recorder()
    graphs = Graphs(double, [SMALL, LARGE], "cpu", recorder)
    first = graphs(Bucket(2, 1, 1, 1), padded([1.0, 2.0])).tolist()
    second = graphs(Bucket(3, 1, 1, 1), padded([3.0, 4.0, 5.0])).tolist()
    assert first == [2, 4, 0, 0, 0, 0, 0, 0]
    assert second == [6, 8, 10, 0, 0, 0, 0, 0]
    assert (recorder.captured, recorder.replayed) == (1, 2)


def test_what_no_bucket_holds_runs_eagerly_and_unpadded() -> None:
    recorder = Recorder()
    graphs = Graphs(double, [SMALL], "cpu", recorder)
    assert graphs(Bucket(9, 1, 1, 1), padded([1.0] * 9)).tolist() == [2.0] * 9
    assert not recorder.captured


def test_the_inputs_that_a_graph_reads_are_its_own() -> None:
    graphs = Graphs(double, [SMALL], "cpu", Recorder())
    mine = torch.ones(8)
    graphs(SMALL, lambda _: {"x": mine})
    graphs(SMALL, padded([5.0]))
    assert mine.tolist() == [1.0] * 8


def test_preparing_captures_every_bucket_largest_first_and_only_once() -> None:
    recorder, sizes = Recorder(), []
    graphs = Graphs(double, [SMALL, LARGE, WIDE], "cpu", recorder)

    def make(bucket: Bucket) -> dict[str, torch.Tensor]:
        sizes.append(bucket.tokens)
        return padded([])(bucket)

    graphs.prepare(make)
    graphs.prepare(make)
    assert sizes == [64, 8, 8]
    graphs(Bucket(1, 1, 1, 1), padded([1.0]))
    assert (recorder.captured, recorder.replayed) == (3, 1)


@pytest.mark.parametrize("wrong", [{"x": torch.ones(1)}, {"y": torch.ones(8)}, {}])
def test_inputs_of_another_shape_are_refused(wrong: dict[str, torch.Tensor]) -> None:
    graphs = Graphs(double, [SMALL], "cpu", Recorder())
    graphs(SMALL, padded([]))
    with pytest.raises(ModelError, match="as when it was captured"):
        graphs(SMALL, lambda _: wrong)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_real_graphs_of_several_buckets_compute_what_eager_runs_do() -> None:
    weight = torch.randn(64, 64, device="cuda")

    def run(_: Bucket, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(inputs["x"][:, None] * weight[:1]) @ weight

    graphs = Graphs(run, [SMALL, LARGE], "cuda")
    for values in ([1.0], [2.0] * 9, [3.0, 4.0], [5.0] * 64, [6.0] * 65, [7.0]):
        need = Bucket(len(values), 1, 1, 1)
        bucket = bucket_of(need, [SMALL, LARGE]) or need
        expected = run(bucket, {"x": padded(values)(bucket)["x"].cuda()})
        torch.testing.assert_close(graphs(need, padded(values)), expected)
