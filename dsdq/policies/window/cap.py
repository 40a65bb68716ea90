"""How wide a window a verifier lets a device draft next."""

from __future__ import annotations


def widest_window(step_tokens: int, waiting: int, agreed: int) -> int:
    """Return the largest window that a verifier asks for next, in tokens: with it, all who wait fit one step.

    A draft's tail is the part least likely to stand. Under load its place in a step is worth more to somebody else.

    Args:
        step_tokens: window tokens of one step.
        waiting: sessions whose rounds waited for this step.
        agreed: the contract's own bound.
    """
    return max(1, min(agreed, step_tokens // max(waiting, 1) - 1))
