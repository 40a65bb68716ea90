"""Which policy a generation gets, and within which bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dsdq.bus.registry import WorkerInfo
from dsdq.client import DEFAULT_WINDOW
from dsdq.contract import Rule
from dsdq.drafting import Drafter
from dsdq.policies.window import DEFAULT_POLICY, Mode, Offer, WindowPolicy, load_policy
from producers.drafters.none import NoDrafter

WIDEST, DEEPEST = 32, 4


@dataclass(frozen=True, slots=True)
class Choosing:
    """A policy by name, and how wide and deep it may draft at most."""

    name: str
    max_window: int
    max_depth: int
    rule: Rule

    @classmethod
    def of(cls, policy: str | None, window: int | None, depth: int | None, rule: Rule) -> Self:
        """Return what follows from the arguments of :meth:`dsdq.client.Client.generate`.

        Under the rejection rule windows are not in flight behind others, and the same windows give the same text again.
        """
        bound = 1 if rule is Rule.REJECTION else depth
        if policy is None and (window is not None or depth is not None or rule is Rule.REJECTION):
            width, fixed = DEFAULT_WINDOW if window is None else window, 1 if bound is None else bound
            return cls(f"static:{width}:{fixed}", width, fixed, rule)
        return cls(
            policy or DEFAULT_POLICY, WIDEST if window is None else window, DEEPEST if bound is None else bound, rule
        )

    def policy(self, worker: WorkerInfo, drafts: Sequence[str | Drafter]) -> WindowPolicy:
        """Return the policy of a new session with this worker.

        Raises:
            ConfigError: a bound, the policy's name or one of its parameters is not what was expected.
        """
        modes = set(Mode)
        if not (worker.drafts and self.rule is Rule.COUPLED):  # a verifier drafts under that rule only
            modes.remove(Mode.COLOCATED)
        if all(draft == "none" or isinstance(draft, NoDrafter) for draft in drafts):
            modes.remove(Mode.SPECULATE)
        return load_policy(self.name, Offer(self.max_window, self.max_depth, frozenset(modes), len(drafts)))
