"""What is asked of a target and of a draft that are compared, and where to find them. Free of torch.

The two sides live in rooms that do not know each other, so they are found by entry point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dsdq.contract import Contract
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer

GROUP = "dsdq.alignment"

Logits = NDArray[np.float32]


class TargetSide(Protocol):
    """A target that decodes alone, as a verifier would."""

    def decode(self, contracts: Sequence[Contract], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the text that the target makes of each prompt under its contract.

        Raises:
            ModelError: a text does not fit the target's context.
        """
        ...

    def logits(self, prompt: Sequence[int], generated: Sequence[int]) -> Logits:
        """Return the logits from which each of ``generated`` was chosen, float32 ``[generated, vocab]``."""
        ...

    def pass_ms(self, contract: Contract, text: Sequence[int], positions: int) -> float:
        """Return the median time of verifying the last ``positions`` tokens of ``text`` in one forward pass."""
        ...


@dataclass(frozen=True, slots=True)
class Followed:
    """What a draft would have proposed at each place of a text.

    Attributes:
        runs: for each generated token, how many draft tokens from there on stand, up to the window.
        draft_ms: the median time of a draft token.
        logits: the draft model's own, float32 ``[generated, vocab]``; None where it has no law over the target's ids.
    """

    runs: list[int]
    draft_ms: float
    logits: Logits | None


class DraftSide(Protocol):
    """A draft that follows texts of the target."""

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of its tokenizer; empty where it works on any ids."""
        ...

    def fits(self, tokenizer: Tokenizer) -> bool:
        """Say whether it drafts ids of ``tokenizer``."""
        ...

    def follow(
        self, contract: Contract, tokenizer: Tokenizer, prompt: Sequence[int], generated: Sequence[int]
    ) -> Followed:
        """Return what it would have drafted at every place of ``generated`` under the coupled rule.

        Raises:
            ConfigError: the text does not fit the draft model's context.
        """
        ...


LoadTarget = Callable[[str, str, str, int], TargetSide]
"""From a target's name, device, dtype and tokens of KV cache."""
LoadDraft = Callable[[str], DraftSide]
"""From a drafter's name."""


def target_loader() -> LoadTarget:
    """Return what loads a target; see :func:`_find`."""
    return cast("LoadTarget", _find("target"))


def draft_loader() -> LoadDraft:
    """Return what loads a draft; see :func:`_find`."""
    return cast("LoadDraft", _find("draft"))


def _find(side: str) -> object:
    """Return the loader of a side.

    Raises:
        ConfigError: the side is not installed, or what it needs is not.
    """
    found = entry_points(group=GROUP, name=side)
    if not found:
        msg = f"expected dsdq's {side} side to be installed, found none; reinstall dsdq"
        raise ConfigError(msg)
    try:
        return next(iter(found)).load()
    except ModuleNotFoundError as error:
        msg = f"expected {error.name} to be installed to run a {side}; install dsdq[torch]"
        raise ConfigError(msg) from error
