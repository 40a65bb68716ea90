from __future__ import annotations

import random

import pytest

from dsdq.errors import (
    BusyError,
    ConfigError,
    DeniedError,
    DsdqError,
    PromptError,
    QuotaError,
    RedisUnavailableError,
    RefusedError,
    SessionError,
)
from producers.batch import answering
from producers.batch.answering import MOST_FAILURES, answer_of, pause_of
from producers.batch.runner import Answer

DONE = Answer(200, {"x": 1})


def quota(retry_after_ms: int) -> QuotaError:
    return QuotaError("no", limit="sessions", left=0, retry_after_ms=retry_after_ms)


class Moody:
    """Raises each of ``errors``, one a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> Answer:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return DONE


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = list[float]()

    async def sleep(seconds: float) -> None:
        found.append(1000 * seconds)

    monkeypatch.setattr(answering.asyncio, "sleep", sleep)
    return found


@pytest.mark.parametrize(
    "error",
    [
        BusyError("full", 500),
        RedisUnavailableError("gone"),
        DeniedError("the operator's fault"),
        ConfigError("no verifier"),
        quota(0),
        quota(500),
        RefusedError("tenant_disabled", "for now"),
        SessionError("no_answer", "nobody"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_what_may_pass_is_tried_until_it_has(error: DsdqError, pauses: list[float]) -> None:
    ask = Moody(*[error] * 20)
    assert await answer_of(ask, random.Random(0)) == DONE
    assert ask.calls == 21
    assert all(pause >= (pause_of(error) or 0) for pause in pauses)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PromptError("empty"), 400, "invalid_request"),
        (RefusedError("context_too_long", "too long"), 400, "context_too_long"),
        (quota(-1), 429, "insufficient_quota"),
    ],
)
async def test_what_never_will_be_done_is_an_answer(error: DsdqError, status: int, code: str) -> None:
    answer = await answer_of(Moody(error), random.Random(0))
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert answer.body["error"]["message"] == str(error)


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("error", [SessionError("internal", "poison"), ZeroDivisionError("a bug")])
async def test_a_line_that_fails_by_itself_is_given_up_after_a_few_tries(error: Exception) -> None:
    ask = Moody(*[error] * 9)
    answer = await answer_of(ask, random.Random(0))
    assert (ask.calls, answer.status) == (MOST_FAILURES, 500)
    assert await answer_of(Moody(*[error] * (MOST_FAILURES - 1)), random.Random(0)) == DONE
