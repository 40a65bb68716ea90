"""A Llama in numpy: the draft model's step without a framework.

A draft model is so small that a framework's own work per layer outweighs the arithmetic. Everything that can be done
once is done at loading (:mod:`dsdq.models.llama`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from dsdq.errors import ModelError
from dsdq.models.llama import Floats, Layer, LlamaWeights, is_plain
from dsdq.models.tokenizer import Tokenizer
from dsdq.threads import one_blas_thread
from producers.drafters.stepping import ModelDrafter

WEIGHTS = "model.safetensors"
FIRST_CAPACITY = 256
_DTYPES = {"F32": "<f4", "F16": "<f2"}


class LlamaDrafter(ModelDrafter):
    """A Llama's folder (safetensors, config, tokenizer), loaded for drafting."""

    def __init__(self, folder: Path) -> None:
        """Load it.

        Raises:
            ModelError: weights are missing or of a kind that is not read here.
        """
        super().__init__(Tokenizer.load(folder))
        try:
            self._weights = LlamaWeights.fold(_config(folder), read_weights(folder / WEIGHTS))
        except KeyError as error:
            msg = f"draft model {str(folder)!r}: expected the weights of a Llama, {error} is missing"
            raise ModelError(msg) from error

    def around(self) -> AbstractContextManager[object]:
        """Return the process's lock on one BLAS thread."""
        return one_blas_thread()

    def stepper(self) -> LlamaStepper:
        """Return the model with a cache of its own."""
        return LlamaStepper(self._weights)


class LlamaStepper:
    """The model over one text's KV cache: keys and values ``[layers, kv_heads, capacity, dim]``, doubled as needed."""

    def __init__(self, weights: LlamaWeights) -> None:
        self._weights, self._shape = weights, weights.shape
        self._keys = self._reserve(FIRST_CAPACITY)
        self._values = self._reserve(FIRST_CAPACITY)

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        return self._shape.context_tokens

    def feed(self, tokens: Sequence[int], start: int) -> Floats:
        """Put ``tokens`` at the positions from ``start`` on; return the logits ``[vocab]`` behind the last one."""
        weights, end = self._weights, start + len(tokens)
        if end > self._keys.shape[2]:
            self._grow(end)
        x = weights.embedding[np.asarray(tokens)]
        rotation = weights.rotations[start:end, None]
        for number, layer in enumerate(weights.layers):
            x = x + self._attend(number, layer, weights.normed(x), rotation, start) @ layer.out
            x = weights.fed_forward(layer, x)
        logits: Floats = weights.normed(x[-1]) @ weights.head
        return logits

    def _attend(self, number: int, layer: Layer, x: Floats, rotation: NDArray[np.complex64], start: int) -> Floats:
        shape, count = self._shape, len(x)
        end = start + count
        query, key, value = self._weights.mixed(layer, x, rotation)
        keys, values = self._keys[number], self._values[number]
        keys[:, start:end] = key.swapaxes(0, 1)
        values[:, start:end] = value.swapaxes(0, 1)
        groups = shape.heads // shape.kv_heads
        by_group = query.reshape(count, shape.kv_heads, groups, shape.head_dim)
        queries = by_group.transpose(1, 2, 0, 3).reshape(shape.kv_heads, groups * count, shape.head_dim)
        scores = queries @ keys[:, :end].swapaxes(1, 2)
        if count > 1:
            hidden = np.arange(end) > np.arange(start, end)[:, None]
            scores = np.where(np.tile(hidden, (groups, 1)), np.float32(-np.inf), scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        read = (weights @ values[:, :end]).reshape(shape.kv_heads, groups, count, shape.head_dim)
        mixed_heads: Floats = read.transpose(2, 0, 1, 3).reshape(count, -1)
        return mixed_heads

    def _reserve(self, capacity: int) -> Floats:
        shape = self._shape
        return np.zeros((shape.layers, shape.kv_heads, capacity, shape.head_dim), dtype=np.float32)

    def _grow(self, least: int) -> None:
        capacity = min(max(2 * self._keys.shape[2], least), max(self._shape.context_tokens, least))
        for name in ("_keys", "_values"):
            old, new = getattr(self, name), self._reserve(capacity)
            new[:, :, : old.shape[2]] = old
            setattr(self, name, new)


def serves(folder: Path) -> bool:
    """Say whether the model in ``folder`` is one that this module computes: a plain Llama in one safetensors file."""
    if not (folder / "config.json").is_file() or not (folder / WEIGHTS).is_file():
        return False
    return is_plain(_config(folder))


def read_weights(file: Path) -> dict[str, Floats]:
    """Return every tensor of a safetensors file as float32; numpy knows no bfloat16, so its bits are widened here.

    Raises:
        ModelError: the file cannot be read, or holds another kind of number.
    """
    try:
        found = safetensors.deserialize(file.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, safetensors.SafetensorError) as error:
        msg = f"draft model: expected safetensors in {file.name}: {error}"
        raise ModelError(msg) from error
    return {name: _widened(name, tensor).reshape(tensor["shape"]) for name, tensor in found}


def _widened(name: str, tensor: dict[str, Any]) -> Floats:
    if tensor["dtype"] == "BF16":
        return (np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if tensor["dtype"] not in _DTYPES:
        msg = f"draft model: expected float32, float16 or bfloat16 weights, {name} is {tensor['dtype']}"
        raise ModelError(msg)
    return np.frombuffer(tensor["data"], dtype=_DTYPES[tensor["dtype"]]).astype(np.float32)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"draft model {str(folder)!r}: expected JSON in config.json: {error}"
        raise ModelError(msg) from error
    return config
