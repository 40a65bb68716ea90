from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.commands.sim import awc_train, sim
from dsdq.errors import ConfigError


def test_it_is_a_command() -> None:
    assert "awc-train" in {command.name for command in sim.registered_commands}


def test_nowhere_to_write_is_said_before_an_hour_of_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file in a folder that is there"):
        awc_train(out=tmp_path / "nowhere" / "awc.safetensors")


def test_weights_are_not_written_where_their_card_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out: expected a file that ends in \.safetensors"):
        awc_train(out=tmp_path / "awc.json")


@pytest.mark.usefixtures("bare")
def test_without_torch_it_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"install dsdq\[torch\]"):
        awc_train()
