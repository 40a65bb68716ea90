"""What each error of dsdq is to a client of the API: its status, what is named, and whether coming back may help."""

from __future__ import annotations

import pytest

from dsdq.errors import (
    BusyError,
    ConfigError,
    DeniedError,
    DsdqError,
    ModelError,
    PromptError,
    QuotaError,
    RedisUnavailableError,
    RefusedError,
    SessionError,
    WireError,
)
from producers.openai.errors import api_error, unknown_model


def quota(retry_after_ms: int) -> QuotaError:
    return QuotaError("no", limit="sessions", left=0, retry_after_ms=retry_after_ms)


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after_s"),
    [
        (PromptError("empty"), 400, None, None),
        (WireError("too large"), 400, None, None),
        (RefusedError("context_too_long", "too long"), 400, "context_length_exceeded", None),
        (RefusedError("prompt_invalid", "no such token"), 400, "prompt_invalid", None),
        (RefusedError("tenant_disabled", "for now"), 403, "tenant_disabled", None),
        (quota(-1), 429, "insufficient_quota", None),
        (quota(0), 429, "rate_limit_exceeded", 1),
        (quota(1500), 429, "rate_limit_exceeded", 2),
        (BusyError("full", 2100), 503, "overloaded", 3),
        (RedisUnavailableError("gone"), 503, "overloaded", 1),
        (DeniedError("the operator's fault"), 503, "overloaded", 1),
        (ConfigError("no verifier"), 503, "overloaded", 1),
        (ModelError("no such draft"), 503, "overloaded", 1),
        (SessionError("no_answer", "nobody"), 503, "overloaded", 1),
        (SessionError("internal", "poison"), 500, "internal", None),
        (DsdqError("who knows"), 500, "internal", None),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, DsdqError) else "",
)
def test_an_error_has_a_status(error: DsdqError, status: int, code: str | None, retry_after_s: int | None) -> None:
    found = api_error(error)
    assert (found.status, found.code, found.retry_after_s) == (status, code, retry_after_s)
    assert found.may_pass == (retry_after_s is not None) == ("retry-after" in found.headers)
    assert found.body["error"]["message"] == str(error)


def test_an_error_of_the_api_is_what_it_is() -> None:
    error = unknown_model("nobody")
    assert api_error(error) is error
