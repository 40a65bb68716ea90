"""Errors as OpenAI's clients know them: a status, and a body that says what was wrong, with which parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dsdq.errors import (
    BusError,
    ConfigError,
    DsdqError,
    ModelError,
    PromptError,
    QuotaError,
    RefusedError,
    SessionError,
    WireError,
)
from dsdq.telemetry.logs import get_logger
from dsdq.wire import ErrorCode

log = get_logger("openai")

BUSY_S = 1  # when to come back, where nobody knows better

_INVALID, _SERVER = "invalid_request_error", "server_error"


@dataclass
class ApiError(DsdqError):
    """What a request is answered with that cannot be served; ``retry_after_s`` where coming back may help."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    kind: str = _INVALID
    retry_after_s: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Return what the response says beside its body."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}

    @property
    def may_pass(self) -> bool:
        """Say whether the same request may be served later."""
        return self.retry_after_s is not None

    def __str__(self) -> str:
        """Return the sentence for people."""
        return self.message


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a request that is not what was expected."""
    return ApiError(400, message, code, param)


def unknown_model(name: str) -> ApiError:
    """Return the error of a model that nobody serves."""
    message = f"The model {name!r} does not exist; GET /v1/models lists those that do"
    return ApiError(404, message, "model_not_found", "model")


def unauthorized(message: str) -> ApiError:
    """Return the error of a key that opens nothing."""
    return ApiError(401, message, "invalid_api_key")


def too_long(prompt_tokens: int, max_tokens: int, context_tokens: int) -> ApiError:
    """Return the error of a text that the model cannot hold."""
    message = (
        f"This model's texts may have {context_tokens} tokens, but the prompt has {prompt_tokens} and up to "
        f"{max_tokens} were asked for: shorten the prompt or lower max_tokens"
    )
    return ApiError(400, message, "context_length_exceeded", "max_tokens")


def api_error(error: DsdqError) -> ApiError:
    """Return what an error of dsdq is to a client of the API."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QuotaError):
        return _over_quota(error)
    if isinstance(error, RefusedError | SessionError):
        return _ended(error.code, str(error))
    if isinstance(error, PromptError | WireError):  # the latter: prompt or terms are larger than a message may be
        return invalid(str(error), "prompt")
    if isinstance(error, BusError | ConfigError | ModelError):
        return _unavailable(str(error), math.ceil(getattr(error, "retry_after_ms", 0) / 1000))
    return ApiError(500, str(error), "internal", kind=_SERVER)


def failure(error: BaseException) -> ApiError:
    """Return what a client is told of an error that nobody expected; it is logged with where it came from."""
    log.error("request failed", exc_info=error)
    return ApiError(500, "The server failed on this request; it has been logged", "internal", kind=_SERVER)


def _over_quota(error: QuotaError) -> ApiError:
    """Return 429; without a time to come back where there never is enough."""
    for_good = error.retry_after_ms < 0
    code = "insufficient_quota" if for_good else "rate_limit_exceeded"
    retry_after_s = None if for_good else max(BUSY_S, math.ceil(error.retry_after_ms / 1000))
    return ApiError(429, str(error), code, error.limit, "insufficient_quota" if for_good else "requests", retry_after_s)


def _ended(code: str, message: str) -> ApiError:
    match code:
        case ErrorCode.CONTEXT_TOO_LONG:
            return invalid(message, "max_tokens", "context_length_exceeded")
        case ErrorCode.PROMPT_INVALID | ErrorCode.TERMS_INVALID:
            return invalid(message, code=code)
        case ErrorCode.TENANT_DISABLED:
            return ApiError(403, message, code, kind="permission_error")
        case ErrorCode.NO_ANSWER | ErrorCode.EXPIRED | ErrorCode.DEADLINE | ErrorCode.LOG_LOST:
            return _unavailable(message, BUSY_S)
        case _:
            return ApiError(500, message, code, kind=_SERVER)


def _unavailable(message: str, retry_after_s: int) -> ApiError:
    return ApiError(503, message, "overloaded", kind=_SERVER, retry_after_s=max(BUSY_S, retry_after_s))
