from __future__ import annotations

import random

import pytest

from dsdq.errors import BusyError
from producers.batch import answering
from producers.batch.answering import MOST_FAILURES, answer_of
from producers.batch.runner import Answer
from producers.openai.errors import ApiError

DONE = Answer(200, {"x": 1})


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


async def test_what_may_pass_is_tried_until_it_has_with_pauses_that_were_asked_for(pauses: list[float]) -> None:
    ask = Moody(*[BusyError("full", 500)] * 20)
    assert await answer_of(ask, random.Random(0)) == DONE
    assert ask.calls == 21
    assert min(pauses) >= 500


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("error", [ApiError(500, "poison", "internal"), ZeroDivisionError("a bug")])
async def test_a_line_that_fails_by_itself_is_given_up_after_a_few_tries(error: Exception) -> None:
    ask = Moody(*[error] * 9)
    answer = await answer_of(ask, random.Random(0))
    assert (ask.calls, answer.status, answer.body["error"]["code"]) == (MOST_FAILURES, 500, "internal")
    assert await answer_of(Moody(*[error] * (MOST_FAILURES - 1)), random.Random(0)) == DONE
