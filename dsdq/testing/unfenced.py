"""``python -m dsdq.testing.unfenced …``: dsdq with a commit script that appends for whoever asks.

Two comparisons keep a stale worker from a log: that of epoch and owner, and that of where the log ends, which every
takeover moves on. Each stops almost all that the other stops, so both are left out. It shows that the checker sees what
they are there to prevent, and is good for nothing else.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha1

from dsdq import cli
from dsdq.bus import scripts
from dsdq.errors import ConfigError

FENCES = (
    """if head[1] ~= ARGV[2] or head[2] ~= ARGV[3] then
  return "FENCED"
end
""",
    """if head[3] ~= ARGV[4] or head[4] ~= ARGV[5] then
  return "BEHIND"
end
""",
)

_whole = scripts._source  # noqa: SLF001 - the one place where a script's text can be exchanged


@cache
def source(name: str) -> tuple[str, str]:
    """Return a script's text and its name in Redis, as :mod:`dsdq.bus.scripts` does, but ``commit`` without its fences.

    Raises:
        ConfigError: there is no such fence to leave out.
    """
    text, digest = _whole(name)
    if name != "commit":
        return text, digest
    for fence in FENCES:
        if fence not in text:
            msg = f"expected commit.lua to hold this fence, it does not: {fence}"
            raise ConfigError(msg)
        text = text.replace(fence, "")
    return text, sha1(text.encode()).hexdigest()  # noqa: S324 - the name that Redis gives a script


if __name__ == "__main__":
    scripts._source = source  # noqa: SLF001
    cli.main()
