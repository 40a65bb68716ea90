"""A plain Llama's weights for a step in numpy: folded and reordered once, so that each step does less.

Norm weights and the attention scale go into the matrices that follow, siblings become one product, and the dimensions
of queries and keys are reordered so that the rotary embedding (Su et al., arXiv 2104.09864) is one multiplication of
complex numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """All of a model.

    ``embedding`` is ``[vocab, hidden]``, ``head`` ``[hidden, vocab]``, ``rotations`` complex64 ``[context, dim / 2]``.
    """

    shape: Shape
    embedding: Floats
    layers: tuple[Layer, ...]
    head: Floats
    rotations: NDArray[np.complex64]

    @classmethod
    def fold(cls, config: Mapping[str, Any], weights: Mapping[str, Floats]) -> LlamaWeights:
        """Fold the weights of a model of which :func:`is_plain` holds, as they are named in its file.

        Raises:
            KeyError: one is missing.
        """
        shape = _shape_of(config)
        embedding = weights["model.embed_tokens.weight"]
        head = weights.get("lm_head.weight", embedding)
        return cls(
            shape,
            embedding,
            tuple(_layer(weights, shape, number) for number in range(shape.layers)),
            np.ascontiguousarray((head * weights["model.norm.weight"]).T),
            np.exp(1j * _angles(shape)).astype(np.complex64),
        )

    def normed(self, x: Floats) -> Floats:
        """Divide by the root mean square; the norm's weights are folded into the matrix that follows."""
        squares = np.einsum("...i,...i->...", x, x)
        scaled: Floats = x * (squares / np.float32(x.shape[-1]) + np.float32(self.shape.epsilon))[..., None] ** -0.5
        return scaled

    def mixed(self, layer: Layer, x: Floats, rotation: NDArray[np.complex64]) -> tuple[Floats, Floats, Floats]:
        """Return queries ``[T, heads, dim]``, keys and values ``[T, kv_heads, dim]`` of normed ``x`` ``[T, hidden]``.

        ``rotation`` ``[T, 1, dim / 2]`` is that of each token's position. Queries are scaled already.
        """
        shape, rotated = self.shape, self.shape.heads + self.shape.kv_heads
        both = (x @ layer.qkv).reshape(len(x), rotated + shape.kv_heads, shape.head_dim)
        turned = (np.ascontiguousarray(both[:, :rotated]).view(np.complex64) * rotation).view(np.float32)
        return turned[:, : shape.heads], turned[:, shape.heads :], both[:, rotated:]

    def fed_forward(self, layer: Layer, x: Floats) -> Floats:
        """Return ``x`` ``[T, hidden]`` with the layer's gated unit added to it."""
        gate, up = np.split(self.normed(x) @ layer.gate_up, 2, axis=-1)
        output: Floats = x + (gate / (1 + np.exp(-gate)) * up) @ layer.down
        return output


def is_plain(config: Mapping[str, Any]) -> bool:
    """Say whether a model of this configuration is computed here: a Llama without biases, with the plain rotation."""
    plain = not config.get("attention_bias") and not config.get("mlp_bias") and config.get("hidden_act") == "silu"
    return config.get("model_type") == "llama" and plain and _rope_type(config) == "default"


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary parameters, which newer configurations nest."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_type(config: Mapping[str, Any]) -> str:
    rope = _rope(config)
    return str(rope.get("rope_type", rope.get("type", "default")))


def _shape_of(config: Mapping[str, Any]) -> Shape:
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


def _layer(weights: Mapping[str, Floats], shape: Shape, number: int) -> Layer:
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
