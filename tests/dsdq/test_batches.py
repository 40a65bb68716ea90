from __future__ import annotations

import json

import pytest

from dsdq import keys
from dsdq.batches import Batch, FileInfo, Status, check_metadata, fresh_batch_id, fresh_file_id, window_ms
from dsdq.errors import ConfigError

FIELDS = {
    b"endpoint": b"/v1/completions",
    b"input_file_id": b"file-x",
    b"completion_window": b"24h",
    b"status": b"in_progress",
    b"total": b"5",
    b"completed": b"2",
    b"failed": b"1",
    b"created_at": b"10",
    b"in_progress_at": b"11",
    b"expires_at": b"99",
    b"metadata": b'{"team": "a"}',
    b"judged_tokens": b"8",
    b"accepted_tokens": b"6",
}


def test_ids_have_a_place_in_keys_and_are_never_the_same() -> None:
    files, batches = ({make() for _ in range(100)} for make in (fresh_file_id, fresh_batch_id))
    assert len(files) == len(batches) == 100
    assert all(keys.FILE_ID.fullmatch(one) for one in files)
    assert all(keys.BATCH_ID.fullmatch(one) for one in batches)


@pytest.mark.parametrize("bad", ["", "file-short", f"batch_{23 * 'a'}}}", f"file-{24 * 'A'}", f"file-{24 * 'a'}\n"])
def test_an_id_that_would_break_out_of_its_key_is_refused(bad: str) -> None:
    for make in (keys.file, keys.batch):
        with pytest.raises(ConfigError, match="expected an id"):
            make("acme", bad)


def test_a_file_reads_as_it_was_written() -> None:
    info = FileInfo("file-x", 3, 10, 20, "input.jsonl", "batch")
    assert FileInfo.read(json.dumps(info.document()).encode()) == info
    assert info.document()["object"] == "file"
    assert info.document()["bytes"] == 3


def test_a_batch_shows_what_openais_does() -> None:
    document = Batch.read("batch_x", FIELDS).document()
    assert document["request_counts"] == {"total": 5, "completed": 2, "failed": 1}
    assert document["metadata"] == {"team": "a"}
    assert (document["created_at"], document["in_progress_at"], document["expires_at"]) == (10, 11, 99)
    missing = ("errors", "output_file_id", "error_file_id", "completed_at", "cancelled_at", "failed_at", "expired_at")
    assert [document[name] for name in missing] == [None] * len(missing)


def test_a_batch_sums_what_its_lines_cost() -> None:
    batch = Batch.read("batch_x", FIELDS)
    assert batch.acceptance_rate == 0.75
    assert batch.done == 3
    assert Batch.read("batch_x", FIELDS | {b"judged_tokens": b"0"}).acceptance_rate is None


def test_four_statuses_are_for_good() -> None:
    assert [one for one in Status if one.ended] == [Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED]


def test_what_openai_does_not_take_is_refused() -> None:
    assert window_ms("24h") == 86_400_000
    with pytest.raises(ConfigError, match="24h, got '1h'"):
        window_ms("1h")
    check_metadata(None)
    check_metadata({"a": "b"})
    for bad in ({str(n): "" for n in range(17)}, {65 * "a": ""}, {"a": 513 * "b"}, {"a": 1}):
        with pytest.raises(ConfigError, match="metadata"):
            check_metadata(bad)  # type: ignore[arg-type]
