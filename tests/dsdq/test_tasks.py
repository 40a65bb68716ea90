from __future__ import annotations

import asyncio

import pytest

from dsdq.tasks import end, end_all_of, run_all, start_for


async def test_a_task_that_swallows_its_first_cancellation_is_ended_all_the_same() -> None:
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end(task)
    assert swallowed.is_set()
    assert task.cancelled()


async def test_a_task_that_failed_is_no_error_any_more() -> None:
    async def failing() -> None:
        raise ValueError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end(task, asyncio.create_task(asyncio.Event().wait()))
    assert task.done()


async def test_what_runs_for_an_owner_ends_with_it_and_so_does_what_that_begins_while_it_ends() -> None:
    class Owner:
        pass

    owner, other, ended = Owner(), Owner(), list[str]()

    async def work(name: str, *, goes_on: bool = False) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)
            if goes_on:
                start_for(owner, work("next"))

    start_for(owner, work("one", goes_on=True))
    start_for(other, work("another's"))
    await asyncio.sleep(0)
    await end_all_of(owner)
    assert ended[0] == "one"
    assert "another's" not in ended
    assert len(asyncio.all_tasks()) == 2  # this one and the other owner's
    await end_all_of(other)
    assert ended[-1] == "another's"


async def test_of_what_is_run_at_once_the_first_error_ends_the_others_and_is_raised_as_it_is() -> None:
    ended = list[str]()

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waiting")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def quick() -> None:
        ended.append("quick")

    with pytest.raises(ValueError, match="no"):
        await run_all(waiting(), failing(), quick())
    assert ended == ["quick", "waiting"]
    await run_all(quick(), quick())
    await run_all()
    assert ended == ["quick", "waiting", "quick", "quick"]
