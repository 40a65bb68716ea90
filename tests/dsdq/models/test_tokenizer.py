"""Encode as transformers does, decode piece by piece, and tell vocabularies apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from dsdq.errors import ModelError
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.tiny import make_tiny, make_tokenizer

TEXTS = ["def f(x):\n    return x", "", "Zwölf Boxkämpfer 🦊 素早い", "<s> and </s> as text", "  \n\n\t"]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_ids_are_those_of_transformers(tiny: Callable[[str], Path], architecture: str) -> None:
    folder = tiny(architecture)
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.load(folder)
    for text in TEXTS:
        assert list(ours.encode(text)) == theirs(text)["input_ids"], text


@pytest.mark.parametrize("text", [text for text in TEXTS if "<s>" not in text])
def test_pieces_put_together_are_the_text_and_characters_are_never_cut(tiny: Callable[[str], Path], text: str) -> None:
    tokenizer = Tokenizer.load(tiny("gpt2"))
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_fingerprints_are_equal_for_equal_vocabularies_and_differ_otherwise(tmp_path: Path) -> None:
    for name, options in (("a", {}), ("b", {}), ("bos", {"bos": True}), ("smaller", {"vocab_size": 300})):
        (tmp_path / name).mkdir()
        make_tokenizer(tmp_path / name, **options)  # type: ignore[arg-type]
    prints = {name: Tokenizer.load(tmp_path / name).fingerprint for name in ("a", "b", "bos", "smaller")}
    assert prints["a"] == prints["b"]
    assert prints["a"] != prints["smaller"]


def test_a_folder_without_or_with_a_broken_tokenizer_says_so(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_broken_configuration_says_so(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps([1]))
    with pytest.raises(ModelError, match="JSON object"):
        Tokenizer.load(tmp_path)
