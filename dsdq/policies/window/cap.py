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


def paying_window(step_ms: float, position_ms: float, rows: int, acceptance: float, agreed: int) -> int:
    """Return the widest window with which ``rows`` sessions are served no slower than if the target decoded alone.

    A step over B rows of γ + 1 positions takes ``a + b·B·(γ + 1)`` and commits ``B·τ(γ)`` tokens, with
    ``τ(γ) = (1 - α^(γ+1)) / (1 - α)``; without drafts it takes ``a + b·B`` and commits B. So speculation pays iff

        τ(γ)·(a + b·B) >= a + b·B·(γ + 1)

    The left side grows ever more slowly with γ, the right side evenly: what pays is an interval, and it ends earlier
    the more rows there are (arXiv 2406.14066 chooses lengths by such a rate).

    Args:
        step_ms: a, what a step takes without
        position_ms: b, what each position takes.
        rows: B, sessions of a step.
        acceptance: α, of those sessions.
        agreed: the contract's own bound.

    Returns:
        0 to ``agreed`` tokens; 0 if even one draft token costs more than it brings.
    """
    alone_ms = step_ms + position_ms * rows
    committed, paying = 1.0, 0
    for window in range(1, agreed + 1):
        committed += acceptance**window
        if committed * alone_ms < step_ms + position_ms * rows * (window + 1):
            break
        paying = window
    return paying
