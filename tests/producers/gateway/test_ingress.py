"""Who is let in at a gateway's WebSocket, and who is let stay."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from redis.asyncio import Redis
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus

import dsdq
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError, DeniedError, GatewayUnavailableError, UnavailableError
from dsdq.sealing import name_made_of, producer_key, proof_of
from dsdq.settings import Settings
from dsdq.tenants import fresh_key, wrap
from dsdq.wire.frames import (
    SUBPROTOCOL,
    AskWorkers,
    Challenge,
    Close,
    Hello,
    Welcome,
    Workers,
)
from producers.gateway import ingress
from producers.gateway.badges import Badge, Badges, EndedError
from producers.gateway.doors import Doors
from producers.gateway.ingress import Ingress
from producers.gateway.metrics import Metrics
from producers.gateway.visit import Bounds
from tests.producers.gateway.conftest import OpenGateway, socket_at
from tests.producers.gateway.raw import (
    NAME,
    SECRET,
    SERVICE_KEY,
    TENANT_SECRET,
    guest,
    raw,
    tenant,
)

WORKERS = AskWorkers(1)


async def test_while_there_are_no_tenants_everybody_is_default(place: str) -> None:
    async with raw(place) as device:
        welcome = await device.greets()
    assert (welcome.tenant, welcome.sessions, welcome.message_bytes) == ("default", 64, 1 << 20)


@pytest.mark.parametrize("where", ["header", "first frame"])
async def test_a_key_opens_what_is_its_tenants_and_a_wrong_one_nothing(acme: str, place: str, where: str) -> None:
    wrong = acme[:-1] + ("0" if acme[-1] != "0" else "1")
    for key, welcome in ((acme, True), (wrong, False), ("", False)):
        header = key if where == "header" else ""
        hello = Hello(NAME, key="" if where == "header" else key, secret=SECRET)
        async with raw(place, header) as device:
            await device.hears(Challenge)
            await device.say(hello)
            if welcome:
                assert (await device.hears(Welcome)).tenant == "acme"
            else:
                assert await device.end() == Close.KEY


async def test_a_client_with_a_wrong_key_or_tenant_is_told_so(acme: str, place: str) -> None:
    with pytest.raises(DeniedError, match="Incorrect API key"):
        async with dsdq.connect(place, key=acme.replace("acme", "globex")):
            pass
    with pytest.raises(ConfigError, match="globex"):
        async with dsdq.connect(place, key=acme, tenant="globex"):
            pass
    async with dsdq.connect(place, key=acme, tenant="acme"):
        pass


async def test_a_key_for_redis_and_a_gateway_that_is_not_there_are_told(place: str) -> None:
    with pytest.raises(ConfigError, match="key"):
        dsdq.connect("redis://127.0.0.1:1/0", key="k")
    with pytest.raises(GatewayUnavailableError):
        async with dsdq.connect("ws://127.0.0.1:1"):
            pass
    with pytest.raises(DeniedError, match="40"):
        async with dsdq.connect(place + "/v1/nothing"):
            pass


async def test_a_name_that_is_not_shown_to_be_ones_own_is_refused(place: str) -> None:
    for hello in (
        Hello("phone", secret=SECRET),
        Hello(name_made_of(bytes(32)), secret=SECRET),
        Hello("a" * 50 + "-x", secret=SECRET),
        Hello("phone", proof=bytes(16)),  # the tenant has no secret to compare it with
    ):
        async with raw(place) as device:
            await device.hears(Challenge)
            await device.say(hello)
            assert await device.end() == Close.FORBIDDEN


async def test_a_device_with_a_key_of_its_own_shows_it(redis: Redis, open_gateway: OpenGateway) -> None:
    key = await tenant(redis, seals=True)
    shown = ((TENANT_SECRET, None, True), (SERVICE_KEY, None, False), (TENANT_SECRET, bytes(16), False))
    async with open_gateway(service_key=SERVICE_KEY.hex()) as url:
        for secret, nonce, welcome in shown:
            async with raw(socket_at(url), key) as device:
                asked = (await device.hears(Challenge)).nonce if nonce is None else nonce
                await device.say(Hello("laptop", proof=proof_of(producer_key(secret, "laptop"), asked)))
                if welcome:
                    await device.hears(Welcome)
                else:
                    assert await device.end() == Close.FORBIDDEN


async def test_who_proved_itself_with_a_secret_that_is_dropped_is_ended(
    redis: Redis, open_gateway: OpenGateway
) -> None:
    key, fresh = await tenant(redis, seals=True), wrap(SERVICE_KEY, "acme", bytes(32))
    async with open_gateway(service_key=SERVICE_KEY.hex()) as url, raw(socket_at(url), key) as device:
        nonce = (await device.hears(Challenge)).nonce
        proof = proof_of(producer_key(TENANT_SECRET, "laptop"), nonce)
        await device.asks(Hello("laptop", proof=proof), Welcome)
        await TenantStore(redis).change("acme", lambda found: found.model_copy(update={"secrets": (fresh,)}))
        assert await device.end() == Close.FORBIDDEN


async def test_a_gateway_that_cannot_read_a_tenants_secret_lets_none_of_it_in(
    redis: Redis, open_gateway: OpenGateway
) -> None:
    key = await tenant(redis, seals=True)
    async with open_gateway() as url, raw(socket_at(url), key) as device:
        await device.hears(Challenge)
        await device.say(Hello(NAME, secret=SECRET))
        assert await device.end() == Close.FORBIDDEN


@pytest.mark.parametrize(("change", "close"), [("revoked", Close.KEY), ("disabled", Close.FORBIDDEN)])
async def test_who_may_no_longer_be_here_is_ended_and_nobody_else(
    acme: str, globex: str, redis: Redis, place: str, change: str, close: Close
) -> None:
    _, fresh = fresh_key("acme")
    update: dict[str, Any] = {"keys": (fresh,)} if change == "revoked" else {"enabled": False}
    async with guest(place, key=acme) as ended, guest(place, key=globex) as staying:
        await TenantStore(redis).change("acme", lambda found: found.model_copy(update=update))
        assert await ended.end() == close
        await staying.asks(WORKERS, Workers)


@pytest.mark.parametrize("failure", [EndedError(Close.LATER, "records cannot be read"), RuntimeError("a defect")])
async def test_who_could_not_be_checked_is_checked_again(
    acme: str, redis: Redis, place: str, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    failures, again = [failure], Badges.again

    async def failing(badges: Badges, badge: Badge) -> Badge:
        if failures:
            raise failures.pop()
        return await again(badges, badge)

    async with guest(place, key=acme) as device:
        monkeypatch.setattr(Badges, "again", failing)
        await TenantStore(redis).change("acme", lambda found: found.model_copy(update={"enabled": False}))
        assert await device.end() == Close.FORBIDDEN
    assert failures == []


async def test_records_that_cannot_be_read_end_no_watch(
    acme: str, redis: Redis, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, version = [RuntimeError("a defect")], TenantStore.version

    async def failing(store: TenantStore) -> int:
        if failures:
            raise failures.pop()
        return await version(store)

    async with guest(place, key=acme) as device:
        monkeypatch.setattr(TenantStore, "version", failing)
        while failures:
            await asyncio.sleep(0.01)
        await TenantStore(redis).change("acme", lambda found: found.model_copy(update={"enabled": False}))
        assert await device.end() == Close.FORBIDDEN


async def test_the_first_tenant_ends_who_came_without_a_key(redis: Redis, place: str) -> None:
    async with guest(place) as device:
        await tenant(redis)
        assert await device.end() == Close.KEY


async def test_other_sites_pages_are_kept_out_where_no_key_does(place: str) -> None:
    for origin in ("https://evil.example", "http://[::1", "null"):
        async with raw(place, origin=origin) as device:
            await device.hears(Challenge)
            await device.say(Hello(NAME, secret=SECRET))
            assert await device.end() == Close.FORBIDDEN
    async with raw(place, origin=place.replace("ws:", "http:")) as device:
        await device.greets()


async def test_a_page_of_any_site_comes_in_with_a_key(acme: str, place: str) -> None:
    async with raw(place, origin="https://shop.example") as device:
        assert (await device.greets(Hello(NAME, key=acme, secret=SECRET))).tenant == "acme"


async def test_a_page_comes_back_while_nobody_knows_whether_keys_are_needed(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doors, "are_open", AsyncMock(side_effect=UnavailableError("redis: gone")))
    async with raw(place, origin="https://shop.example") as device:
        await device.hears(Challenge)
        await device.say(Hello(NAME, secret=SECRET))
        assert await device.end() == Close.LATER


@pytest.mark.parametrize("word", ["challenge", "close"])
async def test_who_goes_away_before_a_word_of_the_gateways_is_no_defect(word: str) -> None:
    said = [{"type": "websocket.connect"}, {"type": "websocket.receive", "bytes": b"garbage"}]
    words = list[str]()

    async def receive() -> Any:
        return said.pop(0)

    async def send(message: Any) -> None:
        words.append(message["type"])
        if len(words) == {"challenge": 2, "close": 3}[word]:
            raise OSError("it is gone")

    scope = {"type": "websocket", "headers": [], "subprotocols": [SUBPROTOCOL], "state": {"abort": Mock()}}
    serving = Ingress(Mock(), Mock(), Bounds.of(Settings()), Metrics(), strangers=1)
    await serving.serve(WebSocket(scope, receive, send))
    assert words == ["websocket.accept", "websocket.send", "websocket.close"][: len(words)]
    assert len(words) == {"challenge": 2, "close": 3}[word]


async def test_who_is_not_let_in_takes_no_place_of_a_devices(open_gateway: OpenGateway) -> None:
    async with open_gateway(gateway_devices=1) as url, AsyncExitStack() as here:
        for _ in range(3):
            await (await here.enter_async_context(raw(socket_at(url)))).hears(Challenge)
        await here.enter_async_context(guest(socket_at(url)))
        async with raw(socket_at(url)) as second:
            await second.hears(Challenge)
            await second.say(Hello(NAME, secret=SECRET))
            assert await second.end() == Close.MANY


async def test_so_many_may_wait_to_be_let_in_and_whoever_else_comes_is_to_come_back(open_gateway: OpenGateway) -> None:
    async with open_gateway(gateway_strangers=2) as url, guest(socket_at(url)) as device:
        async with raw(socket_at(url)) as first, raw(socket_at(url)):
            await first.hears(Challenge)
            with pytest.raises(InvalidStatus, match="503"):
                async with raw(socket_at(url)):
                    pass
            with pytest.raises(GatewayUnavailableError):
                async with dsdq.connect(socket_at(url)):
                    pass
            await device.asks(WORKERS, Workers)
        await comes_in(socket_at(url))


async def test_who_is_refused_keeps_its_place_until_its_socket_is_gone_for_certain(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gateway(gateway_strangers=1) as url:
        for close_s in (0.01, 3600.0):
            monkeypatch.setattr(ingress, "CLOSE_S", close_s)
            async with raw(socket_at(url)) as refused:
                await refused.say(b"garbage")
                assert await refused.end() == Close.FRAME
            if close_s < 1:
                await comes_in(socket_at(url))
        with pytest.raises(InvalidStatus, match="503"):
            async with raw(socket_at(url)):
                pass


async def comes_in(place: str) -> None:
    """Come back until there is a place."""
    while True:
        with suppress(InvalidStatus):
            async with guest(place):
                return
