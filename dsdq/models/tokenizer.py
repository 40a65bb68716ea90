"""Text to token ids and back, on the ``tokenizers`` library alone: a device needs neither torch nor transformers.

``tokenizer.json`` is the truth, as it is for transformers: its post-processor says whether a BOS token is added.
``tokenizer_config.json`` names the special tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

import tokenizers

from dsdq.errors import ModelError, PromptError
from dsdq.models.names import resolve, tokenizer_of
from dsdq.models.spelling import byte_level, sentence_piece

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"

# The named special tokens of transformers, in the order in which it adds those that the vocabulary lacks.
_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FINGERPRINTED = ("model", "normalizer", "pre_tokenizer", "added_tokens")
_FINGERPRINT_BYTES = 16
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """A model's tokenizer. ``encode`` gives the ids that transformers' ``AutoTokenizer`` gives for the same folder.

    ``eos_ids`` are the ids of the EOS token (none or one). ``chat_template`` is how the model wants a conversation
    written, in Jinja; None where it knows none. ``named`` are the special tokens that a template may name.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any], template: str | None = None) -> None:
        """Take over ``backend`` and ``config``, the content of ``tokenizer_config.json`` (may be empty).

        ``template`` comes before the config's own.
        """
        backend.no_truncation()
        backend.no_padding()
        # Also turns a word of the vocabulary that the config calls special into one that is never split.
        backend.add_special_tokens(list(_special_tokens(config)))
        self._backend = backend
        self._alone: dict[int, str] = {}
        eos_id = self._named(config, "eos_token")
        self.eos_ids: tuple[int, ...] = () if eos_id is None else (eos_id,)
        self.chat_template = template or _template(config.get("chat_template"))
        self.named = {key: text for key in _SPECIAL_NAMES if (text := _content(config.get(key))) is not None}

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Load the tokenizer of a built-in model, the hash model, a local folder or a hub repository.

        Raises:
            ModelError: no such model, no ``tokenizer.json`` there, or one that cannot be read.
        """
        source = resolve(tokenizer_of(str(name)))
        folder = source if isinstance(source, Path) else None
        file = folder / TOKENIZER_FILE if folder else _download(str(source), TOKENIZER_FILE)
        if file is None or not file.is_file():
            msg = f"tokenizer of {str(name)!r}: expected a {TOKENIZER_FILE} beside the model, found none"
            raise ModelError(msg)
        config = folder / CONFIG_FILE if folder else _download(str(source), CONFIG_FILE)
        template = folder / TEMPLATE_FILE if folder else _download(str(source), TEMPLATE_FILE)
        return cls(_read_backend(file), _read_config(config), _read_text(template))

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Return the ids of ``text``, with the special tokens that the model expects around it unless told otherwise.

        Raises:
            PromptError: the text is not Unicode (it holds lone surrogates, as undecodable bytes of a command line do).
        """
        try:
            return self._backend.encode(text, add_special_tokens=special_tokens).ids
        except (TypeError, UnicodeError) as error:
            msg = f"expected a prompt in UTF-8, got bytes that are none: {error}"
            raise PromptError(msg) from error

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ``ids``; bytes that are no UTF-8 become U+FFFD, ids without a token become nothing."""
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def stream(self) -> TokenStream:
        """Return a detokeniser for one text that arrives token by token."""
        return TokenStream(self)

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens, added ones included. A model's logits may be padded beyond it."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def fingerprint(self) -> str:
        """Return 32 hex digits that are equal for tokenizers that give ids the same meaning.

        The blake2b hash of vocabulary, merges, normaliser, pre-tokenizer and added tokens as canonical JSON. Ids that
        one side counts differently would make the other side's drafts garbage.
        """
        parts = json.loads(self._backend.to_str())
        canonical = json.dumps({key: parts.get(key) for key in _FINGERPRINTED}, sort_keys=True, separators=(",", ":"))
        return blake2b(canonical.encode(), digest_size=_FINGERPRINT_BYTES).hexdigest()

    @cached_property
    def byte_tokens(self) -> frozenset[int]:
        """Return the ids of byte-fallback tokens such as ``<0x0A>``; empty for byte-level vocabularies."""
        if "ByteFallback" not in json.dumps(json.loads(self._backend.to_str())["decoder"]):
            return frozenset()
        return frozenset(id_ for token, id_ in self._backend.get_vocab().items() if _BYTE_TOKEN.fullmatch(token))

    @cached_property
    def spellings(self) -> tuple[bytes, ...]:
        """Return each id's bytes in the middle of a text; none for a special token and for an id without a token."""
        decoder = json.dumps(json.loads(self._backend.to_str())["decoder"])
        spelled = byte_level if "ByteLevel" in decoder else sentence_piece
        vocabulary, added = self._backend.get_vocab(), self._backend.get_added_tokens_decoder()
        found = [b""] * (max(vocabulary.values(), default=-1) + 1)
        for token, id_ in vocabulary.items():
            if not self.is_silent(id_):
                found[id_] = token.encode() if id_ in added else spelled(token)
        return tuple(found)

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        """Return the special tokens that the model expects before a text."""
        return tuple(takewhile(self.is_silent, self.encode("a")))

    def special(self, content: str) -> int | None:
        """Return the id of the special token that is written ``content``, if there is one."""
        id_ = self._backend.token_to_id(content)
        return None if id_ is None or not self.is_silent(id_) else id_

    def written(self, token: int) -> str | None:
        """Return how the vocabulary writes ``token``, if it has it."""
        return self._backend.id_to_token(token)

    def is_silent(self, token: int) -> bool:
        """Say whether a decoded text leaves ``token`` out: a special token, or an id without a token."""
        return token not in self._spoken

    def decode_alone(self, token: int) -> str:
        """Return the text of one token that is not silent as it decodes alone; kept, since it is asked for often."""
        text = self._alone.get(token)
        if text is None:
            text = self._alone[token] = self.decode((token,))
        return text

    @cached_property
    def _spoken(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        special = frozenset(id_ for id_, token in added.items() if token.special)
        return frozenset(self._backend.get_vocab(with_added_tokens=True).values()) - special

    def _named(self, config: Mapping[str, Any], key: str) -> int | None:
        token = _content(config.get(key))
        return None if token is None else self._backend.token_to_id(token)


class TokenStream:
    """Detokenises one text piece by piece; the pieces together are exactly ``decode`` of all ids.

    Text is held back while it may still change: inside a UTF-8 character, and inside a run of byte-fallback tokens.
    A piece is found by decoding a short window twice, with and without the new ids, because a token's text may depend
    on the token before it (a leading space that only the first token drops).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start an empty text."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # from the start of the window; its first ``_shown`` ids have been shown
        self._shown = 0

    def push(self, *ids: int) -> str:
        """Take the next ids and return the text they complete, which may be empty."""
        # What has no text of its own is left out, or a long run of it would be decoded again with every token.
        told = [token for token in ids if not self._tokenizer.is_silent(token)]
        self._ids.extend(told)
        if not told or self._ids[-1] in self._tokenizer.byte_tokens:
            return ""
        text = self._tokenizer.decode(self._ids)
        shown = self._before()
        if len(text) <= len(shown) or not text.startswith(shown) or text.endswith(_INCOMPLETE):
            return ""
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        return text[len(shown) :]

    def pending(self) -> str:
        """Return what is held back as it decodes now; it may still change."""
        if self._shown == len(self._ids):
            return ""
        return self._tokenizer.decode(self._ids)[len(self._before()) :]

    def _before(self) -> str:
        """Return the text of what has been shown of the window, nearly always one token's."""
        if self._shown == 1:
            return self._tokenizer.decode_alone(self._ids[0])
        return self._tokenizer.decode(self._ids[: self._shown])

    def finish(self) -> str:
        """Return the text still held back: the end of a text may be an incomplete character."""
        text = self.pending()
        self._shown = len(self._ids)
        return text

    def copy(self) -> TokenStream:
        """Return the same text as it is now, to go on by itself."""
        copied = TokenStream(self._tokenizer)
        copied._ids, copied._shown = self._ids.copy(), self._shown
        return copied


def _content(token: object) -> str | None:
    """Return the text of a special token, which a config gives as a string or as a map with ``content``."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _template(given: object) -> str | None:
    """Return the chat template of a config, which gives one, or several by name."""
    if isinstance(given, list):
        named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
        given = named.get("default")
    return given if isinstance(given, str) else None


def _special_tokens(config: Mapping[str, Any]) -> Iterable[tokenizers.AddedToken]:
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    listed = extra.values() if isinstance(extra, dict) else extra
    for token in (*(config.get(key) for key in _SPECIAL_NAMES), *listed):
        content = _content(token)
        if content is None:
            continue
        given = token if isinstance(token, dict) else {}
        options = {key: bool(given[key]) for key in ("lstrip", "rstrip", "single_word") if key in given}
        yield tokenizers.AddedToken(content, special=True, normalized=False, **options)


def _read_backend(file: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        msg = f"tokenizer {str(file)!r}: cannot be read: {error}"
        raise ModelError(msg) from error


def _read_text(file: Path | None) -> str | None:
    if file is None or not file.is_file():
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        msg = f"tokenizer {str(file)!r}: expected text in UTF-8: {error}"
        raise ModelError(msg) from error


def _read_config(file: Path | None) -> Mapping[str, Any]:
    if file is None or not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"tokenizer {str(file)!r}: expected JSON: {error}"
        raise ModelError(msg) from error
    if not isinstance(config, dict):
        msg = f"tokenizer {str(file)!r}: expected a JSON object, got {type(config).__name__}"
        raise ModelError(msg)
    return config


def _download(name: str, file: str) -> Path | None:
    """Return a hub repository's file in the local cache, or None when the repository has no such file."""
    # Imported here so that a device with a local model does not pay for it.
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:
        msg = f"tokenizer of {name!r}: not a local folder, and the hub cannot be reached for {file}: {error}"
        raise ModelError(msg) from error
    except EntryNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"tokenizer of {name!r}: not a local folder, and the hub has no such model: {error}"
        raise ModelError(msg) from error
