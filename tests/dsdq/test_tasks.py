from __future__ import annotations

import asyncio

from dsdq.tasks import end, end_all_of, start_for


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
