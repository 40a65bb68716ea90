"""A GGUF model on llama.cpp, through llama-cpp-python's binding of its C interface."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from dsdq.contract import Contract
from dsdq.drafting import DraftSession
from dsdq.errors import ModelError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.stepping import ModelDrafter

MOST_CONTEXT_TOKENS = 8_192
"""Each session reserves its cache whole; many a model could read a hundred thousand tokens."""

BATCH_TOKENS = 512
_MOST_PIECE_BYTES = 1_024


# Keeps llama.cpp from writing to the terminal; what fails is told by its return values.
_quiet: Any = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


class LlamaCppDrafter(ModelDrafter):
    """A GGUF file, which brings its vocabulary."""

    def __init__(self, file: Path) -> None:
        """Load it.

        Raises:
            ModelError: there is no such file, llama.cpp does not read it, or it cannot take tokens back.
        """
        if not file.is_file():
            msg = f"draft model {str(file)!r}: expected a GGUF file, found none"
            raise ModelError(msg)
        llama_cpp.llama_log_set(_quiet, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            msg = f"draft model {str(file)!r}: llama.cpp cannot read it"
            raise ModelError(msg)
        if llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model):
            msg = f"draft model {str(file)!r}: expected one with a KV cache, got one whose state cannot be rolled back"
            raise ModelError(msg)
        super().__init__(GgufVocabulary(llama_cpp.llama_model_get_vocab(self._model)))
        self._file = file

    def stepper(self) -> LlamaCppStepper:
        """Return the model with a cache of its own."""
        return LlamaCppStepper(self._model, len(self.vocabulary.spellings))

    def shares(self, tokenizer: Tokenizer) -> bool:
        """Compare the vocabularies id by id: the file does not say all that a fingerprint is made of."""
        own, theirs = self.vocabulary.spellings, tokenizer.spellings
        return tuple(own[: len(theirs)]) == theirs and self.vocabulary.eos_ids == tokenizer.eos_ids

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        """Begin a session with an empty cache.

        Raises:
            ModelError: an id means another text than it does to the target.
        """
        if not self.shares(tokenizer):
            sizes = len(tokenizer.spellings), len(self.vocabulary.spellings)
            msg = (
                f"draft model {str(self._file)!r}: expected the target's {sizes[0]} tokens, got {sizes[1]}, or others; "
                "put retokenise: before its name to have its text encoded again for the target"
            )
            raise ModelError(msg)
        return super().start(contract, tokenizer)


class GgufVocabulary:
    """The tokens of a GGUF file; see :class:`producers.drafters.vocabulary.Vocabulary`."""

    fingerprint = ""

    def __init__(self, vocabulary: Any) -> None:  # noqa: ANN401 - llama.cpp's pointer
        self._vocabulary = vocabulary
        eos = int(llama_cpp.llama_vocab_eos(vocabulary))
        self.eos_ids: tuple[int, ...] = (eos,) if eos >= 0 else ()

    @cached_property
    def spellings(self) -> tuple[bytes, ...]:
        """Return each id's bytes in the middle of a text; none for a special token."""
        return tuple(self._piece(token) for token in range(llama_cpp.llama_vocab_n_tokens(self._vocabulary)))

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        """Return BOS if the model expects it before a text."""
        wanted = llama_cpp.llama_vocab_get_add_bos(self._vocabulary)
        return (llama_cpp.llama_vocab_bos(self._vocabulary),) if wanted else ()

    def special(self, content: str) -> int | None:
        """Return the id of the special token that is written ``content``, if there is one."""
        return self._special.get(content)

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Return the ids of ``text``, with the special tokens around it unless told otherwise."""
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, len(ids), special_tokens, True)  # noqa: FBT003
        return list(ids[:count])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        room = ctypes.create_string_buffer(8 + sum(len(self.spellings[token]) for token in ids))
        given = (llama_cpp.llama_token * len(ids))(*ids)
        length = llama_cpp.llama_detokenize(self._vocabulary, given, len(ids), room, len(room), False, False)  # noqa: FBT003
        return room.raw[:length].decode(errors="replace")

    @cached_property
    def _special(self) -> Mapping[str, int]:
        silent = (token for token, spelled in enumerate(self.spellings) if not spelled)
        return {llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode(): token for token in silent}

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(_MOST_PIECE_BYTES)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, room, len(room), 0, False)  # noqa: FBT003
        return room.raw[: max(length, 0)]


class LlamaCppStepper:
    """The model over one text's cache."""

    def __init__(self, model: Any, vocab_size: int) -> None:  # noqa: ANN401 - llama.cpp's pointer
        self._vocab_size = vocab_size
        self.context_tokens = min(llama_cpp.llama_model_n_ctx_train(model), MOST_CONTEXT_TOKENS)
        terms = llama_cpp.llama_context_default_params()
        terms.n_ctx, terms.n_batch, terms.n_ubatch = self.context_tokens, BATCH_TOKENS, BATCH_TOKENS
        terms.swa_full = True  # sliding layers keep everything, so that all can roll back
        self._context = llama_cpp.llama_init_from_model(model, terms)
        if not self._context:
            msg = f"draft model: llama.cpp has no room for a cache of {self.context_tokens} tokens"
            raise ModelError(msg)
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        weakref.finalize(self, llama_cpp.llama_batch_free, self._batch)
        weakref.finalize(self, llama_cpp.llama_free, self._context)

    def feed(self, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        """Put ``tokens`` at the positions from ``start`` on; return the logits ``[vocab]`` behind the last one."""
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), 0, start, -1)
        for first in range(0, len(tokens), BATCH_TOKENS):
            self._decode(tokens[first : first + BATCH_TOKENS], start + first)
        behind = llama_cpp.llama_get_logits_ith(self._context, -1)
        logits: NDArray[np.float32] = np.ctypeslib.as_array(behind, shape=(self._vocab_size,)).copy()
        return logits

    def _decode(self, tokens: Sequence[int], start: int) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, start + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place == len(tokens) - 1
        code = llama_cpp.llama_decode(self._context, batch)
        if code:
            msg = f"draft model: llama.cpp could not read {len(tokens)} tokens at position {start} (code {code})"
            raise ModelError(msg)
