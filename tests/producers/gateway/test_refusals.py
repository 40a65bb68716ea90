"""What cannot be served is refused in OpenAI's shape, by name, with the status that its client makes an error of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from dsdq.bus.tenants import TenantStore
from dsdq.models.names import HASH_TARGET
from dsdq.tenants import Limits, Tenant, fresh_key
from producers.device import client as clients
from producers.device import generation
from producers.device.finding import Directory
from producers.device.way import Way
from producers.openai.errors import ApiError
from producers.openai.requests import CHAT, COMPLETIONS, parse, read_body
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, asking_at

ASKED: dict[str, Any] = {"model": HASH_TARGET, "prompt": "a"}


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"best_of": 3}, "best_of", "unsupported_parameter"),
        ({"echo": True}, "echo", "unsupported_parameter"),
        ({"temprature": 0}, "temprature", "unknown_parameter"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", None),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 100, "prompt": ["a", "b"]}, "n", None),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stop": ["x" * 200]}, "stop", None),
        ({"stop": [""]}, "stop", None),
        ({"logit_bias": {"x": 1}}, "logit_bias", None),
        ({"logit_bias": {"1": 200}}, "logit_bias", None),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [[]]}, "prompt", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"max_tokens": 5000}, "max_tokens", "context_length_exceeded"),
        ({"prompt": [5000]}, None, "prompt_invalid"),
    ],
)
async def test_a_bad_parameter_is_named(
    client: openai.AsyncOpenAI, changed: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.post("/completions", body=ASKED | changed, cast_to=object)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"


async def test_what_asks_for_nothing_is_no_matter(client: openai.AsyncOpenAI) -> None:
    plain = {"best_of": 1, "echo": False, "suffix": None, "store": False, "tools": None, "user": "me", "seed": None}
    found: Any = await client.post("/completions", body=ASKED | plain, cast_to=object)
    assert found["usage"]["completion_tokens"] == 16


async def test_models_and_routes_that_there_are_not(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.completions.create(model="nobody", prompt="a")
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")
    assert (await client.models.retrieve(HASH_TARGET)).id == HASH_TARGET
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model=HASH_TARGET, input="a")
    with pytest.raises(openai.APIStatusError) as refused_method:
        await client.get("/completions", cast_to=object)
    assert refused_method.value.status_code == 405


async def test_names_that_clients_make_up_are_not_kept(serve: Serve, open_gateway: OpenGateway) -> None:
    found = list[Directory]()

    class Watched(Directory):
        def __init__(self, way: Way) -> None:
            super().__init__(way)
            found.append(self)

    with patch.object(clients, "Directory", Watched):
        async with serve(HASH_TARGET, allow_unsafe_redis=True), open_gateway() as url, asking_at(url) as client:
            for number in range(5):
                with pytest.raises(openai.NotFoundError):
                    await client.completions.create(model=f"made up {number}", prompt="a")
            await client.completions.create(**ASKED)
    assert [set(one._shown) for one in found] == [{None, HASH_TARGET}]


async def test_what_nobody_expected_is_a_500_and_not_a_wait_without_an_end(client: openai.AsyncOpenAI) -> None:
    failing = patch.object(generation, "ShownText", side_effect=ZeroDivisionError)
    with failing, pytest.raises(openai.InternalServerError) as failed:
        await client.completions.create(**ASKED)
    assert (failed.value.status_code, failed.value.code) == (500, "internal")


async def test_nobody_serves(redis: Redis, open_gateway: OpenGateway) -> None:
    del redis
    async with open_gateway() as url, asking_at(url) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await client.completions.create(**ASKED)
        assert refused.value.status_code == 503
        assert "retry-after" in refused.value.response.headers


async def test_keys_open_what_is_their_tenants(redis: Redis, serve: Serve, open_gateway: OpenGateway) -> None:
    store, now = TenantStore(redis), datetime.now(UTC)
    keys = dict[str, str]()
    for name, limits in (("acme", Limits(committed_per_minute=20)), ("globex", Limits())):
        keys[name], key = fresh_key(name)
        await store.add(Tenant(name=name, created=now, keys=(key,), limits=limits))
    async with serve(HASH_TARGET, allow_unsafe_redis=True), open_gateway() as url:

        def client(key: str) -> openai.AsyncOpenAI:
            return asking_at(url, key)

        async with client(keys["acme"]) as acme, client(keys["globex"]) as globex:
            for wrong in ("wrong", keys["acme"][:-1] + "x", keys["acme"].replace("acme", "globex")):
                async with client(wrong) as stranger:
                    with pytest.raises(openai.AuthenticationError):
                        await stranger.models.list()
            assert (await globex.completions.create(**ASKED, max_tokens=100)).usage
            await acme.completions.create(**ASKED, max_tokens=16)
            with pytest.raises(openai.RateLimitError) as over:
                await acme.completions.create(**ASKED, max_tokens=16)
            assert (over.value.code, over.value.param) == ("rate_limit_exceeded", "committed_per_minute")
            assert int(over.value.response.headers["retry-after"]) >= 1
            with pytest.raises(openai.RateLimitError) as never:
                await acme.completions.create(**ASKED, max_tokens=100)
            assert never.value.code == "insufficient_quota"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ("model", "prompt", "messages", "n", "stop", "seed", "logit_bias", "temperature", "max_tokens", "logprobs", "tools")
)


@given(st.dictionaries(NAMES, JSON, max_size=6), st.sampled_from((COMPLETIONS, CHAT)))
def test_whatever_is_asked_is_a_request_or_refused(body: dict[str, Any], endpoint: str) -> None:
    refused = refusal(lambda: parse(endpoint, {"model": "m", "prompt": "p"} | body))
    assert refused is None or (refused.status == 400 and refused.message)


@given(st.binary(max_size=60) | JSON.map(lambda one: repr(one).encode()))
def test_whatever_is_sent_is_an_object_or_refused(body: bytes) -> None:
    refused = refusal(lambda: read_body(body))
    assert refused is None or refused.status == 400


def refusal(work: Callable[[], object]) -> ApiError | None:
    try:
        work()
    except ApiError as error:
        return error
    return None
