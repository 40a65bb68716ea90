"""Models on ONNX Runtime and llama.cpp draft what our own step of the same weights drafts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import ConfigError, DsdqError, ModelError
from dsdq.models.names import resolve
from dsdq.models.tokenizer import Tokenizer
from producers.drafters import load_drafter
from producers.drafters.stepping import ModelDrafter
from tests.conftest import Export

CONTRACT = Contract("t", "p", "s", "m", "f", seed=5)
DRAFT = "builtin/draft"
TOKENIZER = Tokenizer.load(DRAFT)
TEXT = "def area(width, height):\n    return "
KINDS = ("onnx", "gguf")
NEAR = {"onnx": 1e-3, "gguf": 0.1}  # llama.cpp keeps its cache in 16 bits


def model(name: str) -> ModelDrafter:
    loaded = load_drafter(name)
    assert isinstance(loaded, ModelDrafter)
    return loaded


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_our_own_step_however_the_text_is_fed_and_taken_back(export: Export, kind: str) -> None:
    ids = TOKENIZER.encode(Path(__file__).read_text())[:700]
    own, theirs = model(DRAFT).stepper(), model(export(kind)).stepper()
    for end, start in ((600, 0), (601, 600), (350, 340), (700, 350)):
        np.testing.assert_allclose(
            theirs.feed(ids[start:end], start), own.feed(ids[start:end], start), rtol=0, atol=NEAR[kind]
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "chosen", [Sampling(), Sampling(0.8), Sampling(0.8, top_k=20, repetition_penalty=1.3)], ids=str
)
def test_drafts_are_those_of_our_own_step(export: Export, kind: str, chosen: Sampling) -> None:
    terms = replace(CONTRACT, sampling=chosen)
    own, theirs = (load_drafter(name).start(terms, TOKENIZER) for name in (DRAFT, export(kind)))
    text = TOKENIZER.encode(TEXT)
    for correction in (7, 8, 9):
        drafted = own.propose(text, 6).tokens
        assert theirs.propose(text, 6).tokens == drafted
        text += [*drafted[:3], correction]


@pytest.mark.parametrize("kind", KINDS)
def test_two_sessions_of_one_model_have_caches_of_their_own(export: Export, kind: str) -> None:
    drafter, text = load_drafter(export(kind)), TOKENIZER.encode(TEXT)
    alone = drafter.start(CONTRACT, TOKENIZER).propose(text, 6)
    one, other = drafter.start(CONTRACT, TOKENIZER), drafter.start(CONTRACT, TOKENIZER)
    other.propose(text[3:], 6)
    assert one.propose(text, 6) == alone


@pytest.mark.parametrize("kind", KINDS)
def test_under_the_rejection_rule_every_token_comes_with_its_law(export: Export, kind: str) -> None:
    terms = replace(CONTRACT, rule=Rule.REJECTION, sampling=Sampling(1.0), trusted=True)
    proposal = load_drafter(export(kind)).start(terms, TOKENIZER).propose(TOKENIZER.encode(TEXT), 4)
    assert proposal.law is not None
    assert len(proposal.law.ids) == len(proposal.tokens) <= 4


def test_an_exported_model_is_known_by_its_tokenizer(export: Export) -> None:
    assert load_drafter(export("onnx")).fingerprint == TOKENIZER.fingerprint


def test_a_gguf_vocabulary_is_compared_id_by_id(export: Export, tiny: Callable[[str], Path]) -> None:
    drafter, other = model(export("gguf")), Tokenizer.load(tiny("gpt2"))
    assert drafter.shares(TOKENIZER)
    assert tuple(drafter.vocabulary.spellings) == TOKENIZER.spellings
    with pytest.raises(ModelError, match="retokenise:"):
        drafter.start(CONTRACT, other)


def test_a_gguf_model_drafts_for_a_target_with_another_tokenizer(export: Export, tiny: Callable[[str], Path]) -> None:
    target = Tokenizer.load(tiny("gpt2"))
    drafting = load_drafter(f"retokenise:{export('gguf')}").start(CONTRACT, target)
    own = load_drafter(f"retokenise:{DRAFT}").start(CONTRACT, target)
    text = target.encode("def area(width):\n    x = 1\n    return")
    assert len(drafting.propose(text, 6).tokens) == 6
    assert own.propose(text, 6).tokens


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_or_cannot_be_read_is_refused_by_name(export: Export, kind: str, tmp_path: Path) -> None:
    export(kind)
    with pytest.raises(DsdqError, match="nowhere"):
        load_drafter(f"{kind}:{tmp_path / 'nowhere'}")
    broken = tmp_path / "broken"
    if kind == "onnx":
        broken.mkdir()
        for name in ("config.json", "tokenizer.json"):
            (broken / name).write_bytes((Path(str(resolve(DRAFT))) / name).read_bytes())
        with pytest.raises(ModelError, match=r"model\.onnx"):
            load_drafter(f"onnx:{broken}")
        (broken / "model.onnx").write_bytes(b"none")
    else:
        broken.write_bytes(b"none")
    with pytest.raises(ModelError, match="broken"):
        load_drafter(f"{kind}:{broken}")


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnxruntime"), ("gguf", "llama_cpp")])
def test_without_its_package_it_says_which_extra_to_install(
    kind: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("onnx", "llama_cpp"):
        monkeypatch.delitem(sys.modules, f"producers.drafters.{module}", raising=False)
    with pytest.raises(ConfigError, match=r"install dsdq\["):
        load_drafter(f"{kind}:{tmp_path}")
