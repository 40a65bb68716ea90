"""Bad input gives one line that says what was expected, and exit code 2; never a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dsdq import keys
from dsdq.bus.connection import open_redis
from tests.conftest import Serve

NOWHERE = "redis://127.0.0.1:1/0"


def dsdq_command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dsdq", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "DSDQ_FIND_VERIFIER_MS": "200"},  # where there is one, it serves already
    )


BAD = [
    (["generate", "--redis", NOWHERE, "--draft", "ngram", "x"], "redis"),
    (["generate", "--redis", "ftp://x", "--draft", "ngram", "x"], "redis://"),
    (["dead", "show", "letter", "--redis", NOWHERE], "a letter's id"),
    (["dead", "list", "--redis", NOWHERE], "redis"),
    (["dead", "drop", "--redis", NOWHERE], "--all"),
    (["top", "--once", "--redis", NOWHERE], "redis"),
    (["top", "--interval-s", "0"], "--interval-s"),
    (["generate", "--window", "-1", "x"], "--window"),
    (["generate", "--temperature", "-0.5", "x"], "--temperature"),
    (["generate", "--top-p", "7", "x"], "top_p"),
    (["generate", "--repetition-penalty", "0", "x"], "repetition_penalty"),
    (["generate", "--presence-penalty", "3", "x"], "presence_penalty"),
    (["generate", "--frequency-penalty", "nan", "x"], "frequency_penalty"),
    (["generate", "--logit-bias", "5", "x"], "ID=VALUE"),
    (["generate", "--logit-bias", "5=1", "--logit-bias", "5=2", "x"], "logit_bias"),
    (["generate", "--logit-bias", "5=1e9", "x"], "logit_bias"),
    (["generate", "--draft", "ngram"], "expected a prompt"),
    (["verifier", "--redis", NOWHERE], "redis"),
    (["gateway", "--redis", NOWHERE], "redis"),
    (["gateway", "--port", "70000"], "--port"),
    (["device", "--redis", "ftp://x", "--draft", "ngram"], "redis://"),
    (["device", "--texts", "-1"], "--texts"),
    (["device", "--prompts", "no/such/file"], "no/such/file"),
    (["nonsense"], "nonsense"),
    (["generate", "--nonsense"], "--nonsense"),
    (["demo", "--devices", "0"], "--devices"),
    (["--log-level", "loud", "models"], "loud"),
]
BAD_FOR_A_SERVICE = [
    (["generate", "--draft", "no/such/path/at/all", "x"], "no/such/path/at/all"),
    (["generate", "--draft", "ngram", "--model", "no-such-model", "x"], "no-such-model"),
    (["generate", "--draft", "ngram", "--max-tokens", "1000000", "x"], "at most 2048 tokens"),
    (["generate", "--draft", "ngram", "--logit-bias", "1000000=1", "x"], "logit_bias"),
    (["generate", "--draft", "ngram", "--stop", "", "x"], "stop_strings"),
    (["generate", "--draft", "ngram", "--logprobs", "21", "x"], "logprobs"),
    (["device", "--draft", "no/such/path/at/all"], "no/such/path/at/all"),
    (["gateway", "--port", "0", "--draft", "no/such/path/at/all"], "no/such/path/at/all"),
    (["gateway", "--port", "0", "--host", "192.0.2.1"], "expected an address to listen at"),
    (["verifier", "--target", "no/such/path/at/all"], "no/such/path/at/all"),
    (["verifier", "--target", "builtin/target", "--device", "toaster"], "toaster"),
    (["verifier", "--quantization", "int3"], "torchao-int8"),
    (["verifier", "--device-map", "auto"], "expected device 'cuda'"),
]


async def unexpected(cases: Sequence[tuple[list[str], str]], *common: str) -> list[tuple[list[str], int, str]]:
    """Run each command, a few at a time; return those that did not end with 2 and one line of what was expected."""
    some = asyncio.Semaphore(3)

    async def run(command: str, *rest: str) -> subprocess.CompletedProcess[str]:
        async with some:
            return await asyncio.to_thread(dsdq_command, command, *common, *rest)

    ended = await asyncio.gather(*(run(*arguments) for arguments, _ in cases))
    return [
        (arguments, one.returncode, one.stderr)
        for one, (arguments, expected) in zip(ended, cases, strict=True)
        if one.returncode != 2 or one.stderr.count("\n") != 1 or expected not in one.stderr
    ]


async def test_bad_input_is_one_line_and_exit_code_2() -> None:
    assert await unexpected(BAD) == []


async def test_bad_input_to_a_running_service_is_one_line_and_exit_code_2(serve: Serve, redis_url: str) -> None:
    async with serve("builtin/target"):
        assert await unexpected(BAD_FOR_A_SERVICE, "--redis", redis_url) == []


async def test_generate_prints_the_text_streams_json_and_reads_standard_input(serve: Serve, redis_url: str) -> None:
    async with serve("builtin/target"):
        common = ("generate", "--redis", redis_url, "--draft", "ngram", "--max-tokens", "12")
        streamed = await asyncio.to_thread(dsdq_command, *common, "def main():")
        whole = await asyncio.to_thread(dsdq_command, *common, "--no-stream", stdin="def main():")
        as_json = await asyncio.to_thread(dsdq_command, *common, "--json", "def main():")
    assert streamed.returncode == whole.returncode == as_json.returncode == 0, streamed.stderr
    summary = json.loads(as_json.stdout)
    assert len(summary["ids"]) == 12
    assert summary["finish_reason"] == "length"
    assert streamed.stdout == whole.stdout == summary["text"] + "\n"


async def test_generate_takes_every_control_and_stops_before_a_stop_string(serve: Serve, redis_url: str) -> None:
    controls = ("--repetition-penalty", "1.1", "--presence-penalty", "0.2", "--frequency-penalty", "0.1")
    biases = ("--logit-bias", "9=-100", "--logit-bias", "5=1.5", "--stop-id", "2000", "--ignore-eos", "--logprobs", "2")
    common = ("generate", "--redis", redis_url, "--draft", "ngram", "--max-tokens", "40", "--json")
    async with serve("builtin/target"):
        ended = await asyncio.to_thread(dsdq_command, *common, *controls, *biases, "--stop", "\n", "def main():")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert "\n" not in summary["text"]
    assert summary["finish_reason"] == "stop"


async def test_a_prompt_that_is_no_text_is_one_line_and_exit_code_2(serve: Serve, redis_url: str) -> None:
    command = [sys.executable, "-m", "dsdq", "generate", "--redis", redis_url, "--draft", "ngram"]
    async with serve("builtin/target"):
        for given in ({"input": b"\xff\xfe"}, {"args": [*command, b"\xff"], "stdin": subprocess.DEVNULL}):
            options = {"args": command, "capture_output": True, "timeout": 60, **given}
            ended = await asyncio.to_thread(subprocess.run, **options)
            assert ended.returncode == 2, ended.stderr
            assert b"UTF-8" in ended.stderr
            assert ended.stderr.count(b"\n") == 1


async def test_a_policy_is_chosen_by_name(serve: Serve, redis_url: str) -> None:
    command = ["generate", "--redis", redis_url, "--max-tokens", "30", "--no-stream", "def f(x):", "--draft"]
    async with serve("builtin/target"):
        alone = await asyncio.to_thread(dsdq_command, *command, "none")
        careful = await asyncio.to_thread(dsdq_command, *command, "builtin/draft", "--policy", "threshold:0.4")
    assert alone.stdout, alone.stderr
    assert careful.stdout == alone.stdout, careful.stderr


def test_models_lists_the_pair_with_its_figures() -> None:
    listed = dsdq_command("models", "--json")
    assert listed.returncode == 0, listed.stderr
    facts = json.loads(listed.stdout)
    assert facts["target"]["parameters"] >= 10 * facts["draft"]["parameters"]
    table = dsdq_command("models")
    assert "builtin/target" in table.stdout
    assert "builtin/draft" in table.stdout


def test_the_installed_command_is_the_module(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("dsdq")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.startswith("dsdq ")


async def interrupted(*arguments: str, wait_for: bytes) -> tuple[int | None, bytes, bytes]:
    """Start a command, send Ctrl-C once it has said ``wait_for``, and return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dsdq", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = await process.stdout.readuntil(wait_for)
        process.send_signal(signal.SIGINT)
        rest, errors = await process.communicate()
    return process.returncode, said + rest, errors


async def test_ctrl_c_ends_a_generation_and_frees_its_session(serve: Serve, redis: Redis, redis_url: str) -> None:
    async with serve("builtin/target") as verifier:
        arguments = ("--redis", redis_url, "--draft", "none", "--max-tokens", "1500", "--temperature", "1", "x = ")
        code, _, errors = await interrupted("generate", *arguments, wait_for=b"\n")
        assert (code, errors) == (130, b"")
        async with asyncio.timeout(30):
            while await redis.scard(keys.worker_sessions(verifier.info.wid)):
                await asyncio.sleep(0.01)


async def test_ctrl_c_ends_a_verifier_which_then_is_served_by_nobody(redis: Redis, redis_url: str) -> None:
    code, said, errors = await interrupted("verifier", "--redis", redis_url, wait_for=b"ready: ")
    assert (code, errors) == (0, b"")
    assert b"builtin/target" in said
    assert await redis.zcard(keys.workers("builtin/target")) == 0


async def test_dsdq_redis_prints_its_url_serves_until_ctrl_c_and_leaves_nothing() -> None:
    code, said, errors = await interrupted("redis", "--port", "0", wait_for=b"\n")
    assert (code, errors) == (0, b"")
    url = said.decode().strip()
    assert url.startswith("redis://127.0.0.1:")
    client = open_redis(url)
    with pytest.raises(RedisError):
        await client.ping()
    await client.aclose()
