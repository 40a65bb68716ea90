"""Weights in fewer bits: the kinds that are offered when a model is loaded, and what a model's own kind is called.

Only kinds under which a token's logits do not depend on the tokens beside it are offered: rows of many sessions share
one forward, and nobody's text may depend on who else is in it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
import transformers

from dsdq.errors import ModelError

NONE = "none"
# Bytes that one weight takes, and the packages that transformers needs for it.
_KINDS: dict[str, tuple[float, tuple[str, ...]]] = {
    "torchao-int8": (1.0, ("torchao",)),
    "bnb-8bit": (1.0, ("bitsandbytes", "accelerate")),
    "bnb-4bit": (0.5, ("bitsandbytes", "accelerate")),
}
QUANTIZATIONS = (NONE, *_KINDS)

_SMALLEST_WEIGHT_BYTES = 0.125  # a model's own quantisation is not looked into: no format in use has less than a bit


def check(kind: str) -> None:
    """Return when weights can be quantised to ``kind`` here.

    Raises:
        ModelError: there is no such kind, or a package that it needs is not installed.
    """
    if kind not in QUANTIZATIONS:
        msg = f"quantization {kind!r}: expected one of {', '.join(QUANTIZATIONS)}"
        raise ModelError(msg)
    missing = [] if kind == NONE else [package for package in _KINDS[kind][1] if find_spec(package) is None]
    if missing:
        msg = f"quantization {kind!r}: needs {' and '.join(missing)}, not installed; install 'dsdq[torch,quantized]'"
        raise ModelError(msg)


def settle(name: str, config: Any, kind: str) -> str:  # noqa: ANN401 - transformers is untyped
    """Return what the weights will be: ``kind``, or the kind that the model's own configuration brings.

    Raises:
        ModelError: both are given; weights are quantised once.
    """
    own = own_settings(config)
    if own is None:
        return kind
    method = str(own.get("quant_method", "of no named kind")).replace("_", "-")
    if not _is_known(own):
        msg = f"model {name!r}: its weights are quantized ({method}) in a way that transformers cannot load"
        raise ModelError(msg)
    if kind != NONE:
        msg = f"model {name!r}: is already quantized ({method}); expected quantization 'none', got {kind!r}"
        raise ModelError(msg)
    if "llm_int8_threshold" in own:
        own["llm_int8_threshold"] = 0.0  # see for_loading
    return method


def _is_known(own: dict[str, Any]) -> bool:
    """Ask first: transformers would leave out a quantisation that it does not know and read the weights as plain."""
    if not own.keys() & {"quant_method", "load_in_8bit", "load_in_4bit"}:
        return False
    from transformers.quantizers.auto import AutoHfQuantizer  # noqa: PLC0415 - a second, which few models need

    known: bool = AutoHfQuantizer.supports_quant_method(own)  # type: ignore[no-untyped-call]
    return known


def own_settings(config: Any) -> dict[str, Any] | None:  # noqa: ANN401 - transformers is untyped
    """Return the quantisation settings in a model's configuration, as they are there, to be changed in place."""
    for place in (config, config.get_text_config(decoder=True)):
        own = getattr(place, "quantization_config", None)
        if isinstance(own, dict):
            return own
    return None


def for_loading(kind: str, dtype: torch.dtype) -> Any:  # noqa: ANN401 - transformers is untyped
    """Return the ``quantization_config`` that transformers takes for one of :data:`QUANTIZATIONS`, None for "none"."""
    if kind == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig  # noqa: PLC0415 - an optional package

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    make: Any = transformers.BitsAndBytesConfig
    if kind == "bnb-8bit":
        # Any other threshold picks outlier columns by all rows of the batch (LLM.int8(), arXiv 2208.07339): who else is
        # in it would then change a session's text.
        return make(load_in_8bit=True, llm_int8_threshold=0.0)
    if kind == "bnb-4bit":
        return make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return None


def weight_bytes(kind: str, dtype: torch.dtype) -> float:
    """Return the least bytes that one weight takes in memory."""
    if kind == NONE:
        return float(dtype.itemsize)
    return _KINDS[kind][0] if kind in _KINDS else _SMALLEST_WEIGHT_BYTES
