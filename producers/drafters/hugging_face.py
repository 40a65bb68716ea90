"""Any causal language model of transformers as a drafter, with its own KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

from dsdq.models.tokenizer import Tokenizer
from producers.drafters.stepping import ModelDrafter


class HuggingFaceDrafter(ModelDrafter):
    """A model by name or folder, in float32 on the CPU or in its own dtype on a GPU."""

    def __init__(self, name: str, source: Path | str) -> None:
        """Load it; raises what transformers raises."""
        super().__init__(Tokenizer.load(name))
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        gpu = torch.cuda.is_available()
        maker: Any = AutoModelForCausalLM
        dtype = "auto" if gpu else torch.float32
        # Said, or transformers would ask at the terminal whether to run what a repository brings.
        self._model = maker.from_pretrained(source, dtype=dtype, trust_remote_code=False).eval()
        self._model.to("cuda" if gpu else "cpu")

    def stepper(self) -> HuggingFaceStepper:
        """Return the model with a cache of its own."""
        return HuggingFaceStepper(self._model)


class HuggingFaceStepper:
    """The model over one text's cache."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers is untyped
        self._model = model
        self._cache: Any = (
            DynamicCache()
        )  # without the config: sliding layers keep everything, so that all can roll back

    @property
    def context_tokens(self) -> int:
        """Return the longest text that the model can take."""
        return int(self._model.config.get_text_config(decoder=True).max_position_embeddings)

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        """Put ``tokens`` at the positions from ``start`` on; return the logits ``[vocab]`` behind the last one."""
        if self._cache.get_seq_length() > start:
            self._cache.crop(start - self._cache.get_seq_length())  # a negative number: so many are dropped
        ids = torch.tensor([list(tokens)], device=self._model.device)
        output = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits: NDArray[np.float32] = output.logits[0, -1].float().cpu().numpy()
        return logits
