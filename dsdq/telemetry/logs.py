"""Logs: lines for people in a terminal, JSON elsewhere; always on standard error, so that output stays clean."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog

LEVELS = ("debug", "info", "warning", "error")


class _StandardError:
    """Wherever standard error is when something is written: a program may put another in its place."""

    def write(self, text: str) -> int:
        """Write to it."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush it."""
        sys.stderr.flush()


def configure(level: str = "warning") -> None:
    """Send every log event of this process at ``level`` or above to standard error."""
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    exceptions = [] if terminal else [structlog.processors.dict_tracebacks]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,  # a program may configure after this library was imported
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose events carry the part's name; in a program that configures none, warnings are shown."""
    if not structlog.is_configured():
        configure()
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
