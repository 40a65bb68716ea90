from __future__ import annotations

from dsdq.sim.kernel import Kernel


def test_the_earliest_happens_first_and_what_is_at_once_in_the_order_of_planning() -> None:
    kernel, seen = Kernel(), list[object]()
    for at_ms, name in ((5.0, "late"), (1.0, "early"), (5.0, "later"), (1.0, "earlier")):
        kernel.at(at_ms, seen.append, name)
    kernel.run()
    assert seen == ["early", "earlier", "late", "later"]
    assert (kernel.now_ms, kernel.events) == (5.0, 4)


def test_what_happens_may_plan_more() -> None:
    kernel, times = Kernel(), list[float]()

    def _again(left: object) -> None:
        times.append(kernel.now_ms)
        if left:
            kernel.after(2.0, _again, int(str(left)) - 1)

    kernel.at(1.0, _again, 2)
    kernel.run()
    assert times == [1.0, 3.0, 5.0]


def test_events_happen_one_by_one_if_that_is_asked_for() -> None:
    kernel, seen = Kernel(), list[object]()
    kernel.at(1.0, seen.append, "a")
    kernel.at(2.0, seen.append, "b")
    assert kernel.advance()
    assert (seen, kernel.now_ms) == (["a"], 1.0)
    assert kernel.advance()
    assert not kernel.advance()
    assert kernel.events == 2
