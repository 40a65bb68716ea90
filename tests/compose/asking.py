"""Ask a gateway for texts and hold them against those of a quiet hour; the standard library only.

asking.py learn URL FILE            ask for each text once and write them down
asking.py check URL FILE GOES_ON    ask again and again while GOES_ON exists; any failure or other text is a loss
asking.py lines FILE COUNT          print so many lines of a batch, of the same prompts
asking.py results FILE COUNT        read a batch's results: each line once, with its text
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROMPTS = [
    f"def {verb}_{noun}(" for verb in ("read", "write", "find", "sort") for noun in ("file", "line", "key", "row")
]
TOKENS, AT_ONCE, PATIENCE_S = 64, 6, 180


def request_of(prompt: str) -> dict[str, object]:
    return {"model": "builtin/target", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}


def ask(url: str, prompt: str) -> str:
    """Return a text, read from its stream up to the end that it must have."""
    body = json.dumps({**request_of(prompt), "stream": True}).encode()
    asked = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})  # noqa: S310 - ours
    text, ended = "", False
    try:
        answer = urllib.request.urlopen(asked, timeout=PATIENCE_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{prompt!r}: {error}: {error.read().decode(errors='replace')}") from None
    with answer:
        for line in answer:
            field, _, data = line.decode().strip().partition(": ")
            if field != "data":  # between events, and signs of life while a text stands still
                continue
            if data == "[DONE]":
                ended = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise RuntimeError(data)
            text += chunk["choices"][0]["text"]
    if not ended:
        raise RuntimeError(f"the stream of {prompt!r} broke off after {text!r}")
    return text


def learn(url: str, file: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        file.write_text(json.dumps(dict(zip(PROMPTS, pool.map(lambda one: ask(url, one), PROMPTS), strict=True))))
    print(f"{len(PROMPTS)} texts")


def check(url: str, file: Path, goes_on: Path) -> None:
    known, asked = json.loads(file.read_text()), 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while goes_on.exists():
            texts = dict(zip(PROMPTS, pool.map(lambda one: ask(url, one), PROMPTS), strict=True))
            wrong = {prompt: text for prompt, text in texts.items() if text != known[prompt]}
            if wrong:
                sys.exit(f"other texts than in the quiet hour: {wrong}")
            asked += len(texts)
    print(f"{asked} texts, all whole and as in the quiet hour")


def lines(count: int) -> None:
    for number in range(count):
        body = request_of(PROMPTS[number % len(PROMPTS)])
        print(json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}))


def results(file: Path, count: int) -> None:
    known, answered = json.loads(file.read_text()), dict[str, str]()
    for line in map(json.loads, sys.stdin):
        if line["custom_id"] in answered:
            sys.exit(f"line {line['custom_id']} came twice")
        answered[line["custom_id"]] = line["response"]["body"]["choices"][0]["text"]
    expected = {str(number): known[PROMPTS[number % len(PROMPTS)]] for number in range(count)}
    if answered != expected:
        other = answered.items() - expected.items()
        sys.exit(f"expected {count} lines with their texts, got {len(answered)}; other: {other}")
    print(f"{count} lines of the batch, each once, with its text")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "learn":
        learn(rest[0], Path(rest[1]))
    elif what == "check":
        check(rest[0], Path(rest[1]), Path(rest[2]))
    elif what == "lines":
        lines(int(rest[0]))
    else:
        results(Path(rest[0]), int(rest[1]))
