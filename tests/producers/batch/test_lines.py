from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.bus.batches import Claim
from producers.batch.lines import (
    LINE_BYTES,
    Fault,
    Request,
    Splitter,
    entry_of,
    fault_entry,
    read_line,
    seed_of,
    unpack_entry,
)
from producers.batch.runner import Answer
from producers.openai.errors import invalid
from producers.openai.requests import COMPLETIONS

GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": COMPLETIONS, "body": {"prompt": "x"}}
CLAIM = Claim("acme", "batch_x", COMPLETIONS, 7, 0, b"")


def line(**changed: object) -> bytes:
    return json.dumps(GOOD | changed).encode()


def split(*pieces: bytes) -> list[tuple[int, bytes]]:
    splitter = Splitter()
    found = [numbered for piece in pieces for numbered in splitter.feed(piece)]
    return [*found, *splitter.finish()]


@given(st.lists(st.binary(max_size=5)), st.data())
def test_lines_are_the_same_however_a_file_comes_in_pieces(lines: list[bytes], data: st.DataObject) -> None:
    content = b"\n".join(lines)
    cut = data.draw(st.integers(0, len(content)))
    expected = content.split(b"\n")
    expected = expected if expected[-1] else expected[:-1]
    assert split(content[:cut], content[cut:]) == list(enumerate(expected, 1))


def test_of_a_line_without_an_end_only_the_beginning_is_kept() -> None:
    (numbered, after) = split(*[bytes(LINE_BYTES)] * 3, b"\nnext")
    assert len(numbered[1]) == LINE_BYTES + 1
    assert after == (2, b"next")
    assert read_line(numbered[1], COMPLETIONS) == Fault(
        "line_too_long", f"expected at most {LINE_BYTES} bytes, got more"
    )


def test_a_good_line_is_what_it_asks_for() -> None:
    request = read_line(line(), COMPLETIONS)
    assert request == Request("a", {"prompt": "x"})
    assert Request.unpack(request.pack()) == request


@pytest.mark.parametrize(
    ("bad", "code", "custom_id"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b"[1]", "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (line(custom_id=None), "invalid_custom_id", None),
        (line(custom_id=""), "invalid_custom_id", None),
        (line(custom_id=7), "invalid_custom_id", None),
        (line(custom_id=513 * "a"), "invalid_custom_id", None),
        (line(method="GET"), "invalid_method", "a"),
        (line(url="/v1/chat/completions"), "invalid_url", "a"),
        (line(body="x"), "invalid_body", "a"),
        (line(body=None), "invalid_body", "a"),
    ],
)
def test_a_bad_line_says_why(bad: bytes, code: str, custom_id: str | None) -> None:
    found = read_line(bad, COMPLETIONS)
    assert isinstance(found, Fault)
    assert (found.code, found.custom_id) == (code, custom_id)


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_bytes_make_reading_a_line_fail(given_: bytes) -> None:
    assert isinstance(read_line(given_, COMPLETIONS), Fault)


def test_an_id_that_is_no_text_in_utf_8_can_be_told_apart_like_any() -> None:
    request = read_line(line(custom_id="\ud800"), COMPLETIONS)
    assert isinstance(request, Request)
    assert json.loads(unpack_entry(entry_of(CLAIM, request, Answer(200, {})).text))["custom_id"] == "\ud800"
    assert seed_of("b", "\ud800") != seed_of("b", "\ud801")


def test_the_seed_of_a_line_is_its_own_and_stays() -> None:
    assert seed_of("b", "a") == seed_of("b", "a") == 3_875_785_278_731_986_996
    assert len({seed_of("b", "a"), seed_of("b", "c"), seed_of("c", "a"), seed_of("ba", "")}) == 4


def test_what_a_runner_answers_becomes_an_entry_of_one_of_two_files() -> None:
    body = {
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        "metrics": {"judged_tokens": 2, "accepted_tokens": 1},
    }
    entry = entry_of(CLAIM, Request("a", {}), Answer(200, body))
    assert entry.completed
    assert entry.costs == {"prompt_tokens": 3, "completion_tokens": 4, "judged_tokens": 2, "accepted_tokens": 1}
    written = json.loads(unpack_entry(entry.text))
    assert written["custom_id"] == "a"
    assert written["response"]["status_code"] == 200
    assert written["response"]["body"] == body
    assert written["error"] is None
    refused = entry_of(CLAIM, Request("a", {}), Answer.of(invalid("no", code="bad")))
    assert not refused.completed
    assert json.loads(unpack_entry(refused.text))["response"]["body"]["error"]["code"] == "bad"


def test_a_line_that_no_runner_saw_says_where_it_stands() -> None:
    text = unpack_entry(fault_entry("batch_x", 7, Fault("invalid_json", "expected more")))
    assert text.endswith(b"\n")
    written = json.loads(text)
    assert written["custom_id"] is None
    assert written["response"] is None
    assert written["error"] == {"code": "invalid_json", "message": "line 7: expected more", "line": 7}
    named = json.loads(unpack_entry(fault_entry("batch_x", 7, Fault("x", "y", "mine"))))
    assert named["custom_id"] == "mine"
