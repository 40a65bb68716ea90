"""``python -m dsdq.testing.unfenced …``: dsdq with a commit script that does not ask who owns a session.

It shows that the checker sees what the fence is there to prevent, and is good for nothing else.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha1

from dsdq import cli
from dsdq.bus import scripts
from dsdq.errors import ConfigError

FENCE = """if head[1] ~= ARGV[2] or head[2] ~= ARGV[3] then
  return "FENCED"
end
"""

_whole = scripts._source  # noqa: SLF001 - the one place where a script's text can be exchanged


@cache
def source(name: str) -> tuple[str, str]:
    """Return a script's text and its name in Redis, as :mod:`dsdq.bus.scripts` does, but ``commit`` without its fence.

    Raises:
        ConfigError: there is no such fence to leave out.
    """
    text, digest = _whole(name)
    if name != "commit":
        return text, digest
    if FENCE not in text:
        msg = f"expected commit.lua to hold this fence, it does not: {FENCE}"
        raise ConfigError(msg)
    text = text.replace(FENCE, "")
    return text, sha1(text.encode()).hexdigest()  # noqa: S324 - the name that Redis gives a script


if __name__ == "__main__":
    scripts._source = source  # noqa: SLF001
    cli.main()
