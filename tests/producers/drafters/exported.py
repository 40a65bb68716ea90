"""A plain Llama's folder in other forms: an ONNX graph with its cache, a GGUF file, other ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dsdq.models.names import resolve
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.llama import read_weights

DRAFT = "builtin/draft"
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3


def exported(form: str, place: Path) -> str:
    """Write the built-in draft as ``onnx``, ``gguf`` or ``renumbered`` into ``place`` and return its name."""
    folder = resolve(DRAFT)
    assert isinstance(folder, Path)
    if form == "onnx":
        return f"onnx:{to_onnx(folder, place)}"
    if form == "gguf":
        return f"gguf:{to_gguf(folder, place / 'draft.gguf')}"
    return str(renumber(folder, place))


def renumber(folder: Path, made: Path) -> Path:
    """Write the same model with other ids: the last token becomes the first behind the special ones, and so on."""
    shutil.copytree(folder, made, dirs_exist_ok=True)
    parts = json.loads((folder / "tokenizer.json").read_text())
    size, special = len(parts["model"]["vocab"]), len(parts["added_tokens"])
    order = np.array([*range(special), *range(size - 1, special - 1, -1)])
    parts["model"]["vocab"] = {token: int(order[id_]) for token, id_ in parts["model"]["vocab"].items()}
    (made / "tokenizer.json").write_text(json.dumps(parts))
    weights = read_weights(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][order]
    save_file(weights, made / "model.safetensors")
    return made


def to_onnx(folder: Path, made: Path) -> Path:
    """Write ``model.onnx`` with the inputs and outputs of Optimum's export, beside configuration and tokenizer."""
    from onnx import save

    made.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, made / name)
    save(
        Graph(json.loads((folder / "config.json").read_text()), read_weights(folder / "model.safetensors")).model(),
        made / "model.onnx",
    )
    return made


class Graph:
    """A Llama as ONNX operators, which take and return names."""

    def __init__(self, config: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self._config, self._weights = config, weights
        self._heads, self._kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self._dim = config.get("head_dim") or config["hidden_size"] // self._heads
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def model(self) -> Any:
        from onnx import TensorProto, helper

        layers = range(self._config["num_hidden_layers"])
        kinds = [f"{layer}.{kind}" for layer in layers for kind in ("key", "value")]
        past_shape = ["batch", self._kv_heads, "past", self._dim]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length])
            for name, length in (("input_ids", "n"), ("attention_mask", "all"), ("position_ids", "n"))
        ] + [helper.make_tensor_value_info(f"past_key_values.{kind}", TensorProto.FLOAT, past_shape) for kind in kinds]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "n", "vocab"])] + [
            helper.make_tensor_value_info(
                f"present.{kind}", TensorProto.FLOAT, ["batch", self._kv_heads, "all", self._dim]
            )
            for kind in kinds
        ]
        self._build(layers)
        graph = helper.make_graph(self._nodes, "llama", inputs, outputs, list(self._constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _build(self, layers: range) -> None:
        x = self._op("Gather", self._weight("model.embed_tokens.weight"), "input_ids")
        rope = self._config.get("rope_parameters") or self._config
        angles = np.arange(self._config["max_position_embeddings"])[:, None] * rope["rope_theta"] ** (
            -np.arange(0, self._dim, 2) / self._dim
        )
        angles = np.concatenate([angles, angles], axis=-1)[:, None]
        turn = [self._op("Gather", self._constant(f(angles)), "position_ids") for f in (np.cos, np.sin)]
        turn = [self._op("Transpose", one, perm=[0, 2, 1, 3]) for one in turn]
        for layer in layers:
            part = f"model.layers.{layer}."
            normed = self._norm(x, part + "input_layernorm.weight")
            x = self._op("Add", x, self._attention(normed, part + "self_attn.", layer, turn))
            normed = self._norm(x, part + "post_attention_layernorm.weight")
            gate = self._linear(normed, part + "mlp.gate_proj.weight")
            gate = self._op("Mul", gate, self._op("Sigmoid", gate))
            gated = self._op("Mul", gate, self._linear(normed, part + "mlp.up_proj.weight"))
            x = self._op("Add", x, self._linear(gated, part + "mlp.down_proj.weight"))
        head = "lm_head.weight" if "lm_head.weight" in self._weights else "model.embed_tokens.weight"
        self._linear(self._norm(x, "model.norm.weight"), head, out="logits")

    def _attention(self, x: str, part: str, layer: int, turn: list[str]) -> str:
        queries = self._turned(self._split(self._linear(x, part + "q_proj.weight"), self._heads), turn)
        keys = self._turned(self._split(self._linear(x, part + "k_proj.weight"), self._kv_heads), turn)
        values = self._split(self._linear(x, part + "v_proj.weight"), self._kv_heads)
        keys = self._op("Concat", f"past_key_values.{layer}.key", keys, out=f"present.{layer}.key", axis=2)
        values = self._op("Concat", f"past_key_values.{layer}.value", values, out=f"present.{layer}.value", axis=2)
        group = np.repeat(np.arange(self._kv_heads), self._heads // self._kv_heads)
        keys, values = (self._op("Gather", one, self._constant(group), axis=1) for one in (keys, values))
        scores = self._op("MatMul", queries, self._op("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = self._op("Mul", scores, self._constant(np.float32(self._dim**-0.5)))
        read = self._op(
            "MatMul",
            self._op("Softmax", self._op("Where", self._hidden(), self._constant(np.float32(-1e9)), scores), axis=-1),
            values,
        )
        joined = self._op(
            "Reshape",
            self._op("Transpose", read, perm=[0, 2, 1, 3]),
            self._constant(np.array([0, 0, self._heads * self._dim])),
        )
        return self._linear(joined, part + "o_proj.weight")

    def _hidden(self) -> str:
        """Return where a key lies behind its query, ``[1, 1, n, all]``."""
        zero, one = self._constant(np.int64(0)), self._constant(np.int64(1))
        keys = self._op("Range", zero, self._op("Gather", self._op("Shape", "attention_mask"), one), one)
        return self._op("Greater", keys, self._op("Unsqueeze", "position_ids", self._constant(np.array([1, 3]))))

    def _turned(self, x: str, turn: list[str]) -> str:
        half = self._dim // 2
        first, second = (
            self._op("Slice", x, *(self._constant(np.array([n])) for n in (start, start + half, 3)))
            for start in (0, half)
        )
        other = self._op("Concat", self._op("Neg", second), first, axis=3)
        return self._op("Add", self._op("Mul", x, turn[0]), self._op("Mul", other, turn[1]))

    def _split(self, x: str, heads: int) -> str:
        return self._op(
            "Transpose", self._op("Reshape", x, self._constant(np.array([0, 0, heads, self._dim]))), perm=[0, 2, 1, 3]
        )

    def _norm(self, x: str, weight: str) -> str:
        mean = self._op("ReduceMean", self._op("Mul", x, x), axes=[-1])
        root = self._op("Sqrt", self._op("Add", mean, self._constant(np.float32(self._config["rms_norm_eps"]))))
        return self._op("Mul", self._op("Div", x, root), self._weight(weight))

    def _linear(self, x: str, weight: str, out: str | None = None) -> str:
        return self._op("MatMul", x, self._constant(np.ascontiguousarray(self._weights[weight].T)), out=out)

    def _weight(self, name: str) -> str:
        return self._constant(self._weights[name])

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def _op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = out or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def to_gguf(folder: Path, file: Path) -> Path:
    """Write a GGUF file in float32."""
    from gguf import GGUFWriter

    config, tokenizer = json.loads((folder / "config.json").read_text()), Tokenizer.load(folder)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    write_vocabulary(writer, json.loads((folder / "tokenizer.json").read_text())["model"], tokenizer)
    for name, values in read_weights(folder / "model.safetensors").items():
        count = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
        writer.add_tensor(gguf_name(name), values if count is None else interleaved(values, count))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_vocabulary(writer: Any, model: dict[str, Any], tokenizer: Tokenizer) -> None:
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    special = [tokenizer.special(token) is not None for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TOKEN_CONTROL if one else TOKEN_NORMAL for one in special])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(bool(tokenizer.beginning))


def gguf_name(name: str) -> str:
    parts = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm",
    }  # fmt: skip
    for theirs, ours in parts.items():
        name = name.replace(theirs, ours)
    return name


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put the two dimensions of each rotated pair beside each other, as llama.cpp turns them."""
    return np.ascontiguousarray(weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape))
