"""How far a device drafts, how many windows it keeps in flight, and who drafts at all. Pure; numpy at most.

:mod:`~dsdq.policies.window.protocol` says how a device uses a policy.
"""

from __future__ import annotations

from dsdq.policies.window.cap import (
    Acceptance,
    DraftCost,
    StepCost,
    best_window,
    paying_window,
    shared_windows,
    widest_window,
)
from dsdq.policies.window.experience import Experience
from dsdq.policies.window.protocol import MAX_DEPTH, Choice, Mode, Observation, Offer, WindowPolicy, far_from
from dsdq.policies.window.registry import DEFAULT_POLICY, POLICIES, load_policy
from dsdq.policies.window.simple import Static, Streaming

__all__ = [
    "DEFAULT_POLICY",
    "MAX_DEPTH",
    "POLICIES",
    "Acceptance",
    "Choice",
    "DraftCost",
    "Experience",
    "Mode",
    "Observation",
    "Offer",
    "Static",
    "StepCost",
    "Streaming",
    "WindowPolicy",
    "best_window",
    "far_from",
    "load_policy",
    "paying_window",
    "shared_windows",
    "widest_window",
]
