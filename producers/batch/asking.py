"""What asks the service for a line: as the gateway does, by the same reading of the same bodies."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from dsdq.errors import BusyError, DsdqError
from dsdq.settings import Settings
from dsdq.wire import ErrorCode
from producers.batch.runner import Answer
from producers.device.models import Models
from producers.openai.answering import Answering
from producers.openai.clients import Clients
from producers.openai.drafts import Drafts
from producers.openai.errors import BUSY_S, api_error, invalid
from producers.openai.requests import parse
from producers.openai.tenants import Tenants

FAULT = 500  # from there on it was not the request's


class Asking:
    """See :class:`producers.batch.runner.Runner`. ``drafts`` are names; the first that fits a target drafts."""

    def __init__(self, url: str, chosen: Settings, tenants: Tenants, drafts: tuple[str, ...]) -> None:
        models = Models()
        self._tenants = tenants
        self._drafts = Drafts(models, drafts)
        self._clients = Clients(url, chosen, models, kind="batch")
        self._answering = Answering(self._clients, models, self._drafts)

    async def load(self) -> None:
        """Load the drafters.

        Raises:
            ConfigError, ModelError: there is none of that name, or it cannot be loaded.
        """
        await self._drafts.load()

    async def __call__(self, tenant: str, endpoint: str, body: dict[str, Any], seed: int) -> Answer:
        """Return what becomes of a request."""
        try:
            request = parse(endpoint, body)
            if request.stream:
                raise invalid("stream is not supported in a batch; leave it out", "stream", "unsupported_parameter")
            async with aclosing(
                await self._answering.begin(await self._tenants.named(tenant), request, seed)
            ) as answer:
                return Answer(200, await answer.whole())
        except DsdqError as error:
            refused = api_error(error)
            # A verifier may not have heard yet of a tenant that was added or enabled; lines of one that stays off wait.
            if refused.may_pass or refused.code == ErrorCode.TENANT_DISABLED:
                raise BusyError(str(refused), 1000 * (refused.retry_after_s or BUSY_S)) from error
            if refused.status >= FAULT:
                raise refused from error
            return Answer.of(refused)

    async def aclose(self) -> None:
        """Disconnect."""
        await self._clients.aclose()
