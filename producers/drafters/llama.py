"""A Llama in numpy: the draft model's step without a framework.

A draft model is so small that a framework's own work per layer outweighs the arithmetic. Everything that can be done
once
is done at loading: norm weights and the attention scale are folded into the matrices that follow, siblings are joined
into one product, and the dimensions of queries and keys are reordered so that the rotary embedding (Su et al., arXiv
2104.09864) is one multiplication of complex numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from dsdq.errors import ModelError
from dsdq.models.tokenizer import Tokenizer
from dsdq.threads import one_blas_thread
from producers.drafters.stepping import ModelDrafter

Floats = NDArray[np.float32]

WEIGHTS = "model.safetensors"
FIRST_CAPACITY = 256
_DTYPES = {"F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a Llama's configuration that its step needs."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    rope_theta: float
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's matrices, input first: ``qkv`` is ``[hidden, (heads + 2 kv_heads) dim]``."""

    qkv: Floats
    out: Floats
    gate_up: Floats
    down: Floats


class LlamaDrafter(ModelDrafter):
    """A Llama's folder (safetensors, config, tokenizer), loaded for drafting."""

    def __init__(self, folder: Path) -> None:
        """Load it.

        Raises:
            ModelError: weights are missing or of a kind that is not read here.
        """
        super().__init__(Tokenizer.load(folder))
        config = _config(folder)
        self._shape = _shape(config)
        weights = read_weights(folder / WEIGHTS)
        try:
            self._embedding = weights["model.embed_tokens.weight"]
            self._layers = [_layer(weights, self._shape, number) for number in range(self._shape.layers)]
            head = weights.get("lm_head.weight", self._embedding)
            self._head = np.ascontiguousarray((head * weights["model.norm.weight"]).T)
        except KeyError as error:
            msg = f"draft model {str(folder)!r}: expected the weights of a Llama, {error} is missing"
            raise ModelError(msg) from error
        angles = _angles(self._shape)
        self._rotations: NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)

    def around(self) -> AbstractContextManager[object]:
        """Return the process's lock on one BLAS thread."""
        return one_blas_thread()

    def stepper(self) -> LlamaStepper:
        """Return the model with a cache of its own."""
        return LlamaStepper(self._shape, self._embedding, self._layers, self._head, self._rotations)


class LlamaStepper:
    """The model over one text's KV cache: keys and values ``[layers, kv_heads, capacity, dim]``, doubled as needed."""

    def __init__(
        self,
        shape: Shape,
        embedding: Floats,
        layers: Sequence[Layer],
        head: Floats,
        rotations: NDArray[np.complex64],
    ) -> None:
        self._shape = shape
        self._embedding, self._layers, self._head, self._rotations = embedding, layers, head, rotations
        self._keys = self._reserve(FIRST_CAPACITY)
        self._values = self._reserve(FIRST_CAPACITY)

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        return self._shape.context_tokens

    def feed(self, tokens: Sequence[int], start: int) -> Floats:
        """Put ``tokens`` at the positions from ``start`` on; return the logits ``[vocab]`` behind the last one."""
        end = start + len(tokens)
        if end > self._keys.shape[2]:
            self._grow(end)
        x = self._embedding[np.asarray(tokens)]
        rotation = self._rotations[start:end, None]
        for number, layer in enumerate(self._layers):
            x = x + self._attend(number, layer, self._normed(x), rotation, start) @ layer.out
            gate, up = np.split(self._normed(x) @ layer.gate_up, 2, axis=-1)
            x = x + (gate / (1 + np.exp(-gate)) * up) @ layer.down
        logits: Floats = self._normed(x[-1]) @ self._head
        return logits

    def _normed(self, x: Floats) -> Floats:
        """Divide by the root mean square; the norm's weights are folded into the matrix that follows."""
        squares = np.einsum("...i,...i->...", x, x)
        scaled: Floats = x * (squares / np.float32(x.shape[-1]) + np.float32(self._shape.epsilon))[..., None] ** -0.5
        return scaled

    def _attend(self, number: int, layer: Layer, x: Floats, rotation: NDArray[np.complex64], start: int) -> Floats:
        shape, count = self._shape, len(x)
        end, rotated = start + count, shape.heads + shape.kv_heads
        mixed = (x @ layer.qkv).reshape(count, rotated + shape.kv_heads, shape.head_dim)
        turned = np.ascontiguousarray(mixed[:, :rotated]).view(np.complex64) * rotation
        pairs = turned.view(np.float32)
        keys, values = self._keys[number], self._values[number]
        keys[:, start:end] = pairs[:, shape.heads :].swapaxes(0, 1)
        values[:, start:end] = mixed[:, rotated:].swapaxes(0, 1)
        groups = shape.heads // shape.kv_heads
        by_group = pairs[:, : shape.heads].reshape(count, shape.kv_heads, groups, shape.head_dim)
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
    config = _config(folder)
    plain = not config.get("attention_bias") and not config.get("mlp_bias") and config.get("hidden_act") == "silu"
    return config.get("model_type") == "llama" and plain and _rope_type(config) == "default"


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


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary parameters, which newer configurations nest."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_type(config: dict[str, Any]) -> str:
    rope = _rope(config)
    return str(rope.get("rope_type", rope.get("type", "default")))


def _shape(config: dict[str, Any]) -> Shape:
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        epsilon=float(config["rms_norm_eps"]),
        rope_theta=float(_rope(config).get("rope_theta") or config.get("rope_theta") or 10_000.0),
        context_tokens=config["max_position_embeddings"],
    )


def _layer(weights: dict[str, Floats], shape: Shape, number: int) -> Layer:
    part = f"model.layers.{number}."
    before = weights[part + "input_layernorm.weight"]
    between = weights[part + "post_attention_layernorm.weight"]
    query = _paired(weights[part + "self_attn.q_proj.weight"], shape.head_dim) * shape.head_dim**-0.5
    key = _paired(weights[part + "self_attn.k_proj.weight"], shape.head_dim)
    value = weights[part + "self_attn.v_proj.weight"]
    gate, up = weights[part + "mlp.gate_proj.weight"], weights[part + "mlp.up_proj.weight"]
    return Layer(
        qkv=_input_first(np.concatenate([query, key, value]) * before),
        out=_input_first(weights[part + "self_attn.o_proj.weight"]),
        gate_up=_input_first(np.concatenate([gate, up]) * between),
        down=_input_first(weights[part + "mlp.down_proj.weight"]),
    )


def _input_first(weight: Floats) -> Floats:
    return np.ascontiguousarray(weight.T, dtype=np.float32)


def _paired(weight: Floats, head_dim: int) -> Floats:
    """Put the two dimensions of each rotated pair, which lie half a head apart, beside each other."""
    halves = weight.reshape(-1, 2, head_dim // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _angles(shape: Shape) -> NDArray[np.float64]:
    """Return the rotation of each position and pair, ``[context, dim / 2]`` radians."""
    frequencies = shape.rope_theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles: NDArray[np.float64] = np.arange(shape.context_tokens)[:, None] * frequencies
    return angles
