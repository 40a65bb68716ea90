"""Devices under their own Redis users, with sealed messages, against a verifier under its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgpack
import pytest
from pydantic import SecretBytes
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.acl import GATEWAY, VERIFIER, device_name, users
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.bus.publishing import publish
from dsdq.bus.tenants import TenantStore
from dsdq.contract import Contract
from dsdq.errors import ConfigError, DeniedError
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.processes import spawn
from dsdq.sealing import Seal, producer_key, sealed
from dsdq.settings import settings
from dsdq.tasks import end
from dsdq.tenants import Tenant, fresh_key
from dsdq.testing.hashed import decode
from dsdq.versions import NEWEST
from dsdq.wire import Cancel, Open, pack, pack_contract
from tests.conftest import Serve, newest_server
from tests.producers.gateway.conftest import asking_at, gateway_at

TENANTS = ("acme", "globex")
SECRETS = {"acme": SecretBytes(bytes(range(32)))}
PROMPT = [1, 2, 3]
TOKENS = 24


@dataclass(frozen=True)
class Place:
    """A server with users, and the URL of each."""

    admin: Redis
    url: Callable[[str], str]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with EmbeddedRedis(port=0, program=newest_server()) as server:
        admin = open_redis(server.url)
        for user in users(TENANTS, (7, 0)):
            await admin.execute_command("ACL SETUSER", user.name, "reset", "on", ">password", *user.rules)
        yield Place(admin, lambda user: server.url.replace("//", f"//{user}:password@"))
        await admin.aclose()


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that makes this process the device of a name, with the key that belongs to it."""

    def become(producer: str) -> None:
        monkeypatch.setenv("DSDQ_PRODUCER", producer)
        monkeypatch.setenv("DSDQ_PRODUCER_KEY", key_of(producer).hex())
        settings.cache_clear()

    yield become
    settings.cache_clear()


def key_of(producer: str) -> bytes:
    return producer_key(SECRETS["acme"].get_secret_value(), producer)


async def until_buried(admin: Redis, count: int) -> list[dict[bytes, bytes]]:
    async with asyncio.timeout(30):
        while await admin.xlen(keys.DEAD_LETTERS) < count:
            await asyncio.sleep(0.01)
    return [letter for _, letter in await admin.xrange(keys.DEAD_LETTERS)]


async def test_devices_generate_under_users_that_may_do_no_more_than_that_takes(serve: Serve, place: Place) -> None:
    async with serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS):
        for tenant in TENANTS:
            async with dsdq.connect(place.url(device_name(tenant)), tenant=tenant) as client:
                for draft in ("hash:0.5", "none"):
                    generation = client.generate(PROMPT, draft=draft, max_tokens=TOKENS)
                    assert [token.id async for token in generation] == decode(PROMPT, TOKENS)
    # A device asks how the server is, and is not told; nothing else was refused to anybody.
    assert {one["object"] for one in await place.admin.acl_log()} <= {"info"}


async def test_gateways_and_batch_workers_speak_for_tenants_that_seal_under_a_user_of_their_own(
    serve: Serve, place: Place
) -> None:
    key, record = fresh_key("acme")
    await TenantStore(place.admin).add(Tenant(name="acme", created=datetime.now(UTC), keys=(record,)))
    url, secret = place.url(GATEWAY), SECRETS["acme"].get_secret_value().hex()
    line = {"model": HASH_TARGET, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    request = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": line}
    worker = [sys.executable, "-m", "dsdq", "batch", "worker", "--redis", url, "--draft", "hash:0.5"]
    async with (
        serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS, tenant_secrets=SECRETS),
        gateway_at(url, tenant_secrets=SECRETS) as address,
        asking_at(address, key) as client,
    ):
        text = (await client.completions.create(**line)).choices[0].text  # type: ignore[call-overload]
        file = await client.files.create(file=("in.jsonl", json.dumps(request).encode()), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        child = await spawn(["env", f"DSDQ_TENANT_SECRETS=acme={secret}", *worker], stdout=True)
        try:
            async with asyncio.timeout(60):
                while (batch := await client.batches.retrieve(batch.id)).status != "completed":
                    await asyncio.sleep(0.05)
        finally:
            await child.stop()
        assert batch.output_file_id is not None
        done = json.loads((await client.files.content(batch.output_file_id)).text)
    assert done["response"]["body"]["choices"][0]["text"] == text
    assert text == Tokenizer.load(HASH_TARGET).decode(decode(PROMPT, TOKENS))
    assert {(one["object"], one["username"]) for one in await place.admin.acl_log()} == set()


async def test_a_device_outlives_a_server_that_has_forgotten_its_scripts(serve: Serve, place: Place) -> None:
    async with (
        serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS),
        dsdq.connect(place.url(device_name("acme")), tenant="acme") as client,
    ):
        await place.admin.script_flush()
        generation = client.generate(PROMPT, draft="hash:0.5", max_tokens=TOKENS)
        assert [token.id async for token in generation] == decode(PROMPT, TOKENS)


async def test_a_device_with_its_key_is_heard_where_messages_must_be_sealed(
    serve: Serve, place: Place, be: Callable[[str], None]
) -> None:
    be("phone-7")
    async with (
        serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS, tenant_secrets=SECRETS),
        dsdq.connect(place.url(device_name("acme")), tenant="acme") as client,
    ):
        generation = client.generate(PROMPT, draft="hash:0.5", max_tokens=TOKENS)
        assert [token.id async for token in generation] == decode(PROMPT, TOKENS)
    assert await place.admin.xlen(keys.DEAD_LETTERS) == 0


async def test_a_device_without_a_key_is_not_heard_there(serve: Serve, place: Place) -> None:
    async with (
        serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS, tenant_secrets=SECRETS),
        dsdq.connect(place.url(device_name("acme")), tenant="acme") as client,
    ):
        asking = asyncio.create_task(anext(aiter(client.generate(PROMPT, draft="none", max_tokens=TOKENS))))
        (letter, *_) = await until_buried(place.admin, 1)
        await end(asking)
    assert b"expected a sealed message" in letter[b"reason"]


async def test_no_sibling_ends_a_devices_session(serve: Serve, place: Place, be: Callable[[str], None]) -> None:
    be("phone-7")
    async with (
        serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS, tenant_secrets=SECRETS) as verifier,
        dsdq.connect(place.url(device_name("acme")), tenant="acme") as client,
        open_redis(place.url(device_name("acme"))) as sibling,
    ):
        generation = client.generate(PROMPT, draft="hash:0.5", max_tokens=TOKENS, window=2)
        tokens = aiter(generation)
        ids = [(await anext(tokens)).id]
        (held,) = verifier._sessions
        cancel, malformed = pack(Cancel(held.session)), msgpack.packb({0: NEWEST, 1: 99, 2: held.session})
        forged = [
            (cancel, None),
            (cancel, sealed(key_of("phone-8"), "phone-7", held.session, cancel)),
            (cancel, sealed(key_of("phone-8"), "phone-8", held.session, cancel)),
            (cancel, sealed(key_of("phone-8"), "phone-8", "another", cancel)),
            (malformed, sealed(key_of("phone-8"), "phone-8", held.session, malformed)),
        ]
        for payload, seal in forged:
            await publish(sibling, verifier.info.wid, "acme", payload, producer=_who(seal), seal=seal)
        await until_buried(place.admin, len(forged))
        ids += [token.id async for token in tokens]
    assert ids == decode(PROMPT, TOKENS)


def _who(seal: Seal | None) -> str:
    return seal.producer if seal else "phone-7"


async def test_a_tenants_credential_opens_nothing_for_another(serve: Serve, place: Place) -> None:
    async with serve(HASH_TARGET, redis_url=place.url(VERIFIER), tenants=TENANTS) as verifier:
        with pytest.raises(DeniedError, match="permission"):
            async with dsdq.connect(place.url(device_name("acme")), tenant="globex"):
                pass
        async with open_redis(place.url(device_name("acme"))) as redis:
            contract = pack_contract(Contract("globex", "phone", "s1", HASH_TARGET, "f"))
            await publish(redis, verifier.info.wid, "acme", pack(Open("s1", contract, (1, 2))), producer="phone")
        (letter,) = await until_buried(place.admin, 1)
        assert b"another than its inbox" in letter[b"reason"]
    assert await place.admin.keys("*globex:s1*") == []


async def test_several_tenants_need_a_server_that_keeps_them_apart(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="more than one tenant"):
        async with serve(HASH_TARGET, tenants=TENANTS):
            pass
    async with serve(HASH_TARGET, tenants=TENANTS, allow_unsafe_redis=True):
        pass


async def test_nobody_is_shown_a_password(place: Place) -> None:
    wrong = place.url(device_name("acme")).replace(":password@", ":another-password@")
    impatient = {**os.environ, "DSDQ_FIND_VERIFIER_MS": "200"}
    for url, expected in ((place.url(device_name("acme")), "expected a verifier that speaks"), (wrong, "password")):
        arguments = ("-m", "dsdq", "generate", "--redis", url, "--tenant", "acme", "--draft", "ngram", "x")
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, *arguments], capture_output=True, text=True, env=impatient
        )
        assert ended.returncode == 2
        assert expected in ended.stderr
        assert ":password@" not in ended.stderr
        assert "another-password" not in ended.stderr
