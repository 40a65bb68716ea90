"""Training of AWC's networks, in torch.

What ``awc``'s says at first is nothing: so it begins as the formulas, which hold for one session, and learns where they
do not (load, steering, jitter, what a device cannot know). Loss: L1, as in the paper (arXiv 2511.21669), of the
logarithm of each way's rate, near-best ways counting most, what is lost by taking the way that seems best, and a price
on corrections that differ from window to window. AdamW; the learning rate falls as half a cosine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dsdq.policies.window.network import BLOCKS, Floats
from dsdq.sim.awc.lessons import Lessons

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of what is said ``[n, ways]`` and what is true."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast is learned: passes over all lessons, the learning rate to begin with, lessons at a time."""

    epochs: int
    rate: float
    batch: int = 512


@dataclass(frozen=True, slots=True)
class Weighing:
    """What counts how much where rates are learned.

    Attributes:
        near: a way that is slower by a factor of ``e^(1/near)`` counts ``1/e`` of the best.
        sharp: ways whose foretold gains differ by so little are taken about as often.
        held: what is said of differences between windows counts so much: few windows were simulated beside the best
            one, so they have to be worth it, or would be far off for those that were not.
    """

    near: float = 4.0
    sharp: float = 0.02
    held: float = 0.5

    def loss(self, said: Tensor, truth: Tensor) -> Tensor:
        """Return the mean loss of foretold logarithms of rates against those that are known."""
        known = ~truth.isnan()
        truth = truth.nan_to_num(0.0)
        short = truth.masked_fill(~known, -torch.inf).amax(dim=1, keepdim=True) - truth
        weight = torch.exp(-self.near * short) * known
        off = ((said - truth).abs() * weight).sum(dim=1) / weight.sum(dim=1)
        taken = torch.softmax(said.masked_fill(~known, -torch.inf) / self.sharp, dim=1)
        lost = (taken * short.masked_fill(~known, 0.0)).sum(dim=1)
        return (off + lost).mean()


class Mlp(nn.Module):
    """The network of :mod:`dsdq.policies.window.network`, to be trained."""

    def __init__(self, lessons: Lessons, width: int, outputs: int) -> None:
        """Take mean and scale of the features from the lessons."""
        super().__init__()
        inputs = lessons.features.shape[1]
        self.mean = nn.Buffer(torch.from_numpy(lessons.features.mean(axis=0)))
        self.scale = nn.Buffer(torch.from_numpy(lessons.features.std(axis=0) + 1e-3))
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"first": nn.Linear(width, width), "leave": nn.Linear(width, width)}) for _ in range(BLOCKS)
        )
        self.out = nn.Linear(width, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return what it says, ``[n, outputs]``."""
        silu = nn.functional.silu
        hidden = silu(self.enter((features - self.mean) / self.scale))
        for block in self.blocks:
            hidden = hidden + block["leave"](silu(block["first"](hidden)))  # type: ignore[index] # a ModuleDict
        said: Tensor = self.out(hidden)
        return said

    def weights(self) -> dict[str, Floats]:
        """Return its weights as devices read them."""
        return {
            name.removeprefix("blocks."): np.ascontiguousarray(value.detach().numpy(), dtype=np.float32)
            for name, value in self.state_dict().items()
        }


def window_loss(said: Tensor, windows: Tensor) -> Tensor:
    """Return the paper's loss: L1 of the window."""
    return (said - windows).abs().mean()


def train(
    network: Mlp, lessons: Lessons, basis: Floats, course: Course, seed: int, loss_of: Loss, held: Floats | None = None
) -> Iterator[float]:
    """Train a network, and give each epoch's mean loss: of the formulas, corrected by ``basis`` times what it says.

    What it says counts too, each output as much as ``held`` ``[outputs]`` says.
    """
    features, formulas, truth = (torch.from_numpy(one) for one in (lessons.features, lessons.formulas, lessons.truth))
    spread = torch.from_numpy(basis.T.copy())
    holding = None if held is None else torch.from_numpy(held)
    luck = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=course.rate, weight_decay=1e-3)
    steps = course.epochs * -(-len(features) // course.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(course.epochs):
        total = 0.0
        for places in torch.split(torch.randperm(len(features), generator=luck), course.batch):
            optimizer.zero_grad()
            said = network(features[places])
            loss = loss_of(formulas[places] + said @ spread, truth[places])
            if holding is not None:
                loss = loss + (said.abs() @ holding).mean()
            loss.backward()  # type: ignore[no-untyped-call] # torch has it so
            optimizer.step()
            schedule.step()
            total += loss.item() * len(places)
        yield total / len(features)


def untrained(lessons: Lessons, width: int, outputs: int, seed: int) -> Mlp:
    """Return a network with random weights that says nothing yet."""
    torch.manual_seed(seed)
    network = Mlp(lessons, width, outputs)
    nn.init.zeros_(network.out.weight)
    nn.init.zeros_(network.out.bias)
    return network
