"""Who drafts for clients that have no draft model: the first drafter that fits the target's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from dsdq.bus.registry import WorkerInfo
from dsdq.drafting import Drafter
from dsdq.errors import ConfigError
from producers.device.models import Models

NAMES = ("builtin/draft", "ngram")
"""What drafts where nobody says otherwise: n-grams fit any target."""


class Drafts:
    """Drafters in the order in which they are preferred."""

    def __init__(self, models: Models, names: Sequence[str] = NAMES) -> None:
        self._models, self._names = models, tuple(names)

    async def load(self) -> None:
        """Load all, so that no request waits for it.

        Raises:
            ModelError: one cannot be loaded.
        """
        for name in self._names:
            await self._models.drafter(name)

    async def of(self, worker: WorkerInfo) -> Drafter:
        """Return the drafter for a verifier's target.

        Raises:
            ConfigError: none fits.
        """
        for name in self._names:
            drafter = await self._models.drafter(name)
            if drafter.fingerprint in ("", worker.fingerprint):
                return drafter
        expected = "expected a draft of the target's tokenizer, or ngram, or none"
        raise ConfigError(f"drafts for {worker.model}: {expected}; got {', '.join(self._names)}")
