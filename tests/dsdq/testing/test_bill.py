"""What logs together say is to be paid for."""

from __future__ import annotations

from dataclasses import replace

from dsdq.tenants.usage import Usage
from dsdq.testing.checker import bill_of
from dsdq.testing.history import Logged
from dsdq.wire import Closed, Error
from tests.dsdq.testing.test_checker import SESSION, TEXT, good


def test_the_bill_of_histories_is_what_their_verdicts_come_to() -> None:
    history = good().history()
    closed = history.end
    assert isinstance(closed, Closed)
    bill = bill_of([history, history])
    assert bill == Usage(
        sessions=2,
        committed=2 * len(TEXT),
        accepted=2 * closed.accepted,
        rejected=2 * (closed.drafted - closed.accepted),
        corrected=bill.corrected,
        verified=2 * closed.verified,
    )
    assert bill.corrected % 2 == 0
    refused = replace(history, entries=(Logged(1, 1, Error(SESSION, "untrusted", "no")),))
    assert bill_of([refused]) == Usage()
