"""Which session holds which blocks of a KV cache, and which texts the blocks hold. Bookkeeping only, no memory.

A session's text lies in blocks of :data:`BLOCK` tokens, named in order by its table. A full block whose keys and values
are computed can be published under a hash of all tokens up to its end; a session whose text begins alike then holds
the same block. A published block is never written again: sessions only ever write behind what they have published, so
nothing has to be copied before a write. A published block that nobody holds stays, until its place is needed; the one
that was left alone longest goes first.

Sharing stays within a ``salt`` (the tenant): how fast a prompt is taken in must not tell one tenant what another asked.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from dsdq.errors import DsdqError

BLOCK = 64
"""Tokens of one block; what attention reads at once."""

_KEY_BYTES = 16


class PagingError(DsdqError):
    """A session was used that does not exist, or exists already: a defect of the caller."""


def blocks_for(tokens: int) -> int:
    """Return how many blocks ``tokens`` tokens take."""
    return -(-tokens // BLOCK)


@dataclass(slots=True)
class Holding:
    """What one session holds: its blocks in order, and of how many of its tokens they hold the keys and values.

    ``keys`` are the hashes of its first blocks, as far as they are published or were found published.
    """

    salt: bytes
    blocks: list[int] = field(default_factory=list)
    cached: int = 0
    keys: list[bytes] = field(default_factory=list)


class Paging:
    """The blocks of one KV cache."""

    def __init__(self, blocks: int, *, shares: bool = True) -> None:
        """Begin with every block free; ``shares`` says whether equal prefixes are held together."""
        self.blocks = blocks
        self._shares = shares
        self._free = list(range(blocks - 1, -1, -1))
        self._references = [0] * blocks
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._left: OrderedDict[int, None] = OrderedDict()  # published and held by nobody, longest alone first
        self._holdings: dict[str, Holding] = {}

    def __contains__(self, session: object) -> bool:
        """Say whether a session is known."""
        return session in self._holdings

    def __iter__(self) -> Iterator[str]:
        """Give the known sessions."""
        return iter(self._holdings)

    @property
    def available(self) -> int:
        """Return the blocks that no session holds."""
        return len(self._free) + len(self._left)

    @property
    def held(self) -> int:
        """Return the blocks that sessions hold; one that several share counts once."""
        return self.blocks - self.available

    @property
    def published(self) -> int:
        """Return the blocks that can be found by their text."""
        return len(self._block_of)

    def __getitem__(self, session: str) -> Holding:
        """Return what a session holds; not to be changed.

        Raises:
            PagingError: the session is not known.
        """
        holding = self._holdings.get(session)
        if holding is None:
            msg = f"session {session!r}: not admitted; admit it before its first row"
            raise PagingError(msg)
        return holding

    def admit(self, session: str, salt: str) -> None:
        """Make a session known; it holds nothing yet.

        Raises:
            PagingError: it is known already.
        """
        if session in self._holdings:
            msg = f"session {session!r}: expected a new session, it is admitted already"
            raise PagingError(msg)
        self._holdings[session] = Holding(blake2b(salt.encode(), digest_size=_KEY_BYTES).digest())

    def release(self, session: str) -> None:
        """Forget a session and free what it alone held; one that is not known is no error."""
        if session in self._holdings:
            self.evict(session)
            del self._holdings[session]

    def evict(self, session: str) -> None:
        """Take all blocks from a session: its text has to be computed again, but for what stays published."""
        holding = self[session]
        # From the end: where places are needed, the tail of a text goes before what more texts may begin with.
        for block in reversed(holding.blocks):
            self._let_go(block)
        holding.blocks, holding.keys, holding.cached = [], [], 0

    def find(self, session: str, text: Sequence[int]) -> int:
        """Hold the published blocks that ``text`` begins with, if the session holds nothing; return ``cached``.

        At least the last token stays to be computed: its logits are wanted.
        """
        holding = self[session]
        if holding.blocks or not self._shares:
            return holding.cached
        for number in range((len(text) - 1) // BLOCK):
            key = _key(holding, text, number)
            block = self._block_of.get(key)
            if block is None:
                break
            self._hold(block)
            holding.blocks.append(block)
            holding.keys.append(key)
        holding.cached = len(holding.blocks) * BLOCK
        return holding.cached

    def lacking(self, session: str, tokens: int) -> int:
        """Return how many blocks a session lacks to hold ``tokens`` tokens."""
        return max(0, blocks_for(tokens) - len(self[session].blocks))

    def reserve(self, session: str, tokens: int) -> bool:
        """Give a session blocks for its first ``tokens`` tokens; False, and nothing is changed, if too few are left."""
        holding, lacking = self[session], self.lacking(session, tokens)
        if lacking > self.available:
            return False
        for _ in range(lacking):
            block = self._free.pop() if self._free else self._forget_oldest()
            self._references[block] = 1
            holding.blocks.append(block)
        return True

    def computed(self, session: str, text: Sequence[int], cached: int) -> None:
        """Note that the first ``cached`` tokens of ``text`` have keys and values; publish the blocks they fill."""
        holding = self[session]
        holding.cached = cached
        if not self._shares:
            return
        for number in range(len(holding.keys), cached // BLOCK):
            key, block = _key(holding, text, number), holding.blocks[number]
            holding.keys.append(key)
            if key not in self._block_of:  # else another session computed the same text at the same time
                self._key_of[block], self._block_of[key] = key, block

    def evictable(self, sessions: Iterable[str]) -> int:
        """Return how many blocks taking everything from these sessions would make available."""
        held = Counter(block for session in sessions for block in self[session].blocks)
        return sum(1 for block, holders in held.items() if holders == self._references[block])

    def _hold(self, block: int) -> None:
        if self._references[block] == 0:
            del self._left[block]
        self._references[block] += 1

    def _let_go(self, block: int) -> None:
        self._references[block] -= 1
        if self._references[block]:
            return
        if block in self._key_of:
            self._left[block] = None
        else:
            self._free.append(block)

    def _forget_oldest(self) -> int:
        block, _ = self._left.popitem(last=False)
        del self._block_of[self._key_of.pop(block)]
        return block


def _key(holding: Holding, text: Sequence[int], number: int) -> bytes:
    """Return the hash that names block ``number`` of a text: of its tokens and of all before them."""
    before = holding.keys[number - 1] if number else holding.salt
    tokens = array("q", text[number * BLOCK : (number + 1) * BLOCK])
    return blake2b(before + tokens.tobytes(), digest_size=_KEY_BYTES).digest()
