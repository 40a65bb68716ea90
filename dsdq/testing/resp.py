"""A stream of the Redis protocol (RESP2) cut into whole requests or replies."""

from __future__ import annotations

_END = b"\r\n"


class Splitter:
    """Takes bytes as they come and gives whole messages: requests are arrays of strings, replies may be anything."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take in ``data`` and return the messages that are complete by now, in order."""
        self._buffer += data
        messages: list[bytes] = []
        start = 0
        while (end := _end_of(self._buffer, start)) is not None:
            messages.append(bytes(self._buffer[start:end]))
            start = end
        del self._buffer[:start]
        return messages


def arguments(request: bytes) -> list[bytes]:
    """Return the words of a whole request: the command's name first."""
    words: list[bytes] = []
    place = request.index(_END) + 2
    while place < len(request):
        line = request.index(_END, place)
        length = int(request[place + 1 : line])
        words.append(request[line + 2 : line + 2 + length])
        place = line + 2 + length + 2
    return words


def _end_of(buffer: bytearray, start: int) -> int | None:
    """Return where the message that begins at ``start`` ends, None while a part of it is missing."""
    left = 1
    while left:
        line = buffer.find(_END, start)
        if line < 0:
            return None
        kind, rest, start = buffer[start : start + 1], buffer[start + 1 : line], line + 2
        left -= 1
        if kind == b"*":
            left += max(int(rest), 0)
        elif kind == b"$" and int(rest) >= 0:
            start += int(rest) + 2
    return start if start <= len(buffer) else None
