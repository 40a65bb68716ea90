from __future__ import annotations

import json
import subprocess
import sys

EVENTS = """
from dsdq.telemetry.logs import configure, get_logger
from structlog.contextvars import bind_contextvars
configure("info")
bind_contextvars(worker="w1")
log = get_logger("part-name").bind(session="s1")
log.debug("not shown")
log.info("shown", round=3)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
print("output")
"""


def test_away_from_a_terminal_logs_are_json_lines_on_standard_error_with_their_context() -> None:
    ended = subprocess.run([sys.executable, "-c", EVENTS], capture_output=True, text=True, check=True)
    assert ended.stdout == "output\n"
    shown, failed = (json.loads(line) for line in ended.stderr.splitlines())
    assert {"event": "shown", "worker": "w1", "session": "s1", "round": 3, "part": "part-name"}.items() <= shown.items()
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_a_program_that_configures_nothing_has_its_output_to_itself() -> None:
    program = """
from dsdq.telemetry.logs import get_logger
log = get_logger("x")
log.info("not shown")
log.warning("shown")
print("output")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "output\n"
    assert json.loads(ended.stderr)["event"] == "shown"
