"""What is charged for, and what it costs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given

from dsdq.errors import ConfigError
from dsdq.tenants.usage import METRICS, NOTHING, PriceBook, Usage, total
from dsdq.wire import Verdict
from tests.dsdq.wire.strategies import verdicts

BOOK = """
currency = "EUR"
[per_million]
committed = 2.5
verified = 0.25
kv_token_seconds = 1
"""


@given(verdicts())
def test_of_each_draft_token_it_is_known_what_became_of_it(verdict: Verdict) -> None:
    used = Usage.of(verdict, kv_token_ms=4)
    assert used.accepted + used.rejected == verdict.drafted
    assert (used.committed, used.verified) == (len(verdict.tokens), verdict.verified)
    assert used.corrected <= min(1, used.rejected)
    assert (used.prefill, used.kv_token_ms, used.sessions) == (verdict.prefill, 4, 0)


def test_usages_add_up() -> None:
    one = Usage(**{name: place for place, name in enumerate(METRICS)})
    assert total([one, one, NOTHING]) == Usage(**{name: 2 * place for place, name in enumerate(METRICS)})


def test_a_bill_has_a_line_for_each_price_and_is_exact() -> None:
    book = PriceBook.read(BOOK)
    used = Usage(committed=1_000_003, verified=4_000_000, kv_token_ms=1_500)
    assert [(line.metric, line.cost) for line in book.lines(used)] == [
        ("committed", Decimal("2.5000075")),
        ("verified", Decimal(1)),
        ("kv_token_seconds", Decimal("0.0000015")),
    ]
    assert book.cost(used) == Decimal("3.5000090")
    assert book.cost(NOTHING) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("currency =", "expected TOML"),
        ('currency = "EUR"', "per_million"),
        ("[per_million]\ncommitted = 1\n", "currency"),
        ('currency = "EUR"\nvat = 19\n[per_million]\n', "nothing else"),
        ('currency = "EUR"\n[per_million]\ntokens = 1\n', "expected prices of committed"),
        ('currency = "EUR"\n[per_million]\ncommitted = -1\n', "committed: expected a price of 0 or more"),
        ('currency = "EUR"\n[per_million]\ncommitted = "1"\n', "committed: expected a price"),
        ('currency = "EUR"\n[per_million]\ncommitted = true\n', "committed: expected a price"),
        ('currency = "EUR"\n[per_million]\ncommitted = nan\n', "committed: expected a price"),
    ],
)
def test_what_is_no_price_book_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        PriceBook.read(text)
