"""The vectors of PROTOCOL.md: what another implementation must produce and read, byte for byte."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsdq import noise, wire
from dsdq.contract import Contract
from dsdq.errors import WireError

FOLDER = Path(__file__).parents[2] / "vectors"
ACCEPTED = json.loads((FOLDER / "messages.json").read_text())
REFUSED = json.loads((FOLDER / "refused.json").read_text())
NOISE = json.loads((FOLDER / "noise.json").read_text())


def plain(value: Any) -> Any:
    """Return a message as JSON has it: bytes as hex, arrays and tuples as lists, nothing else changed."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    return [plain(one) for one in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("vector", ACCEPTED, ids=[vector["name"] for vector in ACCEPTED])
def test_a_message_of_the_vectors(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    message = wire.unpack_contract(data) if vector["type"] == "contract" else wire.unpack(data)
    assert type(message).__name__.lower() == vector["type"]
    assert plain(message) == vector["fields"]
    assert (wire.pack_contract(message) if isinstance(message, Contract) else wire.pack(message)) == data


@pytest.mark.parametrize("vector", REFUSED, ids=[vector["name"] for vector in REFUSED])
def test_bytes_of_the_vectors_that_are_no_message(vector: dict[str, Any]) -> None:
    read = wire.unpack_contract if vector.get("type") == "contract" else wire.unpack
    with pytest.raises(WireError):
        read(bytes.fromhex(vector["bytes"]))


def test_every_kind_of_message_has_a_vector() -> None:
    kinds = {layout.title for layout in wire._LAYOUTS} | {"contract"}
    assert {vector["type"] for vector in ACCEPTED} == kinds


@pytest.mark.parametrize("vector", NOISE, ids=str)
def test_the_noise_of_the_vectors(vector: dict[str, Any]) -> None:
    positions, tokens = np.array([vector["position"]]), np.array([vector["token"]])
    arguments = (vector["seed"], positions, tokens, vector["choice"])
    assert int(noise.words(*arguments, noise.Purpose.GUMBEL)[0, 0]) == vector["word"]
    assert noise.gumbel(*arguments)[0, 0] == pytest.approx(vector["gumbel"], rel=1e-14)


def test_the_protocol_lists_every_error_code_and_no_other() -> None:
    text = (FOLDER.parents[1] / "PROTOCOL.md").read_text()
    table = text.split("## 6.")[1].split("## 7.")[0]
    listed = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    assert listed == set(wire.ErrorCode)
