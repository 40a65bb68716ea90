"""What a device at a gateway's WebSocket may touch, and what becomes of those who do not keep the rules."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import hypothesis
import pytest
from hypothesis import strategies as st
from redis.asyncio import Redis
from websockets.exceptions import ConnectionClosed

import dsdq
from dsdq import keys
from dsdq.bus.sessions import Place
from dsdq.errors import RedisUnavailableError
from dsdq.models.names import HASH_TARGET
from dsdq.sealing import producer_key
from dsdq.settings import settings
from dsdq.testing.hashed import decode
from dsdq.wire import Cancel, Draft, Gap, pack
from dsdq.wire.frames import (
    AskWorkers,
    Challenge,
    Close,
    Done,
    Entry,
    Follow,
    Followed,
    Hello,
    Publish,
    Refused,
    RefusedCode,
    Unfollow,
    Workers,
    pack_frame,
)
from producers.gateway import errands, ingress
from producers.gateway.badges import EndedError
from producers.gateway.logs import ENTRIES_OF_A_LOG
from producers.gateway.visit import Visit
from tests.conftest import Serve
from tests.dsdq.wire.test_frames import FRAMES
from tests.producers.gateway.conftest import OpenGateway, socket_at
from tests.producers.gateway.raw import (
    NAME,
    SECRET,
    SERVICE_KEY,
    TENANT_SECRET,
    contract_of,
    guest,
    opening,
    raw,
    tenant,
)

WORKERS = AskWorkers(1)


async def long_log(redis: Redis, entries: int) -> None:
    """Have a session ``long`` with more in its log than buffers between here and a device take."""
    session = Place(NAME, "default", "long")
    await redis.hset(session.head, mapping={"epoch": 1, "worker": "w1", "status": "open"})
    for number in range(1, entries + 1):
        await redis.xadd(session.log, {"m": bytes(60_000), "e": 1}, id=f"{number}-0")


async def test_nobody_follows_a_session_of_another_device_or_tenant(
    serve: Serve, redis: Redis, open_gateway: OpenGateway
) -> None:
    async with serve(HASH_TARGET), open_gateway() as url:
        async with dsdq.connect(socket_at(url)) as client:
            generation = client.generate([1, 2, 3], draft="none", max_tokens=8)
            assert [token.id async for token in generation] == decode([1, 2, 3], 8)
        assert generation.receipt is not None
        (log,) = [key async for key in redis.scan_iter("{p.*:log")]
        producer, session = log.decode()[3:].split("}")[0], log.decode().split(":")[2]
        async with guest(socket_at(url)) as sibling:
            followed = await sibling.asks(Follow(1, session, 0, 0), Followed)
            assert (followed.epoch, followed.owner, sibling.entries) == (0, "", [])
            draft = Draft(session, 0, 1, 3, bytes(16), (5,))
            message = opening(contract_of(session, producer=producer))
            for id_, (sent, code) in enumerate(
                (
                    (message, RefusedCode.FORBIDDEN),
                    (opening(contract_of(session, tenant="globex")), RefusedCode.FORBIDDEN),
                    (pack(replace(draft, session="s2")), RefusedCode.FORBIDDEN),
                    (pack(Cancel("s2")), RefusedCode.FORBIDDEN),
                    (pack(Gap(session, 1)), RefusedCode.MALFORMED),
                    (b"garbage", RefusedCode.MALFORMED),
                    (pack(draft), RefusedCode.GONE),  # it may speak of a name that it follows, to whoever is there
                ),
                2,
            ):
                refused = await sibling.asks(Publish(id_, "nobody", sent), Refused)
                assert (refused.id, refused.code) == (id_, code)
        assert not await redis.keys("{w.*:in:globex")


async def test_nobody_speaks_in_a_session_but_at_the_owner_of_ones_own(
    serve: Serve, redis: Redis, open_gateway: OpenGateway
) -> None:
    mine = Place(NAME, "default", "s1")
    async with serve(HASH_TARGET) as verifier, open_gateway() as url, guest(socket_at(url)) as device:
        owner, cancel = verifier.info.wid, pack(Cancel("s1"))
        await device.asks(Follow(1, "s1", 0, 0), Followed)
        assert (await device.asks(Publish(2, owner, cancel), Refused)).code == RefusedCode.GONE  # a sibling's, maybe
        await redis.hset(mine.head, mapping={"epoch": 1, "worker": owner, "status": "open"})
        assert "owner" in (await device.asks(Publish(3, "another", cancel), Refused)).sentence
        await device.asks(Publish(4, owner, cancel), Done)
        await redis.hset(mine.head, "worker", "gone")  # whoever is spoken to may take it over
        await device.asks(Follow(5, "s1", 0, 0), Followed)
        assert "inbox" in (await device.asks(Publish(6, "another", cancel), Refused)).sentence


async def test_a_gateway_seals_for_a_device_that_has_no_key(
    serve: Serve, redis: Redis, open_gateway: OpenGateway
) -> None:
    key = await tenant(redis, seals=True)
    async with (
        serve(HASH_TARGET, service_key=SERVICE_KEY.hex(), tenants=("acme",)),
        open_gateway(service_key=SERVICE_KEY.hex()) as url,
        dsdq.connect(socket_at(url), key=key) as client,
    ):
        generation = client.generate([1, 2, 3], draft="hash:0.8", max_tokens=20)
        assert [token.id async for token in generation] == decode([1, 2, 3], 20)
    assert not await redis.exists(keys.DEAD_LETTERS)


async def test_a_device_with_a_key_seals_itself(
    serve: Serve, redis: Redis, open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await tenant(redis, seals=True)
    monkeypatch.setenv("DSDQ_PRODUCER", "laptop")
    monkeypatch.setenv("DSDQ_PRODUCER_KEY", producer_key(TENANT_SECRET, "laptop").hex())
    monkeypatch.setenv("DSDQ_API_KEY", key)
    settings.cache_clear()
    try:
        async with (
            serve(HASH_TARGET, service_key=SERVICE_KEY.hex(), tenants=("acme",)),
            open_gateway(service_key=SERVICE_KEY.hex()) as url,
            dsdq.connect(socket_at(url)) as client,
        ):
            generation = client.generate([1, 2, 3], draft="hash:0.8", max_tokens=20)
            assert [token.id async for token in generation] == decode([1, 2, 3], 20)
    finally:
        settings.cache_clear()
    assert [key async for key in redis.scan_iter("{p.laptop}:acme:*:log")]
    assert not await redis.exists(keys.DEAD_LETTERS)


# What becomes of those who do not keep the rules


@pytest.mark.parametrize(
    ("said", "close"),
    [
        (b"garbage", Close.FRAME),
        (b"", Close.FRAME),
        ("text", Close.FRAME),
        (pack_frame(Done(1)), Close.FRAME),
        (bytes((1 << 20) + 2000), 1009),
    ],
    ids=["garbage", "nothing", "a text", "an answer", "too much"],
)
@pytest.mark.parametrize("when", ["before hello", "after"])
async def test_what_is_no_frame_ends_its_connection_and_no_other(
    place: str, said: bytes | str, close: int, when: str
) -> None:
    async with guest(place) as other, raw(place) as device:
        if when == "after":
            await device.greets()
        await device.say(said)
        assert await device.end() == close
        await other.asks(WORKERS, Workers)


async def test_who_says_hello_again_is_ended(place: str) -> None:
    async with guest(place) as device:
        await device.say(Hello(NAME, secret=SECRET))
        assert await device.end() == Close.FRAME


async def test_who_does_not_speak_the_protocol_is_told(place: str) -> None:
    async with raw(place, subprotocols=None) as device:
        assert await device.end() == Close.FRAME


async def test_who_says_nothing_is_ended(open_gateway: OpenGateway) -> None:
    async with open_gateway(device_hello_ms=50) as url, raw(socket_at(url)) as device:
        assert await device.end() == Close.SLOW


async def test_there_are_so_many_places_and_no_more(acme: str, globex: str, open_gateway: OpenGateway) -> None:
    async with open_gateway(gateway_devices=4, gateway_tenant_devices=2) as url, AsyncExitStack() as here:
        place = socket_at(url)
        for key in (acme, acme, globex):
            await here.enter_async_context(guest(place, key=key))
        async with raw(place, acme) as third:
            await third.hears(Challenge)
            await third.say(Hello(NAME, secret=SECRET))
            assert await third.end() == Close.MANY
        last = await here.enter_async_context(guest(place, key=globex))
        async with raw(place, globex) as fifth:
            await fifth.hears(Challenge)
            await fifth.say(Hello(NAME, secret=SECRET))
            assert await fifth.end() == Close.MANY
        await last.socket.close()
        with pytest.raises(ConnectionClosed):
            await last.next()
        await here.enter_async_context(guest(place, key=globex))


async def test_more_sessions_than_there_may_be_are_refused_until_one_is_left(open_gateway: OpenGateway) -> None:
    async with open_gateway(device_sessions=2) as url, guest(socket_at(url)) as device:
        for id_, session in enumerate(("a", "b", "a"), 1):  # one that is followed may be asked for again
            await device.asks(Follow(id_, session, 0, 0), Followed)
        assert (await device.asks(Follow(4, "c", 0, 0), Refused)).code == RefusedCode.TOO_MANY
        await device.say(Unfollow("a"))
        await device.asks(Follow(5, "c", 0, 0), Followed)


async def test_frames_that_come_together_count_in_their_order(open_gateway: OpenGateway) -> None:
    cancel = Publish(2, "nobody", pack(Cancel("a")))
    async with open_gateway(device_sessions=1) as url, guest(socket_at(url)) as device:
        device.says_at_once(Follow(1, "a", 0, 0), Unfollow("a"))
        await device.hears(Followed)
        assert (await device.asks(cancel, Refused)).code == RefusedCode.FORBIDDEN
        device.says_at_once(Follow(1, "a", 0, 0), cancel, Unfollow("a"))
        frames = {type(frame): frame for frame in (await device.next(), await device.next())}  # in any order
        assert Followed in frames
        refused = frames[Refused]
        assert isinstance(refused, Refused)
        assert refused.code == RefusedCode.GONE  # nobody's session by now, but it was followed
        device.says_at_once(Follow(1, "a", 0, 0), Unfollow("a"), Follow(2, "b", 0, 0))
        assert {(await device.hears(Followed)).id for _ in range(2)} == {1, 2}


async def test_follows_that_wait_while_another_fails_fail_with_it_and_what_comes_later_comes(
    redis: Redis, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, over = list[Place](), asyncio.Event()
    visits = list[Visit]()

    class Watched(Visit):
        async def run(self) -> None:
            visits.append(self)
            await super().run()

    async def fail(_: Redis, of: Place) -> None:
        attempts.append(of)
        await over.wait()
        raise RedisUnavailableError("no answer")

    monkeypatch.setattr(ingress, "Visit", Watched)
    async with guest(place) as device:
        with monkeypatch.context() as outage:
            outage.setattr(errands, "read_head", fail)
            for id_, session in enumerate(("a", "b", "c"), 1):
                await device.say(Follow(id_, session, 0, 0))
            while visits[0]._asked < 3:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)  # the last begins to wait
            over.set()
            refused = [await device.hears(Refused) for _ in range(3)]
            assert {one.code for one in refused} == {RefusedCode.UNAVAILABLE}
            assert [of.session for of in attempts] == ["a"]
        for session in ("a", "b", "c"):
            await redis.xadd(Place(NAME, "default", session).log, {"m": b"m", "e": 1}, id="1-0")
        frames = [await device.next() for _ in range(3)]
        assert {frame.session for frame in frames if isinstance(frame, Entry)} == {"a", "b", "c"}
        await device.asks(Follow(4, "d", 0, 0), Followed)


async def test_a_flood_ends_whoever_sends_it_and_a_text_goes_on(serve: Serve, open_gateway: OpenGateway) -> None:
    async with (
        serve(HASH_TARGET, hash_step_ms=5),
        open_gateway(device_requests=8) as url,
        dsdq.connect(socket_at(url)) as client,
        guest(socket_at(url)) as flooding,
    ):
        text = client.generate([1, 2, 3], draft="hash:0.8", max_tokens=80)
        first = (await anext(aiter(text))).id
        for id_ in range(1, 1000):
            with suppress(ConnectionClosed):
                await flooding.say(Publish(id_, "nobody", opening(contract_of("s1"))))
        assert await flooding.end() == Close.MANY
        assert [first, *[token.id async for token in text]] == decode([1, 2, 3], 80)


async def test_who_takes_no_answers_has_no_more_requests_done(redis: Redis, open_gateway: OpenGateway) -> None:
    await long_log(redis, 200)
    visits = list[Visit]()
    ends = list[EndedError]()

    class Watched(Visit):
        async def run(self) -> None:
            visits.append(self)
            try:
                await super().run()
            except EndedError as error:
                ends.append(error)
                raise

    async with open_gateway(device_requests=8, device_stall_ms=60_000) as url:
        with patch.object(ingress, "Visit", Watched):
            async with guest(socket_at(url)) as slow:
                slow.socket.transport.pause_reading()
                await slow.say(Follow(1, "long", 0, 0))
                while visits[0]._room.is_set():
                    await asyncio.sleep(0.01)
                for id_ in range(2, 300):
                    if ends:
                        break
                    await slow.say(AskWorkers(id_))
                    await asyncio.sleep(0.01)  # one by one: no flood
                assert [error.close for error in ends] == [Close.MANY]
                assert visits[0]._out_bytes < ENTRIES_OF_A_LOG * 61_000 + (1 << 18)


async def test_who_takes_nothing_has_nothing_read_for_it_and_is_cut_off_and_comes_back_to_where_it_was(
    serve: Serve, redis: Redis, open_gateway: OpenGateway
) -> None:
    entries = 200
    await long_log(redis, entries)
    visits = list[Visit]()

    class Watched(Visit):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            visits.append(self)

    async with (
        serve(HASH_TARGET),
        open_gateway(device_stall_ms=300) as url,
        dsdq.connect(socket_at(url)) as client,
    ):
        with patch.object(ingress, "Visit", Watched):
            async with guest(socket_at(url)) as slow:
                slow.socket.transport.pause_reading()
                await slow.say(Follow(1, "long", 0, 0))
                text = client.generate([1, 2, 3], draft="hash:0.8", max_tokens=40)
                assert [token.id async for token in text] == decode([1, 2, 3], 40)
                while visits[0].ended is None:
                    assert visits[0]._out_bytes < ENTRIES_OF_A_LOG * 61_000 + (1 << 18)
                    await asyncio.sleep(0.01)
                assert visits[0].ended.close == Close.SLOW
                slow.socket.transport.resume_reading()
                await slow.end()
        async with guest(socket_at(url)) as back:
            await back.say(Follow(1, "long", 150, 1))
            numbers = list[int]()
            while len(numbers) < entries - 150:
                if isinstance(frame := await back.next(), Entry):
                    numbers.append(frame.number)
    assert numbers == list(range(151, entries + 1))


async def test_whatever_frames_come_the_gateway_goes_on(serve: Serve, open_gateway: OpenGateway) -> None:
    frames = st.lists(st.binary(max_size=60) | FRAMES.map(pack_frame), max_size=20)
    examples = list[list[bytes]]()

    @hypothesis.settings(max_examples=100, database=None)
    @hypothesis.given(frames)
    def draw(found: list[bytes]) -> None:
        examples.append(found)

    draw()
    async with serve(HASH_TARGET), open_gateway() as url:
        for found in examples:
            async with guest(socket_at(url)) as device:
                with suppress(ConnectionClosed):
                    for data in found:
                        await device.say(data)
        async with dsdq.connect(socket_at(url)) as client:
            text = client.generate([1, 2, 3], draft="hash:0.8", max_tokens=20)
            assert [token.id async for token in text] == decode([1, 2, 3], 20)
