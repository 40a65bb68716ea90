"""From a name to weights in memory: read the configuration, check everything that it can tell, then load.

Nothing here runs a repository's own code. Whatever cannot be loaded is one :class:`ModelError` with one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from dsdq.errors import ModelError
from dsdq.models import memory, quantization

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ONE_DEVICE = "none"
DEVICE_MAPS = (ONE_DEVICE, "auto", "balanced", "sequential")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights go and as what.

    ``device_map`` is one of :data:`DEVICE_MAPS`; other than "none" it spreads whole layers over the GPUs of this
    process. ``ranks`` counts the processes that hold a share of every layer (tensor parallel).
    """

    device: torch.device
    dtype: torch.dtype
    quantization: str
    device_map: str
    ranks: int

    @classmethod
    def of(cls, device: str, dtype: str, kind: str, device_map: str, ranks: int) -> Placement:
        """Check an operator's words, against each other and against this machine.

        Raises:
            ModelError: one is unknown, not available here, or does not go with another.
        """
        if dtype not in DTYPES:
            msg = f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}"
            raise ModelError(msg)
        quantization.check(kind)
        place = _device(device)
        _check_device_map(device_map, place, ranks)
        if ranks > 1:
            _check_ranks(place, kind, ranks)
        return cls(place, DTYPES[dtype], kind, device_map, ranks)


def read_config(name: str, source: Path | str) -> Any:  # noqa: ANN401 - transformers is untyped
    """Return a model's configuration.

    Raises:
        ModelError: it cannot be found or read, or only the repository's own code could.
    """
    reader: Any = transformers.AutoConfig
    with _one_sentence(name):
        return reader.from_pretrained(source, trust_remote_code=False, local_files_only=isinstance(source, Path))


def skeleton(name: str, config: Any) -> Any:  # noqa: ANN401 - transformers is untyped
    """Return the model without its weights: modules and shapes only, no memory.

    Raises:
        ModelError: the configuration is not one of a causal language model that transformers has.
    """
    maker: Any = transformers.AutoModelForCausalLM
    with _one_sentence(name), torch.device("meta"):
        return maker.from_config(config, trust_remote_code=False)


def check_fit(name: str, model: Any, kind: str, placement: Placement) -> None:  # noqa: ANN401 - transformers is untyped
    """Return when a model of the skeleton's shapes can lie as ``placement`` says, its weights being of ``kind``.

    Raises:
        ModelError: its heads do not divide among the ranks, or there is not enough memory.
    """
    config = model.config.get_text_config(decoder=True)
    heads = [config.num_attention_heads, getattr(config, "num_key_value_heads", None) or config.num_attention_heads]
    if any(count % placement.ranks for count in heads):
        msg = (
            f"model {name!r}: has {heads[0]} attention and {heads[1]} key-value heads, which {placement.ranks} ranks "
            "cannot share evenly; use a number of ranks that divides both"
        )
        raise ModelError(msg)
    embeddings = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
    dense = placement.dtype.itemsize  # embeddings, norms and biases are never quantised
    each = quantization.weight_bytes(kind, placement.dtype)
    total = sum(p.numel() * (dense if id(p) in embeddings or p.dim() < 2 else each) for p in model.parameters())
    spread = placement.device_map != ONE_DEVICE
    free = memory.free_on(placement.device, all_gpus=spread)
    where = "all GPUs" if spread else str(placement.device)
    memory.check_room(name, int(total / placement.ranks), free, where)


def load_weights(name: str, source: Path | str, config: Any, placement: Placement) -> Any:  # noqa: ANN401 - untyped
    """Load, quantise and place a model.

    Raises:
        ModelError: files are unfit or incomplete, a package is missing, or memory runs out.
    """
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # What matters of its warnings, which would go to the terminal, is raised below.
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    loader: Any = transformers.AutoModelForCausalLM
    options = _options(config, placement)
    with _one_sentence(name):
        model, loading = loader.from_pretrained(
            source,
            config=config,
            dtype=placement.dtype,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=isinstance(source, Path),
            **options,
        )
        if not options.keys() & {"device_map", "distributed_config"}:
            model.to(placement.device)
    lost = sorted(map(str, (*loading["missing_keys"], *loading["mismatched_keys"])))
    if lost:
        msg = f"model {name!r}: expected weights for all of its layers, {len(lost)} are missing or misshapen: {lost[0]}"
        raise ModelError(msg)
    check_spread(name, model, placement)
    return model.eval()


def check_spread(name: str, model: Any, placement: Placement) -> None:  # noqa: ANN401 - transformers is untyped
    """Return when no layer was left outside the GPUs that were asked for.

    Raises:
        ModelError: accelerate put some into main memory or on the disk, where every step would wait for them.
    """
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    if placement.device.type == "cuda" and places & {"cpu", "disk"}:
        msg = f"model {name!r}: not enough memory: it does not fit on the GPUs here; use --quantization or more GPUs"
        raise ModelError(msg)


def _options(config: Any, placement: Placement) -> dict[str, Any]:  # noqa: ANN401 - transformers is untyped
    if placement.ranks > 1:
        from transformers.distributed.configuration_utils import DistributedConfig  # noqa: PLC0415 - only where there are ranks

        return {"distributed_config": DistributedConfig(tp_size=placement.ranks, tp_plan="auto")}
    options: dict[str, Any] = {}
    if placement.quantization != quantization.NONE:
        options["quantization_config"] = quantization.for_loading(placement.quantization, placement.dtype)
    if placement.device_map != ONE_DEVICE:
        options["device_map"] = placement.device_map
    elif find_spec("accelerate") is not None and (options or quantization.own_settings(config) is not None):
        options["device_map"] = {"": placement.device}  # some quantised layers cannot move once they are made
    return options


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turn the many kinds of errors that transformers, safetensors and the hub raise into one with one sentence."""
    try:
        yield
    except Exception as error:
        msg = f"model {name!r}: {_reason(error)}"
        raise ModelError(msg) from error


def _reason(error: Exception) -> str:
    said = str(error).strip()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in said:
        return "not enough memory for its weights; use a smaller dtype, --quantization, or a smaller model"
    if "trust_remote_code" in said:
        return (
            "its repository brings its own Python code, which is never run here; "
            "expected an architecture that is part of transformers"
        )
    lines = said.splitlines() or [type(error).__name__]
    whole = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"cannot be loaded: {whole}"


def _device(device: str) -> torch.device:
    try:
        place = torch.device(device)
    except RuntimeError as error:
        msg = f"device {device!r}: expected cpu, cuda or cuda:N"
        raise ModelError(msg) from error
    if place.type not in ("cpu", "cuda"):
        msg = f"device {device!r}: expected cpu, cuda or cuda:N"
        raise ModelError(msg)
    if place.type == "cuda" and (not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count()):
        msg = f"device {device!r}: there are {torch.cuda.device_count()} usable NVIDIA GPUs here; use cpu"
        raise ModelError(msg)
    return place


def _check_device_map(device_map: str, place: torch.device, ranks: int) -> None:
    if device_map not in DEVICE_MAPS:
        msg = f"device map {device_map!r}: expected one of {', '.join(DEVICE_MAPS)}"
        raise ModelError(msg)
    if device_map == ONE_DEVICE:
        return
    if ranks > 1:
        msg = f"device map {device_map!r}: expected 'none' under tensor parallelism, which spreads the model by itself"
        raise ModelError(msg)
    if place.type != "cuda" or place.index is not None:
        msg = f"device map {device_map!r}: spreads a model over all GPUs; expected device 'cuda', got {str(place)!r}"
        raise ModelError(msg)
    _need_accelerate(f"device map {device_map!r}")


def _check_ranks(place: torch.device, kind: str, ranks: int) -> None:
    """Transformers chooses the device of a tensor-parallel model itself: a GPU wherever there is one."""
    _need_accelerate("tensor parallelism")
    if kind != quantization.NONE:
        msg = f"quantization {kind!r}: expected 'none' under tensor parallelism"
        raise ModelError(msg)
    if place.index is not None:
        msg = f"tensor parallelism: each rank has a GPU of its own; expected device 'cuda', got {str(place)!r}"
        raise ModelError(msg)
    if place.type == "cpu" and torch.cuda.is_available():
        msg = "tensor parallelism: uses the GPUs where there are some; expected device 'cuda', got 'cpu'"
        raise ModelError(msg)
    joined = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if joined != ranks:
        msg = f"tensor parallelism: expected {ranks} ranks that have joined, got {joined}; start them with torchrun"
        raise ModelError(msg)


def _need_accelerate(what: str) -> None:
    if find_spec("accelerate") is None:
        msg = f"{what}: needs accelerate, which is not installed; install 'dsdq[torch,parallel]'"
        raise ModelError(msg)
