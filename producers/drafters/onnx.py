"""A decoder exported to ONNX with its KV cache, on ONNX Runtime: what Optimum exports, and what lies in many hubs.

Inputs are ``input_ids``, perhaps ``attention_mask`` and ``position_ids``, and ``past_key_values.N.key`` and ``.value``
``[1, heads, past, dim]``; outputs ``logits`` ``[1, n, vocab]`` and ``present.N.key`` and ``.value``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dsdq.errors import ModelError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.stepping import ModelDrafter

FILES = ("model.onnx", "onnx/model.onnx")
PAST, PRESENT = "past_key_values.", "present."
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxDrafter(ModelDrafter):
    """A folder with ``model.onnx`` (or ``onnx/model.onnx``), ``config.json`` and ``tokenizer.json``."""

    def __init__(self, folder: Path) -> None:
        """Load it; raises what ONNX Runtime raises.

        Raises:
            ModelError: a file is missing, or the graph has not the inputs and outputs of a decoder with a cache.
        """
        super().__init__(Tokenizer.load(folder))
        file = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if file is None:
            msg = f"draft model {str(folder)!r}: expected {' or '.join(FILES)}, found neither"
            raise ModelError(msg)
        self._context_tokens = int(json.loads((folder / "config.json").read_text("utf-8"))["max_position_embeddings"])
        self._session = onnxruntime.InferenceSession(file, _options(), providers=["CPUExecutionProvider"])
        _check(file, self._session)

    def stepper(self) -> OnnxStepper:
        """Return the model with a cache of its own."""
        return OnnxStepper(self._session, self._context_tokens)


class OnnxStepper:
    """The graph over one text's cache, which it takes and gives whole at every call."""

    def __init__(self, session: Any, context_tokens: int) -> None:  # noqa: ANN401 - onnxruntime is untyped
        self._session = session
        self.context_tokens = context_tokens
        self._asked = {one.name for one in session.get_inputs()}
        self._past = {one.name: _empty(one) for one in session.get_inputs() if one.name.startswith(PAST)}
        self._outputs = ["logits", *(PRESENT + name.removeprefix(PAST) for name in self._past)]

    def feed(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        """Put ``tokens`` at the positions from ``start`` on; return the logits ``[vocab]`` behind the last one."""
        end = start + len(tokens)
        given = {
            "input_ids": np.array([tokens], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
        }
        # What was taken back is cut off; a copy only where there is something to cut.
        past = {name: np.ascontiguousarray(values[:, :, :start]) for name, values in self._past.items()}
        known = {name: values for name, values in given.items() if name in self._asked}
        logits, *present = self._session.run(self._outputs, known | past)
        self._past = dict(zip(past, present, strict=True))
        last: NDArray[np.float32] = logits[0, -1].astype(np.float32)
        return last


def _options() -> Any:  # noqa: ANN401 - onnxruntime is untyped
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as our own step: a draft model is small, and waiting threads spin
    options.log_severity_level = 3
    return options


def _empty(value: Any) -> NDArray[Any]:  # noqa: ANN401 - onnxruntime is untyped
    _, heads, _, dim = value.shape
    return np.zeros((1, heads, 0, dim), dtype=_DTYPES[value.type])


def _check(file: Path, session: Any) -> None:  # noqa: ANN401 - onnxruntime is untyped
    inputs, outputs = session.get_inputs(), {one.name for one in session.get_outputs()}
    past = [one for one in inputs if one.name.startswith(PAST)]
    whole = all(len(one.shape) == 4 and isinstance(one.shape[1], int) and isinstance(one.shape[3], int) for one in past)
    known = {"input_ids", "attention_mask", "position_ids", *(one.name for one in past)}
    unknown = [one.name for one in inputs if one.name not in known]
    wanted = {"logits", *(PRESENT + one.name.removeprefix(PAST) for one in past)}
    kinds = {one.type for one in past} - set(_DTYPES)
    if not past or not whole or unknown or kinds or not wanted <= outputs:
        msg = (
            f"draft model {str(file)!r}: expected a decoder exported with its KV cache (input_ids, attention_mask, "
            f"position_ids, {PAST}N.key [batch, heads, past, dim] in float32 or float16; logits, {PRESENT}N.key), got "
            f"inputs {', '.join(one.name for one in inputs[:6])}… and outputs {', '.join(sorted(outputs)[:3])}…; "
            "export it as text-generation-with-past"
        )
        raise ModelError(msg)
