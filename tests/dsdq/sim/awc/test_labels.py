from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.policies.window.ways import ALONE, OWN
from dsdq.sim.awc import labels
from dsdq.sim.awc.labels import Labelled, flow, label, labelled, pace
from dsdq.sim.run import simulate


def test_labels_are_the_same_whenever_they_are_made() -> None:
    assert label(5, 2) == label(5, 2)
    assert label(5, 2).world != label(5, 3).world != label(6, 3).world


def test_a_label_is_what_a_simulation_of_the_way_comes_to() -> None:
    one = label(5, 0)
    record = simulate(one.world.scenario("target-only"))
    assert one.rates[ALONE] == flow(record) > 0


def test_a_flow_leaves_out_what_a_text_waits_for_its_first_verdict() -> None:
    world = next(one.world for number in range(30) if (one := label(5, number)).world.sessions == 1)
    far, near = (
        simulate(replace(world, rtt_ms=rtt_ms, jitter_ms=0.0).scenario("target-only")) for rtt_ms in (400.0, 2.0)
    )
    assert flow(far) == pytest.approx(flow(near), rel=0.04)
    assert pace(far) < 0.93 * pace(near)


def test_no_neighbour_of_the_best_way_is_better() -> None:
    one = next(found for number in range(20) if (found := label(8, number)).best < ALONE)
    assert set(labels._beside(one.best)) <= set(one.rates)


def test_the_verifiers_ways_are_labelled_where_it_has_a_drafter() -> None:
    for number in range(6):
        one = label(9, number)
        assert any(way >= OWN for way in one.rates) is (one.world.own_draft_ms is not None)


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"seed": 5} | label(5, number).to_json()) + "\n" for number in (0, 2)))
    made: list[int] = []

    def here(seed: int, numbers: list[int], _: int) -> list[Labelled]:
        made.extend(numbers)
        return [label(seed, number) for number in numbers]

    monkeypatch.setattr(labels, "_label_all", here)
    found = labelled(path, 5, 4, 1)
    assert made == [1, 3]
    assert [one.number for one in found] == [0, 1, 2, 3]
    assert labelled(path, 5, 4, 1) == found
    assert made == [1, 3]


def test_a_torn_last_line_is_labelled_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    whole = labelled(path, 5, 2, 1)
    path.write_bytes(path.read_bytes()[:-9])
    assert labelled(path, 5, 2, 1) == whole
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ['{"seed": 4}', "no json", "[]"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ConfigError, match="expected labels of awc-train"):
        labelled(path, 5, 4, 1)


def test_labels_of_no_seed_are_none(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(label(5, 0).to_json()) + "\n")
    with pytest.raises(ConfigError, match="expected labels of awc-train"):
        labelled(path, 5, 4, 1)


def test_a_file_of_another_simulator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    kept = label(5, 0)
    other = replace(kept, rates={way: rate * 1.01 for way, rate in kept.rates.items()})
    path.write_text(json.dumps({"seed": 5} | other.to_json()) + "\n")
    with pytest.raises(ConfigError, match="labels of this simulator, got others of world 0"):
        labelled(path, 5, 4, 1)


def test_a_file_of_another_seed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"seed": 4} | label(4, 0).to_json()) + "\n")
    with pytest.raises(ConfigError, match="labels of seed 5, got seed 4"):
        labelled(path, 5, 4, 1)
