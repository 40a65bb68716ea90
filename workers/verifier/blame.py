"""What a verifier died of: what heirs begin a step with is counted before it, and taken back once it went well.

Only what a dead verifier left is counted: its entries, and texts that are fed again. So a quiet verifier asks Redis
nothing here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from dsdq.bus.dead import Kind
from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import SessionStore
from dsdq.errors import RedisUnavailableError
from workers.verifier.held import Held
from workers.verifier.step import Ready


@dataclass(frozen=True, slots=True)
class Begun:
    """What was counted for one step."""

    entries: Sequence[Entry]
    fed: Sequence[Held]


class Blame:
    """Counts for the verifier whose ``inbox`` and ``store`` these are."""

    def __init__(self, inbox: Inbox, store: SessionStore) -> None:
        self._inbox = inbox
        self._store = store

    async def put_away(self, culprit: Entry, reason: str, attempts: int) -> None:
        """Keep for people what no step goes well with."""
        await self._inbox.bury(culprit, Kind.FAILED, reason, attempts)

    @staticmethod
    def suspects(ready: Ready) -> bool:
        """Say whether a verifier died in a step with this session: then others had better not be in the next."""
        unfed = bool(ready.held.deaths) and not ready.held.fed
        return unfed or any(pending.entry.tries and not pending.entry.passed for pending in ready.rounds)

    async def begin(self, stepped: Sequence[Ready], verified: Sequence[Ready]) -> Begun:
        """Count what of a dead verifier's a step begins with."""
        fed = [one.held for one in stepped if one.held.inherited and not one.held.fed]
        with contextlib.suppress(RedisUnavailableError):  # then the next one to die is counted
            entries = await self._inbox.begin([pending.entry for one in verified for pending in one.rounds])
            await self._store.note_deaths({held.place: held.deaths + 1 for held in fed})
            return Begun(entries, fed)
        return Begun((), ())

    async def passed(self, begun: Begun) -> None:
        """Take back what was counted: the step went well. A text's former deaths count until all of it is fed."""
        with contextlib.suppress(RedisUnavailableError):
            await self._inbox.passed(begun.entries)
            await self._store.note_deaths({held.place: 0 if held.fed else held.deaths for held in begun.fed})
