"""What a tenant is charged for: counted with each commit, added up by hour, priced by a price book. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from dsdq.errors import ConfigError
from dsdq.wire import Verdict

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was done for a tenant, in tokens unless a name says otherwise.

    Of the text ``committed`` were generated. Of the drafts ``accepted`` stood and ``rejected`` did not; ``corrected``
    counts the target's own tokens that took a rejected one's place. ``verified`` positions were computed to find that
    out. ``prefill`` are prompt tokens for which no keys and values were there, at the session's first step; what is fed
    again after an eviction or a crash is not charged for. ``kv_token_ms`` is how long how many tokens of text were
    kept, in token-milliseconds.
    """

    sessions: int = 0
    committed: int = 0
    accepted: int = 0
    rejected: int = 0
    corrected: int = 0
    verified: int = 0
    prefill: int = 0
    kv_token_ms: int = 0

    @classmethod
    def of(cls, verdict: Verdict, kv_token_ms: int = 0) -> Self:
        """Return what one verdict stands for."""
        rejected = verdict.drafted - verdict.accepted
        return cls(
            committed=len(verdict.tokens),
            accepted=verdict.accepted,
            rejected=rejected,
            corrected=int(rejected > 0 and len(verdict.tokens) > verdict.accepted),
            verified=verdict.verified,
            prefill=verdict.prefill,
            kv_token_ms=kv_token_ms,
        )

    @property
    def of_commit(self) -> tuple[int, ...]:
        """Return what a commit counts, in the order of ``commit.lua``: all but sessions, which count as they open."""
        return (
            self.committed,
            self.accepted,
            self.rejected,
            self.corrected,
            self.verified,
            self.prefill,
            self.kv_token_ms,
        )

    def __add__(self, other: Usage) -> Usage:
        """Return both together."""
        return Usage(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


METRICS = tuple(field.name for field in fields(Usage))
NOTHING = Usage()


def total(usages: Iterable[Usage]) -> Usage:
    """Return all together."""
    return sum(usages, NOTHING)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill: so many of something, at a price for a million."""

    metric: str
    amount: Decimal
    per_million: Decimal

    @property
    def cost(self) -> Decimal:
        """Return what it costs."""
        return self.amount * self.per_million / MILLION


PRICED = {
    "committed": "tokens generated",
    "verified": "positions verified",
    "accepted": "draft tokens that stood",
    "rejected": "draft tokens that did not",
    "prefill": "prompt tokens fed",
    "kv_token_seconds": "tokens kept, times seconds",
    "sessions": "sessions begun",
}
"""What a price book may price, and what each is."""


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices for a million of each, in one currency."""

    currency: str
    per_million: Mapping[str, Decimal]

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the book of a TOML document: ``currency = "EUR"``, and under ``[per_million]`` names and prices.

        Raises:
            ConfigError: it is not one; the message says where.
        """
        try:
            found: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"price book: expected TOML, got {error}") from None
        prices, currency = found.get("per_million"), found.get("currency")
        if not isinstance(currency, str) or not isinstance(prices, dict) or found.keys() != {"per_million", "currency"}:
            raise ConfigError('price book: expected currency = "EUR" and a table [per_million], and nothing else')
        unknown = prices.keys() - PRICED.keys()
        if unknown:
            raise ConfigError(
                f"price book: expected prices of {', '.join(PRICED)}, got one of {', '.join(sorted(unknown))}"
            )
        return cls(currency, {name: _price(name, price) for name, price in prices.items()})

    def lines(self, usage: Usage) -> list[Line]:
        """Return the lines of a bill."""
        amounts = {name: Decimal(getattr(usage, name)) for name in PRICED if name != "kv_token_seconds"}
        amounts["kv_token_seconds"] = Decimal(usage.kv_token_ms) / 1000
        return [Line(name, amounts[name], price) for name, price in self.per_million.items()]

    def cost(self, usage: Usage) -> Decimal:
        """Return what it costs in all."""
        return sum((line.cost for line in self.lines(usage)), Decimal(0))


def _price(name: str, price: object) -> Decimal:
    try:
        value = Decimal(price) if isinstance(price, Decimal | int) and not isinstance(price, bool) else None
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite() or value < 0:
        raise ConfigError(f"price book: {name}: expected a price of 0 or more for a million, got {price!r}")
    return value
