"""The client on a real service: what a program sees, and what happens when something ends early."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import TokenKind, keys
from dsdq.bus.sessions import LogEntry
from dsdq.errors import ConfigError, PromptError, RedisUnavailableError, SessionError
from dsdq.models.tokenizer import Tokenizer
from dsdq.settings import settings
from dsdq.testing.reference import load_reference
from producers.device.rounds import Rounds
from tests.conftest import Serve

PROMPT = "def f(x):"


@pytest.fixture
def target(tiny: Callable[[str], Path]) -> str:
    return str(tiny("llama"))


async def open_sessions(redis: Redis, worker: str) -> int:
    return int(await redis.scard(keys.worker_sessions(worker)))


async def exhaust(tokens: AsyncIterator[dsdq.Token]) -> None:
    async for _ in tokens:
        pass


async def until_no_session(redis: Redis, worker: str) -> None:
    async with asyncio.timeout(30):
        while await open_sessions(redis, worker):
            await asyncio.sleep(0.005)


async def test_tokens_their_kinds_and_the_figures_fit_together(serve: Serve, redis_url: str, target: str) -> None:
    async with serve(target), dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft=target, max_tokens=30, window=5, ignore_eos=True)
        tokens = [token async for token in generation]
    stats = generation.stats
    assert [token.id for token in tokens] == generation.ids
    assert "".join(token.text for token in tokens) == Tokenizer.load(target).decode(generation.ids)
    assert generation.finish_reason == "length"
    assert stats.committed_tokens == len(tokens) == 30
    # The draft is the target itself: everything is accepted, and each round adds a bonus token.
    assert stats.acceptance_rate == 1.0
    assert stats.rounds == 5
    kinds = [token.kind for token in tokens]
    assert kinds.count(TokenKind.BONUS) == 5
    assert kinds.count(TokenKind.ACCEPTED) == stats.accepted_tokens == 25
    assert len(stats.round_trips_ms) == len(stats.verify_ms) == stats.rounds
    assert stats.bytes_up > 0 < stats.bytes_down
    assert 0 < stats.ttft_ms <= stats.duration_ms


async def test_a_wrong_draft_gives_corrections_and_the_same_text(serve: Serve, redis_url: str, target: str) -> None:
    prompt = Tokenizer.load(target).encode(PROMPT)
    wanted = load_reference(target).decode(prompt, 20, dsdq.Sampling(), 0)
    async with serve(target), dsdq.connect(redis_url) as client:
        generation = client.generate(prompt, draft="random", max_tokens=20, window=4)
        kinds = [token.kind async for token in generation]
    assert generation.ids == wanted
    assert TokenKind.CORRECTION in kinds


@pytest.mark.parametrize("draft", ["none", "random", "builtin/target"])
async def test_text_is_shown_up_to_a_stop_string_and_ids_are_complete(serve: Serve, redis_url: str, draft: str) -> None:
    tokenizer = Tokenizer.load("builtin/target")
    prompt = tokenizer.encode("def add(a, b):\n")
    whole = load_reference("builtin/target").decode(prompt, 60, dsdq.Sampling(), 0)
    text = tokenizer.decode(whole)
    stop = text[24:27]  # inside the text, across a boundary of tokens or not
    end = next(n for n in range(1, 61) if stop in tokenizer.decode(whole[:n]))
    async with serve("builtin/target"), dsdq.connect(redis_url) as client:
        generation = client.generate(prompt, draft=draft, max_tokens=60, stop=["never in it", stop])
        pieces = [token.text async for token in generation]
    assert generation.ids == whole[:end]
    assert generation.finish_reason == "stop"
    assert "".join(pieces) == text[: text.index(stop)]


async def test_one_stop_string_may_be_given_alone(serve: Serve, redis_url: str) -> None:
    async with serve("builtin/target"), dsdq.connect(redis_url) as client:
        generation = client.generate("def add(a, b):\n", draft="ngram", max_tokens=60, stop="\n")
        text = "".join([token.text async for token in generation])
    assert generation.finish_reason == "stop"
    assert "\n" not in text


async def test_tokens_have_the_log_probabilities_that_were_asked_for(serve: Serve, redis_url: str, target: str) -> None:
    async with serve(target), dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft=target, max_tokens=6, window=3, ignore_eos=True, logprobs=2)
        tokens = [token async for token in generation]
        plain = [token async for token in client.generate(PROMPT, draft=target, max_tokens=2, ignore_eos=True)]
    for token in tokens:  # greedy: the committed token is the likeliest
        assert token.top_logprobs[0] == (token.id, token.logprob)
        assert len(token.top_logprobs) == 2
    assert {token.logprob for token in plain} == {None}


async def test_the_last_token_of_the_budget_needs_no_draft(serve: Serve, redis_url: str, target: str) -> None:
    async with serve(target), dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft=target, max_tokens=1, window=8)
        kinds = [token.kind async for token in generation]
    assert kinds == [TokenKind.TARGET]
    assert generation.stats.drafted_tokens == 0


async def test_many_generations_share_one_client(serve: Serve, redis_url: str, target: str) -> None:
    async with serve(target), dsdq.connect(redis_url) as client:
        generations = [client.generate([5, number], draft="ngram", max_tokens=12, window=3) for number in range(16)]

        await asyncio.gather(*(exhaust(aiter(generation)) for generation in generations))
    reference = load_reference(target)
    for number, generation in enumerate(generations):
        assert generation.ids == reference.decode([5, number], 12, dsdq.Sampling(), 0)


async def test_leaving_midway_frees_the_session(serve: Serve, redis: Redis, redis_url: str, target: str) -> None:
    async with serve(target) as verifier, dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft="none", max_tokens=400, ignore_eos=True)
        async with contextlib.aclosing(generation):  # type: ignore[type-var]
            async for _ in generation:
                break
        await until_no_session(redis, verifier.info.wid)
        assert generation.finish_reason is None


async def test_closing_the_client_ends_what_other_tasks_wait_for_and_what_they_have_under_way(
    serve: Serve, redis: Redis, redis_url: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, stopped = Rounds._stop, asyncio.Event()

    async def slow(rounds: Rounds) -> None:
        await asyncio.sleep(0.1)
        await stop(rounds)
        stopped.set()

    monkeypatch.setattr(Rounds, "_stop", slow)
    async with serve(target) as verifier:
        async with dsdq.connect(redis_url) as client:
            started = asyncio.Event()

            async def run() -> None:
                async for _ in client.generate(PROMPT, draft="none", max_tokens=400, ignore_eos=True):
                    started.set()

            running = asyncio.create_task(run())
            await started.wait()
        assert stopped.is_set()
        with pytest.raises(dsdq.DsdqError):
            await running
        await until_no_session(redis, verifier.info.wid)


async def test_a_cancelled_task_frees_its_session(serve: Serve, redis: Redis, redis_url: str, target: str) -> None:
    async with serve(target) as verifier, dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft="none", max_tokens=400, ignore_eos=True)
        tokens = aiter(generation)
        await anext(tokens)
        running = asyncio.create_task(exhaust(tokens))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until_no_session(redis, verifier.info.wid)


async def test_a_verifier_that_stops_hands_the_generation_to_the_next(
    serve: Serve, redis_url: str, target: str
) -> None:
    async with dsdq.connect(redis_url) as client:
        generation = client.generate([5, 6], draft="ngram", max_tokens=300, window=2, ignore_eos=True)
        tokens = aiter(generation)
        async with serve(target):
            await anext(tokens)
        async with serve(target):
            await exhaust(tokens)
    assert generation.ids == load_reference(target).decode([5, 6], 300, dsdq.Sampling(), 0)
    assert generation.stats.takeovers == 1


async def test_a_text_that_is_not_done_by_its_deadline_ends_with_an_error(
    serve: Serve, redis: Redis, redis_url: str, target: str
) -> None:
    async with serve(target) as verifier, dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft="none", max_tokens=400, ignore_eos=True, deadline_s=0.05)
        with pytest.raises(SessionError, match=r"within 0\.05 s"):
            await exhaust(aiter(generation))
        await until_no_session(redis, verifier.info.wid)


async def test_a_message_that_was_lost_is_sent_again(
    serve: Serve, redis_url: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSDQ_VERDICT_TIMEOUT_MS", "100")
    monkeypatch.setenv("DSDQ_OPEN_TIMEOUT_MS", "100")
    settings.cache_clear()
    async with serve(target) as verifier, dsdq.connect(redis_url) as client:
        inbox = verifier._inbox
        read, lost = inbox.read, []

        async def lossy(count: int, block_ms: int) -> list[object]:
            entries = await read(count, block_ms)
            if entries and len(lost) < 3:
                lost.append(entries.pop(0))
                await inbox.settle(lost[-1:])  # gone, as if it had never arrived
            return list(entries)

        monkeypatch.setattr(inbox, "read", lossy)
        generation = client.generate([5, 6], draft="ngram", max_tokens=12, window=3)
        ids = [token.id async for token in generation]
    settings.cache_clear()
    assert ids == load_reference(target).decode([5, 6], 12, dsdq.Sampling(), 0)
    assert len(lost) == 3
    assert generation.stats.repeats >= 2


async def test_an_empty_prompt_is_refused(serve: Serve, redis_url: str, target: str) -> None:
    async with serve(target), dsdq.connect(redis_url) as client:
        with pytest.raises(PromptError, match="at least one token"):
            await anext(aiter(client.generate([], draft="ngram")))


async def test_drafters_that_cannot_speak_for_one_session_are_refused(
    serve: Serve, redis_url: str, target: str
) -> None:
    async with serve(target), dsdq.connect(redis_url) as client:
        with pytest.raises(ConfigError, match="one tokenizer for all"):
            await anext(aiter(client.generate(PROMPT, draft=["builtin/draft", target])))
        with pytest.raises(ConfigError, match="drafters: expected 1 to 8, got 0"):
            await anext(aiter(client.generate(PROMPT, draft=[])))


async def test_two_models_need_a_name_and_the_name_chooses(
    serve: Serve, redis_url: str, target: str, tiny: Callable[[str], Path]
) -> None:
    other = str(tiny("gpt2"))
    async with serve(target), serve(other), dsdq.connect(redis_url) as client:
        with pytest.raises(ConfigError, match="several are served"):
            await anext(aiter(client.generate(PROMPT, draft="ngram")))
        for model in (target, other):
            generation = client.generate([5, 9], draft="ngram", model=model, max_tokens=6)
            ids = [token.id async for token in generation]
            assert ids == load_reference(model).decode([5, 9], 6, dsdq.Sampling(), 0)


async def test_a_client_that_was_not_entered_says_so() -> None:
    with pytest.raises(ConfigError, match="async with"):
        await anext(aiter(dsdq.connect("redis://127.0.0.1:1/0").generate("x", draft="ngram")))


async def test_no_redis_is_said_at_once() -> None:
    with pytest.raises(RedisUnavailableError):
        async with dsdq.connect("redis://127.0.0.1:1/0"):
            pass


async def test_a_tampered_verdict_is_never_shown(serve: Serve, redis_url: str, target: str) -> None:
    from dsdq.wire import Verdict, pack, unpack

    async with serve(target), dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft="none", max_tokens=300, ignore_eos=True)
        tokens = aiter(generation)
        await anext(tokens)
        subscription = generation._link._subscription  # type: ignore[attr-defined]
        taken = subscription.take

        def tampered(entry: LogEntry) -> None:
            verdict = unpack(entry.message)
            if isinstance(verdict, Verdict):
                verdict = replace(verdict, tokens=(3,))
            taken(replace(entry, message=pack(verdict)))

        subscription.take = tampered
        with pytest.raises(SessionError) as error:
            await exhaust(tokens)
    assert error.value.code == "digest_mismatch"
