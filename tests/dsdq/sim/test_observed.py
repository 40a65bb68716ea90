from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.client import GenerationStats, Token, TokenKind
from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim.observed import Observed, Recorder, append_observed, read_observed

LINE = (
    '{"policy":"static:4:1","prompt":3,"ttft_ms":40,"answers":[{"at_ms":40,"kinds":"aac","judged":4,'
    '"waited_ms":35,"queue_ms":1,"verify_ms":30}]}'
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def verdict(stats: GenerationStats, recorder: Recorder, kinds: str, judged: int, mode: Mode) -> None:
    stats.judged_tokens += judged
    for values, value in ((stats.round_trips_ms, 20.0), (stats.queue_ms, 1.0), (stats.verify_ms, 15.0)):
        values.append(value)
    stats.batch_rows.append(2)
    stats.modes.append(mode.value)
    names = {kind.value[0]: kind for kind in TokenKind}
    for letter in kinds:
        recorder.add(Token(1, "x", names[letter]))


def recorded() -> Observed:
    stats, clock = GenerationStats(prompt_tokens=5, drafted_tokens=8, draft_ms=16.0, ttft_ms=30.0), Clock()
    recorder = Recorder(stats, clock)
    clock.now_s += 0.03
    verdict(stats, recorder, "aac", 4, Mode.SPECULATE)
    clock.now_s += 0.05
    verdict(stats, recorder, "t", 0, Mode.TARGET_ONLY)
    return recorder.observed("optimal", rtt_ms=10.0)


def test_a_recorder_puts_the_tokens_of_a_verdict_together() -> None:
    text = recorded()
    assert [(one.kinds, one.judged, one.mode) for one in text.answers] == [
        ("aac", 4, Mode.SPECULATE),
        ("t", 0, Mode.TARGET_ONLY),
    ]
    assert text.arrivals == [(pytest.approx(30.0), 3), (pytest.approx(80.0), 4)]
    assert (text.kinds, text.tokens, text.accepted, text.judged) == ("aact", 4, 2, 4)
    assert text.tpot_ms == pytest.approx(50.0)
    assert text.answers[0].network_ms == pytest.approx(4.0)
    assert text.answers[0].rows == 2


def test_a_text_without_a_token_is_no_observation() -> None:
    with pytest.raises(ConfigError, match="at least one token"):
        Recorder(GenerationStats(prompt_tokens=5), Clock()).observed("optimal")


def test_a_trace_grows_by_a_line_and_reads_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    append_observed(file, recorded())
    append_observed(file, recorded())
    assert read_observed(file) == (recorded(), recorded())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected at least one line, got none"),
        ("{", "line 1"),
        (LINE + '\n{"policy":"x"}', "line 2: prompt: expected a value"),
        (LINE.replace("aac", "xyz"), "answers.0.kinds"),
        (LINE.replace('"queue_ms":1', '"queue_ms":-1'), "answers.0.queue_ms"),
        (LINE.replace('"prompt":3', '"prompt":3,"speed":9'), "speed"),
        (LINE.replace('"ttft_ms":40', '"ttft_ms":"40"'), "ttft_ms: expected a number"),
    ],
)
def test_what_is_wrong_with_a_trace_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_observed(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file that can be read"):
        read_observed(tmp_path / "none.jsonl")
