"""Files: whatever is wrong with one is one line, and nothing else is taken for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim import files


def test_what_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    files.check("--json", None)
    files.check("--json", tmp_path / "found.json")
    for file in (tmp_path, tmp_path / "none" / "found.json", tmp_path / ("a" * 300)):
        with pytest.raises(ConfigError, match=r"--json.*: expected a file"):
            files.check("--json", file)
    with pytest.raises(ConfigError, match=r"--out: expected a file that ends in \.html, got page\.pdf"):
        files.check("--out", tmp_path / "page.pdf", (".html",))


@pytest.mark.usefixtures("bare")
def test_what_writes_a_file_is_installed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"install dsdq\[sim\]"):
        files.check("--requests", tmp_path / "rows.parquet")


def test_what_cannot_be_written_after_all_is_told(tmp_path: Path, full: Path) -> None:
    for file, why in ((tmp_path, "Is a directory"), (full, "No space left on device")):
        with pytest.raises(ConfigError, match=f"--json {file}: expected a file that can be written, got: {why}"):
            files.write_text("--json", file, "text")


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("count", [1, 10_000])
def test_lines_that_find_no_room_are_told(full: Path, count: int, *, append: bool) -> None:
    def write_all() -> None:
        with files.lines("--events", full, append=append) as write:
            for _ in range(count):
                write("a line")

    with pytest.raises(ConfigError, match=f"--events {full}: expected a file that can be written, got: No space"):
        write_all()


def test_what_else_goes_wrong_between_lines_is_not_the_files(tmp_path: Path) -> None:
    file = tmp_path / "lines"

    def write_one() -> None:
        with files.lines("--events", file) as write:
            write("one")
            raise OSError("elsewhere")

    with pytest.raises(OSError, match="elsewhere"):
        write_one()
    assert file.read_text() == "one\n"


def test_a_line_behind_others_is_there_at_once(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("one\n")
    with files.lines("--results", file, append=True) as write:
        write("two")
        assert file.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b"3"])
def test_json_that_is_no_table_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "engine.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--engine .*expected figures, got") as refused:
        files.read_json("--engine", file, "figures")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one\\ntwo: expected a file that can be read, got: No such file"):
        files.read_json("--engine", tmp_path / "one\ntwo", "figures")


def test_a_file_to_go_on_with_is_a_file_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert files.is_there("--results", tmp_path / "kept")
    assert not files.is_there("--results", tmp_path / "new")
    for file in (tmp_path, tmp_path / ("a" * 300)):
        with pytest.raises(ConfigError, match=r"--results.*expected a file that can be read"):
            files.is_there("--results", file)
