"""What a device loads once, however many clients and sessions use it: drafters and tokenizers."""

from __future__ import annotations

import asyncio

from dsdq.models.tokenizer import Tokenizer
from producers.drafters import Drafter, load_drafter


class Models:
    """Drafters and tokenizers by name."""

    def __init__(self) -> None:
        self._drafters: dict[str, Drafter] = {}
        self._tokenizers: dict[str, Tokenizer] = {}
        self._loading = asyncio.Lock()

    async def drafter(self, name: str | Drafter) -> Drafter:
        """Return a drafter; one that is given is returned as it is.

        Raises:
            ModelError: it cannot be loaded.
        """
        if not isinstance(name, str):
            return name
        if name not in self._drafters:
            async with self._loading:
                if name not in self._drafters:
                    self._drafters[name] = await asyncio.to_thread(load_drafter, name)
        return self._drafters[name]

    async def tokenizer(self, name: str) -> Tokenizer:
        """Return a model's tokenizer.

        Raises:
            ModelError: it cannot be loaded.
        """
        if name not in self._tokenizers:
            async with self._loading:
                if name not in self._tokenizers:
                    self._tokenizers[name] = await asyncio.to_thread(Tokenizer.load, name)
        return self._tokenizers[name]
