"""From a name to a drafter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from dsdq.drafting import Drafter
from dsdq.errors import ConfigError, DsdqError, ModelError
from dsdq.models.names import resolve
from dsdq.testing.hashed import HASHED
from producers.drafters.llama import LlamaDrafter, serves
from producers.drafters.ngram import NgramDrafter
from producers.drafters.none import NoDrafter
from producers.drafters.random import RandomDrafter
from producers.drafters.recorded import RecordedDrafter
from producers.drafters.retokenising import RetokenisingDrafter
from producers.drafters.stepping import ModelDrafter

WITHOUT_MODEL: dict[str, Callable[[], Drafter]] = {"none": NoDrafter, "ngram": NgramDrafter, "random": RandomDrafter}
# While it builds a model, transformers makes torch's tensors without data in every thread of the process.
_ONE_AT_A_TIME = threading.Lock()
RETOKENISE, TRANSFORMERS, ONNX, GGUF = "retokenise:", "transformers:", "onnx:", "gguf:"


def load_drafter(name: str) -> Drafter:
    """Load a drafter: ``none``, ``ngram``, ``random``, ``hash:0.8``, or a model by name or path.

    A Llama in a local folder runs on dsdq's own numpy step, several times faster than a framework on small models and
    without torch; every other model runs on transformers, and so does a name with ``transformers:`` before it. With
    ``onnx:`` before it, a folder with an exported model runs on ONNX Runtime; with ``gguf:``, a file on llama.cpp.
    ``retokenise:`` before any of them lets a model draft for a target with another tokenizer.

    Raises:
        ConfigError: what runs the model is not installed, or the numbers behind ``hash:`` are none.
        ModelError: the model cannot be loaded.
    """
    if name in WITHOUT_MODEL:
        return WITHOUT_MODEL[name]()
    if name.startswith(HASHED):
        return RecordedDrafter.named(name)
    if name.startswith(RETOKENISE):
        return RetokenisingDrafter(_model(name.removeprefix(RETOKENISE)))
    return _model(name)


def _model(name: str) -> ModelDrafter:
    model = model_of(name)
    if name.startswith(GGUF):
        return _loaded(model, lambda: _llama_cpp(Path(model)))
    folder = resolve(model)
    if name.startswith(ONNX):
        return _loaded(model, lambda: _onnx(model, folder))
    if not name.startswith(TRANSFORMERS) and isinstance(folder, Path) and serves(folder):
        return _loaded(model, lambda: LlamaDrafter(folder))
    return _loaded(model, lambda: _hugging_face(model, folder))


def _hugging_face(model: str, source: Path | str) -> ModelDrafter:
    try:
        from producers.drafters.hugging_face import HuggingFaceDrafter  # noqa: PLC0415 - needs torch
    except ModuleNotFoundError as error:
        msg = f"draft model {model!r}: expected {error.name} to be installed; install dsdq[torch], or use a small Llama"
        raise ConfigError(msg) from error
    with _ONE_AT_A_TIME:
        return HuggingFaceDrafter(model, source)


def _onnx(model: str, source: Path | str) -> ModelDrafter:
    if not isinstance(source, Path):
        msg = f"draft model {model!r}: expected a local folder with an exported model, got what may be a hub's name"
        raise ModelError(msg)
    try:
        from producers.drafters.onnx import OnnxDrafter  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = f"draft model {model!r}: expected {error.name} to be installed; install dsdq[onnx]"
        raise ConfigError(msg) from error
    return OnnxDrafter(source)


def _llama_cpp(file: Path) -> ModelDrafter:
    try:
        from producers.drafters.llama_cpp import LlamaCppDrafter  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = f"draft model {str(file)!r}: expected {error.name} to be installed; install dsdq[llama-cpp]"
        raise ConfigError(msg) from error
    return LlamaCppDrafter(file)


def _loaded(model: str, load: Callable[[], ModelDrafter]) -> ModelDrafter:
    try:
        return load()
    except DsdqError:
        raise
    except Exception as error:  # the many kinds that configurations, safetensors, transformers and the hub give rise to
        first_line = next(iter(str(error).strip().splitlines()), "")
        msg = f"draft model {model!r}: cannot be loaded: {type(error).__name__}: {first_line}"
        raise ModelError(msg) from error


def model_of(name: str) -> str:
    """Return the model, hence the tokenizer, that a drafter's name stands for."""
    name = name.removeprefix(RETOKENISE)
    for prefix in (TRANSFORMERS, ONNX, GGUF):
        name = name.removeprefix(prefix)
    return name
