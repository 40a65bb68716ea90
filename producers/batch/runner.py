"""What does one line of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

from producers.openai.errors import ApiError


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP gateway would have answered: status and body.

    ``usage`` of the body and, beyond OpenAI's format, ``metrics`` (``judged_tokens``, ``accepted_tokens``) are summed
    over the batch.
    """

    status: int
    body: dict[str, Any]

    @classmethod
    def of(cls, error: ApiError) -> Self:
        """Return what an error of the API is."""
        return cls(error.status, error.body)


class Runner(Protocol):
    """Does one request of a tenant."""

    async def __call__(self, tenant: str, endpoint: str, body: dict[str, Any], seed: int) -> Answer:
        """Return what becomes of a request; ``seed`` is what fixes its text where the body has none.

        Ends when it is cancelled, and leaves nothing running then.

        Raises:
            BusyError: not now: nobody serves the model, the service or a limit of the tenant is full, Redis is away.
            ApiError: it failed, and that was not the request's fault.
        """
        ...

    async def aclose(self) -> None:
        """Disconnect."""
        ...
