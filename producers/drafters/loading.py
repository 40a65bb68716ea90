"""From a name to a drafter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dsdq.drafting import Drafter
from dsdq.errors import ConfigError, DsdqError, ModelError
from dsdq.models.names import resolve
from producers.drafters.llama import LlamaDrafter, serves
from producers.drafters.ngram import NgramDrafter
from producers.drafters.none import NoDrafter
from producers.drafters.random import RandomDrafter
from producers.drafters.recorded import PREFIX as RECORDED
from producers.drafters.recorded import RecordedDrafter

WITHOUT_MODEL: dict[str, Callable[[], Drafter]] = {"none": NoDrafter, "ngram": NgramDrafter, "random": RandomDrafter}
TRANSFORMERS = "transformers:"


def load_drafter(name: str) -> Drafter:
    """Load a drafter: ``none``, ``ngram``, ``random``, ``hash:0.8``, or a model by name or path.

    A Llama in a local folder runs on dsdq's own numpy step, several times faster than a framework on small models and
    without torch; every other model runs on transformers, and so does a name with ``transformers:`` before it.

    Raises:
        ConfigError: the model needs transformers, which is not installed, or the numbers behind ``hash:`` are none.
        ModelError: the model cannot be loaded.
    """
    if name in WITHOUT_MODEL:
        return WITHOUT_MODEL[name]()
    if name.startswith(RECORDED):
        return RecordedDrafter.named(name)
    model = model_of(name)
    folder = resolve(model)
    if model == name and isinstance(folder, Path) and serves(folder):
        return _loaded(model, lambda: LlamaDrafter(folder))
    try:
        from producers.drafters.hugging_face import HuggingFaceDrafter  # noqa: PLC0415 - needs torch
    except ModuleNotFoundError as error:
        msg = f"draft model {model!r}: expected {error.name} to be installed; install dsdq[torch], or use a small Llama"
        raise ConfigError(msg) from error
    return _loaded(model, lambda: HuggingFaceDrafter(model, folder))


def _loaded(model: str, load: Callable[[], Drafter]) -> Drafter:
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
    return name.removeprefix(TRANSFORMERS)
