"""What a device learned from its last text, for the policy of its next one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, TypeVar, runtime_checkable

from dsdq.policies.window.protocol import WindowPolicy

Policy = TypeVar("Policy", bound=WindowPolicy)


@runtime_checkable
class Lasting(Protocol):
    """A policy that learns what outlasts a text."""

    def go_on_from(self, before: object) -> None:
        """Begin with what a policy ``before`` this one has learned, if it is of this kind."""
        ...


class Experience:
    """A device's latest policies, one for each thing that they are ``about``: at most so many are remembered.

    A text's policy begins with what the latest one knows by then, also while that one's text still goes on. Without it
    every text would pay anew for finding out what the one before has: short answers end before that is done.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._latest: dict[Hashable, Lasting] = {}

    def begin(self, policy: Policy, about: Hashable) -> Policy:
        """Return the ``policy`` of a new text: it goes on from the latest one about the same, and is the latest now."""
        if isinstance(policy, Lasting):
            policy.go_on_from(self._latest.pop(about, None))
            self._latest[about] = policy
            if len(self._latest) > self._most:
                del self._latest[next(iter(self._latest))]
        return policy
