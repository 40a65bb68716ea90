"""Load a target model, with the facts that sessions and the engine need; refuse what cannot be served right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from dsdq.errors import ModelError
from dsdq.models import loading
from dsdq.models import quantization as quantized
from dsdq.models.loading import ONE_DEVICE, Placement
from dsdq.models.names import resolve
from dsdq.policies.paging import BLOCK

_SERVED_LAYERS = frozenset({"full_attention", "sliding_attention"})
_REVISION_BYTES = 16
_BLOCK_BYTES = 1 << 16
_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Target:
    """A loaded target model.

    ``model`` is a transformers causal language model in evaluation mode. ``revision`` tells apart models of one name:
    the hub's commit, or a hash of configuration and weights. ``numerics`` names everything that decides the bits of a
    logit besides the weights: dtype, kind of device, keys that attention takes at once, quantisation, number of ranks;
    an engine adds "fixed" where it runs deterministically on a GPU. ``vocab_size`` is the width of the logits.
    """

    model: Any
    name: str
    revision: str
    eos_ids: tuple[int, ...]
    context_tokens: int
    vocab_size: int
    numerics: str

    @property
    def device(self) -> torch.device:
        """Return the device that takes the token ids."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def output_device(self) -> torch.device:
        """Return the device that makes the logits; another than :attr:`device` where layers are spread over GPUs."""
        head = self.model.get_output_embeddings()
        weight = next(head.parameters(), None) if head is not None else None
        return self.device if weight is None else weight.device


def load_target(
    name: str,
    device: str = "cpu",
    dtype: str = "float32",
    *,
    quantization: str = quantized.NONE,
    device_map: str = ONE_DEVICE,
    ranks: int = 1,
) -> Target:
    """Load a built-in model, a local folder or a hub repository for serving.

    Args:
        name: as :func:`dsdq.models.names.resolve` takes it.
        device: cpu, cuda or cuda:N.
        dtype: float32, bfloat16 or float16; of what is not quantised.
        quantization: one of ``QUANTIZATIONS`` in :mod:`dsdq.models.quantization`.
        device_map: other than "none", spreads whole layers over all GPUs of this process.
        ranks: the processes that each hold a share of every layer; they have joined one process group.

    Raises:
        ModelError: it cannot be found or read, its weights are incomplete or do not fit, what it needs is not here, or
            its architecture is one that the engine cannot serve correctly.
    """
    placement = Placement.of(device, dtype, quantization, device_map, ranks)
    source = resolve(name)
    config = loading.read_config(name, source)
    kind = quantized.settle(name, config, quantization)
    shapes = loading.skeleton(name, config)
    check_architecture(name, shapes)
    loading.check_fit(name, shapes, kind, placement)
    model = loading.load_weights(name, source, config, placement)
    revision = _folder_revision(source) if isinstance(source, Path) else str(model.config._commit_hash)  # noqa: SLF001
    return describe(model, name, revision, kind=kind, ranks=ranks)


def describe(
    model: Any,  # noqa: ANN401 - transformers is untyped
    name: str,
    revision: str,
    *,
    kind: str = quantized.NONE,
    ranks: int = 1,
) -> Target:
    """Return the facts about a model that is already in place; ``kind`` is what its weights were quantised to."""
    text = model.config.get_text_config(decoder=True)
    context = getattr(text, "max_position_embeddings", None)
    if not isinstance(context, int):
        msg = f"model {name!r}: expected max_position_embeddings in its config to know how long a text may be"
        raise ModelError(msg)
    return Target(
        model=model,
        name=name,
        revision=revision,
        eos_ids=_eos_ids(model),
        context_tokens=context,
        vocab_size=int(text.vocab_size),
        numerics=_numerics(model.device, model.dtype, kind, ranks),
    )


def check_architecture(name: str, model: Any) -> None:  # noqa: ANN401 - transformers is untyped
    """Return when the engine's attention gives this architecture its own results.

    Raises:
        ModelError: naming the architecture and what about it is not supported.
    """
    config = model.config.get_text_config(decoder=True)
    layers = set(getattr(config, "layer_types", None) or ())
    reasons = {
        "its attention cannot be replaced": not getattr(type(model), "_supports_attention_backend", False),
        "it has an encoder": bool(getattr(model.config, "is_encoder_decoder", False)),
        f"it has layers of kind {', '.join(sorted(layers - _SERVED_LAYERS))}": not layers <= _SERVED_LAYERS,
        "its layers share their KV cache": bool(getattr(config, "num_kv_shared_layers", 0)),
    }
    for reason, holds in reasons.items():
        if holds:
            msg = (
                f"model {name!r}: architecture {type(model).__name__} cannot be served correctly: {reason}; "
                "expected a decoder with full or sliding-window attention, such as Llama, Qwen, Mistral, Gemma or GPT-2"
            )
            raise ModelError(msg)


def _eos_ids(model: Any) -> tuple[int, ...]:  # noqa: ANN401 - transformers is untyped
    generation = getattr(model, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    if ids is None:
        ids = getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)
    if ids is None:
        return ()
    return tuple(int(id_) for id_ in ids) if isinstance(ids, Sequence) else (int(ids),)


def _numerics(device: torch.device, dtype: torch.dtype, kind: str, ranks: int) -> str:
    machine: str = device.type
    if machine == "cpu":  # kernels differ with the vector instructions that a machine offers
        machine = f"cpu-{torch.backends.cpu.get_cpu_capability().lower()}"
    parts = [str(dtype).removeprefix("torch."), machine, f"block{BLOCK}"]
    if kind != quantized.NONE:
        parts.append(kind)
    if ranks > 1:  # sums over a layer are added up rank by rank
        parts.append(f"tp{ranks}")
    return "/".join(parts)


def _folder_revision(folder: Path) -> str:
    """Hash the configuration, and of each weights file its size, its header and 64 evenly spaced blocks.

    Models fine-tuned from one another have equal headers, so some content is read; all of it would take minutes for
    a large model.
    """
    state = blake2b(digest_size=_REVISION_BYTES, person=b"dsdq.revision")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    state.update(json.dumps(config, sort_keys=True).encode())
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    for file in files:
        size = file.stat().st_size
        state.update(f"{file.name}:{size};".encode())
        with file.open("rb") as stream:
            for block in range(_BLOCKS):
                stream.seek(block * size // _BLOCKS)
                state.update(stream.read(_BLOCK_BYTES))
    return state.hexdigest()
