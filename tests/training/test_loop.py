from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.loop import CONSTANT_SHARE, LAST_RATE, Run, rate, train
from training.muon import orthogonal


class StoppedError(Exception):
    """The machine went away."""


def fit(folder: Path, steps: int, stop_at: int | None = None) -> nn.Module:
    torch.manual_seed(1)
    model = nn.Linear(4, 3)

    def loss_of(step: int) -> torch.Tensor:
        if step == stop_at:
            raise StoppedError
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (model(x) - x[:, :3]).square().mean()

    train(model, loss_of, Run(steps, folder / "run.state", "test"))
    return model


def test_a_run_that_was_cut_off_goes_on_to_the_same_end(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = fit(tmp_path / "whole", 120)
    with pytest.raises(StoppedError):
        fit(tmp_path / "cut", 120, stop_at=73)
    resumed = fit(tmp_path / "cut", 120)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_training_learns(tmp_path: Path) -> None:
    model = fit(tmp_path, 200)
    x = torch.randn(64, 4)
    assert (model(x) - x[:, :3]).square().mean() < 0.05


def test_the_rate_warms_up_stays_and_falls() -> None:
    rates = [rate(step, 1000) for step in range(1000)]
    assert rates[0] < rates[10] < rates[49] == 1.0
    assert rates[int(1000 * CONSTANT_SHARE) - 1] == 1.0
    assert rates[-1] == pytest.approx(LAST_RATE, abs=0.005)
    assert rates[600:] == sorted(rates[600:], reverse=True)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_an_update_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    found = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert found.min() > 0.3
    assert found.max() < 1.5
