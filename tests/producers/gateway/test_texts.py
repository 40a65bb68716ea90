"""Texts over HTTP, asked for by OpenAI's own client: they are the target's, and look as that client expects."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import Any

import openai
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.telemetry.logs import configure
from dsdq.testing.hashed import decode
from producers.openai.chat import render
from producers.openai.requests import ChatMessage
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, asking_at

PROMPT, TOKENS = "def fib(n):", 40
TOKENIZER = Tokenizer.load(HASH_TARGET)
GREEDY: dict[str, Any] = {"model": HASH_TARGET, "temperature": 0, "max_tokens": TOKENS}


def text_of(ids: list[int], tokens: int = TOKENS) -> str:
    return TOKENIZER.decode(decode(ids, tokens))


async def test_a_completion_is_the_targets_text(client: openai.AsyncOpenAI) -> None:
    found = await client.completions.create(prompt=PROMPT, **GREEDY)
    ids = TOKENIZER.encode(PROMPT)
    assert (found.object, found.model, found.choices[0].finish_reason) == ("text_completion", HASH_TARGET, "length")
    assert found.choices[0].text == text_of(ids)
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len(ids), TOKENS)
    metrics = (found.model_extra or {})["metrics"]
    assert metrics["draft_tokens"] >= metrics["judged_tokens"] >= metrics["accepted_tokens"] > 0


async def test_a_stream_is_the_same_text(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(
        prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == text_of(TOKENIZER.encode(PROMPT))
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == TOKENS
    assert (chunks[-2].model_extra or {})["metrics"]["accepted_tokens"] > 0


async def test_several_prompts_and_choices_keep_their_places(client: openai.AsyncOpenAI) -> None:
    prompts = [[1, 2, 3], [4, 5]]
    found = await client.completions.create(prompt=prompts, n=2, **GREEDY)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in found.choices] == [text_of(ids) for ids in prompts for _ in range(2)]
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (5, 4 * TOKENS)


async def test_a_chat_is_written_by_the_models_template(client: openai.AsyncOpenAI) -> None:
    ids = render(TOKENIZER, [ChatMessage(role="user", content="hello")], HASH_TARGET)
    found = await client.chat.completions.create(messages=[{"role": "user", "content": "hello"}], **GREEDY)
    assert found.choices[0].message.content == text_of(ids)
    assert (found.object, found.choices[0].message.role) == ("chat.completion", "assistant")
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    stream = await client.chat.completions.create(messages=parts, stream=True, **GREEDY)
    deltas = [chunk.choices[0].delta async for chunk in stream]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == found.choices[0].message.content


async def test_a_seed_makes_a_text_again_and_choices_differ(client: openai.AsyncOpenAI) -> None:
    drawn = {"model": HASH_TARGET, "max_tokens": TOKENS, "prompt": PROMPT, "n": 2}
    first, second, other = [await client.completions.create(seed=seed, **drawn) for seed in (7, 7, -8)]  # type: ignore[call-overload]
    texts = [[choice.text for choice in one.choices] for one in (first, second, other)]
    assert texts[0] == texts[1]
    assert len({*texts[0], *texts[2]}) == 4


async def test_a_stop_string_ends_the_text_and_is_not_shown(client: openai.AsyncOpenAI) -> None:
    whole = text_of(TOKENIZER.encode(PROMPT))
    stop = whole[10:13]
    found = await client.completions.create(prompt=PROMPT, stop=[stop, "never"], **GREEDY)
    assert (found.choices[0].text, found.choices[0].finish_reason) == (whole[: whole.index(stop)], "stop")


async def test_tokens_say_where_they_came_from_if_asked(client: openai.AsyncOpenAI) -> None:
    found = await client.completions.create(prompt=PROMPT, extra_body={"return_tokens": True}, **GREEDY)
    tokens = (found.choices[0].model_extra or {})["tokens"]
    assert [token["id"] for token in tokens] == decode(TOKENIZER.encode(PROMPT), TOKENS)
    assert "".join(token["text"] for token in tokens) == found.choices[0].text
    assert {"accepted", "correction"} <= {token["kind"] for token in tokens}


async def test_log_probabilities_of_the_real_target(serve: Serve, open_gateway: OpenGateway) -> None:
    async with (
        serve("builtin/target", allow_unsafe_redis=True),
        open_gateway(drafts=("builtin/draft",)) as url,
        asking_at(url) as client,
    ):
        asked: dict[str, Any] = {"model": "builtin/target", "temperature": 0, "max_tokens": 12}
        found = await client.completions.create(prompt=PROMPT, logprobs=3, **asked)
        chat = await client.chat.completions.create(
            messages=[{"role": "user", "content": PROMPT}], logprobs=True, top_logprobs=2, **asked
        )
    likely = found.choices[0].logprobs
    assert likely is not None
    assert "".join(likely.tokens or []) == found.choices[0].text
    assert likely.token_logprobs == [max(one.values()) for one in likely.top_logprobs or []]
    assert [len(one) for one in likely.top_logprobs or []] == [3] * 12
    assert likely.text_offset == [len("".join((likely.tokens or [])[:at])) for at in range(12)]
    said = chat.choices[0].logprobs
    assert said is not None
    assert said.content is not None
    assert b"".join(bytes(one.bytes or []) for one in said.content).decode() == chat.choices[0].message.content
    assert all(one.logprob == one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob for one in said.content)


async def test_who_goes_away_ends_the_session(serve: Serve, open_gateway: OpenGateway) -> None:
    async with (
        serve(HASH_TARGET, allow_unsafe_redis=True, hash_step_ms=5) as verifier,
        open_gateway() as url,
        asking_at(url) as client,
    ):
        asked: dict[str, Any] = {"model": HASH_TARGET, "max_tokens": 3000, "prompt": [1, 2], "n": 3}
        stream = await client.completions.create(stream=True, **asked)
        await anext(aiter(stream))
        assert len(verifier._sessions)
        await stream.close()
        whole = asyncio.create_task(client.completions.create(**asked))
        while len(verifier._sessions) < 3:
            await asyncio.sleep(0.01)
        whole.cancel()
        while len(verifier._sessions):
            await asyncio.sleep(0.01)
        models = await client.models.list()
    assert [model.id for model in models.data] == [HASH_TARGET]


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_it_says_that_it_lives_and_serves(client: openai.AsyncOpenAI, path: str) -> None:
    answer = await client._client.get(str(client.base_url).removesuffix("/v1/") + path)
    assert answer.status_code == 200


async def test_logs_lead_from_an_answer_to_its_sessions_at_the_verifier(client: openai.AsyncOpenAI) -> None:
    before = structlog.get_config()
    configure("info")
    try:
        with capture_logs() as events:
            answer = await client.completions.create(model=HASH_TARGET, prompt="x", max_tokens=4, n=2)
            while sum(event["event"] == "answered" for event in events) < 1:
                await asyncio.sleep(0.01)
    finally:
        structlog.configure(**before)
    (answered,) = [event for event in events if event["event"] == "answered"]
    assert (answered["answer"], answered["tokens"], len(answered["sessions"])) == (answer.id, 8, 2)
    for told in ("opened", "ended"):
        assert sorted(answered["sessions"]) == sorted(e["session"] for e in events if e["event"] == told)


async def metrics(client: openai.AsyncOpenAI) -> dict[tuple[str, str | None], float]:
    place = str(client.base_url).removesuffix("v1/") + "metrics"
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(place).read().decode())  # noqa: S310 - our own
    return {
        (one.name, one.labels.get("path", one.labels.get("model_name"))): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


async def test_metrics_say_what_clients_got_and_prometheus_can_read_them(client: openai.AsyncOpenAI) -> None:
    for number in range(2):
        stream = await client.completions.create(prompt=f"text {number}", stream=True, **GREEDY)
        async for _ in stream:
            pass
    found = await metrics(client)
    while found["dsdq:http_requests_running", None]:  # a client has its last event before the gateway is done with it
        found = await metrics(client)
    assert found["dsdq:gateway_generation_tokens_total", HASH_TARGET] == 2 * TOKENS
    assert found["dsdq:http_requests_total", "/v1/completions"] == 2
    assert found["dsdq:time_to_first_token_seconds_count", HASH_TARGET] == 2
    assert found["dsdq:http_requests_running", None] == 0
