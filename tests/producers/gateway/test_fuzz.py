"""Whatever is sent over HTTP is answered, never with a 500, and no session is left behind."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from dsdq.models.names import HASH_TARGET
from producers.openai.requests import CHAT, COMPLETIONS
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway
from tests.producers.gateway.test_refusals import JSON

EXAMPLES = 300
OTHERS = (
    "/",
    "/v1/models",
    "/v1/models/%00",
    "/v1/files",
    "/v1/files/%00",
    "/v1/files/x/content",
    "/v1/batches",
    "/v1/batches?limit=x&after=%00",
    "/v1/batches/x",
    "/v1/batches/x/cancel",
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
IDS = st.lists(st.integers(-1, 3000), max_size=8)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(-1, 4),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "seed": st.integers(-(1 << 70), 1 << 70),
    "max_tokens": st.integers(-1, 40) | st.integers(),
    "stop": TEXTS | st.lists(TEXTS, max_size=5),
    "temperature": st.floats(allow_nan=True),
    "top_p": st.floats(-0.5, 1.5),
    "top_k": st.integers(-5, 5000),
    "presence_penalty": st.floats(-3, 3),
    "logit_bias": st.dictionaries(st.integers(-1, 3000).map(str), st.floats(-120, 120), max_size=4),
    "stop_token_ids": IDS,
    "return_tokens": st.booleans(),
    "prompt": TEXTS | IDS | st.lists(TEXTS, max_size=3) | st.lists(IDS, max_size=3),
    "messages": st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(("user", "system", "assistant", "tool")), "content": TEXTS}),
        max_size=3,
    ),
}
BODIES = st.fixed_dictionaries(
    {"model": st.just(HASH_TARGET)}, optional={name: one | JSON for name, one in LIKELY.items()}
).map(lambda body: json.dumps(body).encode())


async def test_nothing_that_is_sent_is_a_500_or_leaves_a_session(serve: Serve, open_gateway: OpenGateway) -> None:
    async with serve(HASH_TARGET, allow_unsafe_redis=True) as verifier, open_gateway() as url:
        statuses = await asyncio.to_thread(_fuzz, urlsplit(url).netloc)
        while len(verifier._sessions):
            await asyncio.sleep(0.01)
    assert 200 in statuses
    assert 400 in statuses
    assert statuses < {200, 400, 404, 405, 413}


def _fuzz(place: str) -> set[int]:
    statuses, connection = set[int](), HTTPConnection(place, timeout=30)

    @settings(max_examples=EXAMPLES)
    @given(
        method=st.just("POST") | st.sampled_from(("GET", "PUT", "DELETE")),
        path=st.sampled_from((COMPLETIONS, CHAT, *OTHERS)),
        body=BODIES | JSON.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=50),
    )
    def send(method: str, path: str, body: bytes) -> None:
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
        statuses.add(answer.status)
        assert answer.status < 500, text
        assert b"server_error" not in text, text  # in a stream, whose status was sent before

    try:
        send()
    finally:
        connection.close()
    return statuses
