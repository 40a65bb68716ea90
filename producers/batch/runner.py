"""What does one line of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP gateway would have answered: status and body.

    ``usage`` of the body and, beyond OpenAI's format, ``metrics`` (``judged_tokens``, ``accepted_tokens``) are summed
    over the batch.
    """

    status: int
    body: dict[str, Any]

    @classmethod
    def refused(cls, status: int, message: str, code: str) -> Answer:
        """Return an answer with OpenAI's error object."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        return cls(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})


class Runner(Protocol):
    """Does one request of a tenant."""

    async def __call__(self, tenant: str, endpoint: str, body: dict[str, Any], seed: int) -> Answer:
        """Return what becomes of a request; ``seed`` is what fixes its text where the body has none.

        Ends when it is cancelled, and leaves nothing running then.

        Raises:
            BusError: the service cannot be asked just now, or is full.
            QuotaError: a limit of the tenant; later there may be enough.
            ConfigError: nobody serves the model just now.
            PromptError, RefusedError: it will never be done.
        """
        ...

    async def aclose(self) -> None:
        """Disconnect."""
        ...
