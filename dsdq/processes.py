"""Child processes that cannot outlive their parent, however the parent ends.

A small shell stands between the two and holds the reading end of a pipe. When the parent closes it, or is killed, the
kernel closes the other end, the shell sees the end of file, and ends the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

GRACE_S = 10
LINE_LIMIT_BYTES = 1 << 24

# What becomes the child: it says its process id, and writes on to $0 if that is a file's name.
_CHILD = """
echo $$
[ -z "$0" ] || exec >"$0"
exec "$@"
"""

# $1: a folder to remove once the child has ended, or empty. $2: see _CHILD. The rest: the child's command.
_GUARD = f"""
remove=$1; output=$2; shift 2
exec 3<&0
sh -c '{_CHILD}' "$output" "$@" </dev/null 3<&- &
child=$!
{{
  read -r _ <&3
  kill -TERM $child 2>/dev/null
  left={GRACE_S * 10}
  while [ $left -gt 0 ] && kill -0 $child 2>/dev/null; do sleep 0.1; left=$((left - 1)); done
  kill -KILL $child 2>/dev/null
}} >/dev/null 2>&1 &
watcher=$!
trap 'kill -TERM $child 2>/dev/null' TERM INT HUP
while :; do
  wait $child 2>/dev/null; code=$?
  kill -0 $child 2>/dev/null || break
done
kill $watcher 2>/dev/null
[ -n "$remove" ] && rm -rf -- "$remove"
exit $code
"""


class Child:
    """A running child process behind its guard."""

    def __init__(self, process: asyncio.subprocess.Process, pid: int) -> None:
        self._process = process
        self._pid = pid

    @property
    def pid(self) -> int:
        """Return the child's own process id, not the guard's."""
        return self._pid

    @property
    def running(self) -> bool:
        """Say whether the child has not ended yet."""
        return self._process.returncode is None

    async def read_line(self) -> str:
        """Return the next line that the child wrote to its captured output, empty at the end."""
        if self._process.stdout is None:
            return ""
        return (await self._process.stdout.readline()).decode(errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        """Send the child itself a signal; nothing happens when it has ended."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    async def wait(self) -> int:
        """Wait for the child to end by itself and return its exit code."""
        return await self._process.wait()

    async def stop(self) -> int:
        """End the child: SIGTERM, and SIGKILL when it does not end in time. Return its exit code."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        return await self._process.wait()


async def spawn(command: Sequence[str | Path], *, stdout: bool = False, remove: Path | None = None) -> Child:
    """Start ``command`` as a child that ends with this process.

    Args:
        command: program and arguments.
        stdout: capture its standard output for :meth:`Child.read_line`; otherwise it is dropped.
        remove: a folder to delete once the child has ended.
    """
    starting = asyncio.ensure_future(_start(command, stdout, remove))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill the guard alone, and the child would live on without it.
        await (await starting).stop()
        raise


async def _start(command: Sequence[str | Path], stdout: bool, remove: Path | None) -> Child:  # noqa: FBT001 - spawn's
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        _GUARD,
        "guard",
        str(remove or ""),
        "" if stdout else os.devnull,
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT_BYTES,
        start_new_session=True,  # a terminal's Ctrl-C reaches the parent alone, which then ends its children in order
    )
    return Child(process, await _said_pid(process))


async def _said_pid(process: asyncio.subprocess.Process) -> int:
    said = await process.stdout.readline() if process.stdout is not None else b""
    return int(said)
