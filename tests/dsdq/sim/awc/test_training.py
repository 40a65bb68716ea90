from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dsdq.policies.window import awc
from dsdq.policies.window.network import Floats, Network
from dsdq.policies.window.ways import ALONE, BASIS, CORRECTIONS, FEATURES, OWN, SHAPES, WAYS
from dsdq.sim.awc.labels import label
from dsdq.sim.awc.lessons import Lessons, papers, simulated
from dsdq.sim.awc.watching import Fixed, Moments, watched

torch = pytest.importorskip("torch")

from dsdq.sim.awc import recipe  # noqa: E402 - it needs torch
from dsdq.sim.awc.training import Course, Weighing, train, untrained  # noqa: E402

SEED = 4

torch.set_num_threads(1)  # products this small gain nothing from several


def made_up(seed: int, count: int) -> Lessons:
    """Formulas that think the better of drafting the more sessions share a pass, and of all else as it is."""
    luck = np.random.default_rng(seed)
    features = luck.normal(size=(count, len(FEATURES))).astype(np.float32)
    truth = luck.normal(3, 0.2, size=(count, len(WAYS))).astype(np.float32)
    truth[:, ALONE:] += 0.7
    return Lessons(features, truth + 2 * np.abs(features[:, 7:8]) * BASIS[:, 0], truth)


def regret(said: Floats, lessons: Lessons) -> float:
    """How much slower than the best way, on average, are those that seem best."""
    taken = lessons.truth[np.arange(len(said)), said.argmax(axis=1)]
    return float((lessons.truth.max(axis=1) - taken).mean())


def test_it_begins_as_the_formulas_and_learns_where_they_are_wrong() -> None:
    lessons, others = made_up(SEED, 1000), made_up(SEED + 1, 200)
    network = untrained(lessons, 32, len(CORRECTIONS), SEED)
    assert not network(torch.from_numpy(others.features)).any()
    losses = list(train(network, lessons, BASIS, Course(40, 5e-3), SEED, Weighing().loss))
    assert losses[-1] < 0.5 * losses[0]
    trained = Network.checked(network.weights(), len(FEATURES), len(CORRECTIONS))
    said = others.formulas + np.stack([BASIS @ trained.predict(one) for one in others.features])
    assert regret(said, others) < 0.5 * regret(others.formulas, others)


def test_differences_between_windows_have_to_be_worth_it() -> None:
    lessons = made_up(SEED, 300)

    def bent(held: Floats | None) -> float:
        network = untrained(lessons, 16, len(CORRECTIONS), SEED)
        list(train(network, lessons, BASIS, Course(10, 5e-3), SEED, Weighing().loss, held))
        said = network(torch.from_numpy(lessons.features)).detach().numpy()
        return float(np.abs(said * SHAPES).mean())

    assert bent(SHAPES) < 0.5 * bent(None)


def test_torch_and_numpy_say_the_same() -> None:
    lessons = made_up(SEED, 20)
    network = untrained(lessons, 16, len(CORRECTIONS), SEED)
    torch.nn.init.normal_(network.out.weight)
    plain = Network.checked(network.weights(), len(FEATURES), len(CORRECTIONS))
    said = network(torch.from_numpy(lessons.features)).detach().numpy()
    assert np.abs(said).max() > 0.1
    assert np.stack([plain.predict(one) for one in lessons.features]) == pytest.approx(said, abs=1e-5)


def test_the_same_seed_trains_the_same_weights() -> None:
    def weights() -> dict[str, np.ndarray]:
        lessons = made_up(SEED, 50)
        network = untrained(lessons, 8, len(CORRECTIONS), SEED)
        assert len(list(train(network, lessons, BASIS, Course(2, 1e-3), SEED, Weighing().loss))) == 2
        return network.weights()

    first, second = weights(), weights()
    assert all((first[name] == second[name]).all() for name in first)


def test_loss_counts_what_is_known_and_most_what_is_nearly_best() -> None:
    nan = float("nan")
    truth = torch.tensor([[1.0, 0.9, -3.0, nan]])

    def loss(*said: float) -> float:
        return float(Weighing().loss(torch.tensor([said]), truth))

    assert loss(1.0, 0.9, -3.0, 99.0) == pytest.approx(0.0, abs=0.01)
    assert loss(1.0, 0.9, -2.0, 0.0) < 0.1 * loss(0.9, 1.0, -3.0, 0.0)


def test_worlds_teach_what_was_simulated_beside_what_formulas_made_of_it() -> None:
    one = next(found for number in range(30) if (found := label(SEED, number)).world.sessions == 1)
    taught = Moments(one, watched(one.world, lambda _: Fixed(WAYS[ALONE])))
    lessons, windows = simulated([taught]), papers([taught])
    assert len(lessons) == len(windows) == len(taught.notes)
    truth = lessons.truth[-1]
    assert set(np.flatnonzero(~np.isnan(truth[:OWN]))) == {way for way in one.rates if way < OWN}
    assert truth[ALONE] == pytest.approx(np.log(one.rates[ALONE]), abs=1e-5)
    assert lessons.formulas[-1][ALONE] == pytest.approx(truth[ALONE], abs=0.1)
    known = (way for way in one.rates if way <= ALONE and WAYS[way].depth == 1 and WAYS[way].window <= 12)
    flat = {way: one.rates[way] for way in known}
    best = max(flat, key=lambda way: flat[way])
    assert windows.truth[0] == (WAYS[best].window if best < ALONE else 0)


def test_a_tiny_run_writes_weights_that_work_and_their_card(tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    said: list[str] = []
    tiny = recipe.Recipe(scenarios=8, seed=SEED, held_out=0.25, width=8, ours=Course(3, 1e-3), paper=Course(3, 1e-3))
    card = recipe.make(tiny, out, tmp_path / "labels.jsonl", 1, said.append)
    assert json.loads(out.with_suffix(".json").read_text()) == json.loads(json.dumps(card))
    assert awc.trained(out).predict(np.zeros(len(FEATURES), np.float32)).shape == (len(CORRECTIONS),)
    assert card["policies"]["awc"]["bytes"] == out.stat().st_size
    assert card["gap_to_oracle"]["awc"]["all"]["worlds"] == 2
    assert {"awc", "awc:paper", "optimal", "static:4"} == set(card["gap_to_oracle"])
    assert any("8 of 8 worlds labelled" in line for line in said)


def test_what_is_shipped_was_made_as_the_command_makes_it() -> None:
    made = json.loads(awc.WEIGHTS.with_suffix(".json").read_text())["recipe"]
    assert made == json.loads(json.dumps(asdict(recipe.Recipe(scenarios=made["scenarios"], seed=made["seed"]))))
