from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.errors import ModelError
from dsdq.models.names import resolve


def test_a_folder_is_itself_and_a_hub_name_stays_a_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == tmp_path
    assert resolve("organisation/model-1.5b") == "organisation/model-1.5b"


@pytest.mark.parametrize("name", ["builtin/none", "no/such/path/at/all", "/nowhere", "", "a b"])
def test_what_can_be_no_model_is_refused_with_what_was_expected(name: str) -> None:
    with pytest.raises(ModelError, match="expected"):
        resolve(name)


def test_a_file_and_an_empty_folder_are_no_models(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="got a file"):
        resolve(str(file))
    with pytest.raises(ModelError, match=r"config\.json"):
        resolve(str(tmp_path))
