"""What a request asks for: read from its body, held against what is supported, and refused by name if it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsdq.contract import MAX_LOGPROBS, MAX_TOKENS, Contract, Sampling
from dsdq.errors import ConfigError
from producers.openai.errors import ApiError, invalid

MOST_CHOICES = 128
"""Texts that one request may ask for: prompts times ``n``."""
DEFAULT_TOKENS = 16
"""Of a completion; a chat goes on to the end of the context."""

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
ENDPOINTS = (COMPLETIONS, CHAT)

# Parameters of OpenAI's that are not supported, with the values that ask for nothing.
_NOT_YET: Mapping[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "echo": (None, False),
    "function_call": (None, "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "response_format": (None, {"type": "text"}),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "suffix": (None, ""),
    "tool_choice": (None, "none"),
    "tools": (None, []),
    "web_search_options": (None,),
}

TokenIds = Annotated[list[int], Field(min_length=1)]
Prompt = str | TokenIds | Annotated[list[str] | list[TokenIds], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(_Strict):
    """What a stream says beside the text."""

    include_usage: bool = False


class _Asked(_Strict):
    """What both endpoints take; None is what was not given. ``return_tokens`` and those below it are not OpenAI's."""

    model: str
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    stop: str | list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    return_tokens: bool | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None


class _Completion(_Asked):
    prompt: Prompt
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None


class TextPart(_Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        """Return what it says, whole."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def plain(self) -> dict[str, str]:
        """Return it as chat templates take it."""
        return {"role": self.role, "content": self.text}


class _Chat(_Asked):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A request that can be served.

    ``prompts`` of a chat are none: its ``messages`` are written by the model's template. ``top_logprobs`` are how many
    likely tokens to show beside each token; None shows no log-probabilities. ``max_tokens`` None: to the context's end.
    """

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    messages: tuple[ChatMessage, ...]
    n: int
    stream: bool
    include_usage: bool
    return_tokens: bool
    top_logprobs: int | None
    max_tokens: int | None
    seed: int | None
    sampling: Sampling
    stop: tuple[str, ...]
    stop_ids: tuple[int, ...]
    ignore_eos: bool

    @property
    def is_chat(self) -> bool:
        """Say whether it is a chat."""
        return bool(self.messages)

    @property
    def logprobs(self) -> int:
        """Return how many likely tokens to ask the verifier for: one at least, where it is to say any likelihood."""
        return 0 if self.top_logprobs is None else max(1, self.top_logprobs)


def read_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        ApiError: it is none.
    """
    try:
        found = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"expected a JSON object as body, got something else: {error}") from None
    if not isinstance(found, dict):
        raise invalid(f"expected a JSON object as body, got {type(found).__name__}")
    return found


def parse(endpoint: str, body: Mapping[str, Any]) -> TextRequest:
    """Return what a body asks an endpoint for.

    Raises:
        ApiError: a parameter is not supported, unknown, or not what was expected; it is named.
    """
    wanted = {name: value for name, value in body.items() if not _asks_for_nothing(name, value)}
    try:
        if endpoint == CHAT:
            chat = _Chat.model_validate(wanted)
            _check_logprobs(chat)
            top = (chat.top_logprobs or 0) if chat.logprobs else None
            return _request(chat, (), tuple(chat.messages), top, chat.max_completion_tokens or chat.max_tokens)
        asked = _Completion.model_validate(wanted)
        return _request(asked, _prompts(asked.prompt), (), asked.logprobs, asked.max_tokens or DEFAULT_TOKENS)
    except ValidationError as error:
        raise objection(error) from None


def _asks_for_nothing(name: str, value: object) -> bool:
    """Say whether a parameter that is not supported has a value that changes nothing.

    Raises:
        ApiError: it has another.
    """
    if name not in _NOT_YET:
        return False
    if not any(type(value) is type(nothing) and value == nothing for nothing in _NOT_YET[name]):
        raise invalid(f"{name} is not supported here; leave it out", name, "unsupported_parameter")
    return True


def _check_logprobs(chat: _Chat) -> None:
    if chat.top_logprobs is not None and not chat.logprobs:
        raise invalid("top_logprobs: expected logprobs to be true beside it", "top_logprobs")


def _prompts(given: str | Sequence[Any]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given[0], int):
        return (tuple(given),)
    return tuple(one if isinstance(one, str) else tuple(one) for one in given)


def _request(
    asked: _Asked,
    prompts: tuple[str | tuple[int, ...], ...],
    messages: tuple[ChatMessage, ...],
    top_logprobs: int | None,
    max_tokens: int | None,
) -> TextRequest:
    n = asked.n or 1
    if len(prompts) * n > MOST_CHOICES:
        raise invalid(f"n: expected at most {MOST_CHOICES} texts in all, got {len(prompts)} prompts times {n}", "n")
    if asked.stream_options is not None and not asked.stream:
        raise invalid("stream_options: expected stream to be true beside it", "stream_options")
    request = TextRequest(
        model=asked.model,
        prompts=prompts,
        messages=messages,
        n=n,
        stream=bool(asked.stream),
        include_usage=asked.stream_options is not None and asked.stream_options.include_usage,
        return_tokens=bool(asked.return_tokens),
        top_logprobs=top_logprobs,
        max_tokens=max_tokens,
        seed=None if asked.seed is None else asked.seed % (1 << 64),
        sampling=_sampling(asked),
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        stop_ids=tuple(asked.stop_token_ids or ()),
        ignore_eos=bool(asked.ignore_eos),
    )
    _check_terms(request)
    return request


def _sampling(asked: _Asked) -> Sampling:
    try:
        biases = sorted((int(token), value) for token, value in (asked.logit_bias or {}).items())
    except ValueError:
        raise invalid("logit_bias: expected token ids as names, got others", "logit_bias") from None
    given: dict[str, Any] = {
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "top_k": asked.top_k,
        "top_p": asked.top_p,
        "min_p": asked.min_p,
        "repetition_penalty": asked.repetition_penalty,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
    }
    try:
        return Sampling(logit_bias=tuple(biases), **{name: one for name, one in given.items() if one is not None})
    except ConfigError as error:
        raise _out_of_range(error) from None


def _check_terms(request: TextRequest) -> None:
    """Hold what the contract bounds against its bounds, before anybody is asked."""
    try:
        Contract(
            tenant="",
            producer="",
            session="",
            target="",
            tokenizer_fingerprint="",
            stop_strings=request.stop,
            stop_ids=request.stop_ids,
            logprobs=request.logprobs,
            max_tokens=request.max_tokens or 1,
        )
    except ConfigError as error:
        raise _out_of_range(error) from None
    if any(not 0 <= token < 1 << 31 for token in (*request.stop_ids, *_given_ids(request))):
        raise invalid("expected token ids from 0 to 2147483647, got others")


def _given_ids(request: TextRequest) -> list[int]:
    return [token for prompt in request.prompts if not isinstance(prompt, str) for token in prompt]


def _out_of_range(error: ConfigError) -> ApiError:
    """Return the error of a value that terms do not allow; its sentence begins with the field."""
    field = str(error).partition(":")[0]
    return invalid(str(error), {"stop_strings": "stop", "stop_ids": "stop_token_ids"}.get(field, field))


def objection(error: ValidationError) -> ApiError:
    """Return what a client is told of a body that is not what was expected: of the first thing that is wrong."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.islower())
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return invalid(f"Unknown parameter: {place}", name, "unknown_parameter")
    if first["type"] == "missing":
        return invalid(f"Missing required parameter: {place}", name, "missing_required_parameter")
    return invalid(f"{place}: {first['msg']}", name, "invalid_value")
