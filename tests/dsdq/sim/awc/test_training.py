from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dsdq.policies.window import awc
from dsdq.policies.window.network import Network
from dsdq.policies.window.ways import ALONE, DRAFTED, FEATURES, OWN, WAYS
from dsdq.sim.awc.labels import label
from dsdq.sim.awc.lessons import Lessons, calculated, papers, simulated
from dsdq.sim.awc.watching import Fixed, Moments, watched

torch = pytest.importorskip("torch")

from dsdq.sim.awc import recipe  # noqa: E402 - it needs torch
from dsdq.sim.awc.training import Course, gain_loss, train, untrained  # noqa: E402

SEED = 4

torch.set_num_threads(1)  # products this small gain nothing from several


def regret(network: Network, lessons: Lessons) -> float:
    """How much slower than the best way, on average, are those that seem best."""
    lost = []
    for features, gains in zip(lessons.features, lessons.gains, strict=True):
        known = ~np.isnan(gains)
        taken = np.where(known, network.predict(features), -np.inf).argmax()
        lost.append(np.nanmax(gains) - gains[taken])
    return float(np.mean(lost))


def test_it_learns_from_formulas_which_way_is_the_best() -> None:
    lessons, others = calculated(SEED, 1000), calculated(SEED + 1, 200)
    network = untrained(lessons, 32, len(WAYS), SEED)
    losses = list(train(network, lessons, Course(100, 5e-3), SEED))
    assert losses[-1] < 0.5 * losses[0]
    trained = Network.checked(network.weights(), len(FEATURES), len(WAYS))
    constant = Network.checked(
        {name: value * (name != "out.weight") for name, value in network.weights().items()}
        | {"out.bias": np.nanmean(lessons.gains, axis=0)},
        len(FEATURES),
        len(WAYS),
    )
    assert regret(trained, others) < 0.5 * regret(constant, others)


def test_torch_and_numpy_say_the_same() -> None:
    lessons = calculated(SEED, 20)
    network = untrained(lessons, 16, len(WAYS), SEED)
    plain = Network.checked(network.weights(), len(FEATURES), len(WAYS))
    said = network(torch.from_numpy(lessons.features)).detach().numpy()
    assert np.stack([plain.predict(one) for one in lessons.features]) == pytest.approx(said, abs=1e-5)


def test_the_same_seed_trains_the_same_weights() -> None:
    def weights() -> dict[str, np.ndarray]:
        lessons = calculated(SEED, 50)
        network = untrained(lessons, 8, len(WAYS), SEED)
        assert len(list(train(network, lessons, Course(2, 1e-3), SEED))) == 2
        return network.weights()

    first, second = weights(), weights()
    assert all((first[name] == second[name]).all() for name in first)


def test_loss_counts_what_is_known_and_most_what_is_nearly_best() -> None:
    nan = float("nan")
    gains = torch.tensor([[1.0, 0.9, -3.0, nan]])

    def loss(*said: float) -> float:
        return float(gain_loss(torch.tensor([said]), gains))

    assert loss(1.0, 0.9, -3.0, 99.0) == pytest.approx(0.0, abs=0.01)
    assert loss(1.0, 0.9, -2.0, 0.0) < 0.1 * loss(0.9, 1.0, -3.0, 0.0)


def test_what_formulas_teach_leaves_out_what_may_not_be_done() -> None:
    lessons = calculated(SEED, 200)
    widest = np.exp(lessons.features[:, FEATURES.index("widest")]).round()
    windows = np.asarray([way.window for way in WAYS[:DRAFTED]])
    assert (np.isnan(lessons.gains[:, :DRAFTED]) == (windows[None] > widest[:, None])).all()
    assert lessons.gains[:, ALONE] == pytest.approx(0)
    own_known = lessons.features[:, FEATURES.index("own_known")] > 0
    assert (np.isnan(lessons.gains[:, OWN:]).all(axis=1) == ~own_known).all()


def test_worlds_teach_what_was_simulated_in_units_of_what_a_device_saw() -> None:
    one = next(found for number in range(30) if (found := label(SEED, number)).world.sessions == 1)
    taught = Moments(one, watched(one.world, lambda _: Fixed(WAYS[ALONE])))
    lessons, windows = simulated([taught]), papers([taught])
    assert len(lessons) == len(windows) == len(taught.notes)
    gains, note = lessons.gains[-1], taught.notes[-1]
    assert set(np.flatnonzero(~np.isnan(gains[:OWN]))) == {way for way in one.rates if way < OWN}
    assert gains[ALONE] == pytest.approx(np.log(one.rates[ALONE] * note.unit_ms / 1000), abs=1e-5)
    flat = {way: rate for way, rate in one.rates.items() if WAYS[way].depth == 1 and WAYS[way].window <= 12}
    best = max(flat, key=lambda way: flat[way])
    assert windows.gains[0] == (WAYS[best].window if best < ALONE else 0)


def test_a_tiny_run_writes_weights_that_work_and_their_card(tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    said: list[str] = []
    tiny = recipe.Recipe(
        scenarios=8, seed=SEED, held_out=0.25, calculated=100, width=8, first=Course(3, 1e-3), second=Course(2, 1e-3)
    )
    card = recipe.make(tiny, out, tmp_path / "labels.jsonl", 1, said.append)
    assert json.loads(out.with_suffix(".json").read_text()) == json.loads(json.dumps(card))
    assert awc.trained(out).predict(np.zeros(len(FEATURES), np.float32)).shape == (len(WAYS),)
    assert card["policies"]["awc"]["bytes"] == out.stat().st_size
    assert card["gap_to_oracle"]["awc"]["all"]["worlds"] == 2
    assert {"awc", "awc:paper", "optimal", "static:4"} == set(card["gap_to_oracle"])
    assert any("8 of 8 worlds labelled" in line for line in said)
