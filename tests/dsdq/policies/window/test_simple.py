from __future__ import annotations

from dsdq.policies.window import Choice, Observation, Static


def test_a_static_window_ignores_what_it_observes() -> None:
    policy = Static(4, depth=2)
    policy.observe(Observation(drafted=4, accepted=0, draft_ms=1, round_trip_ms=500, queue_ms=0, verify_ms=1))
    assert policy.choose() == Choice(window=4, depth=2)
    assert policy.wants_more(0.01, 1)
