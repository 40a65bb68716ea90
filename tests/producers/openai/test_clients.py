"""One client for each tenant and secret, as long as the tenant has that secret."""

from __future__ import annotations

from typing import Self
from unittest.mock import patch

from dsdq.settings import Settings
from dsdq.tenants import Tenant, wrap
from producers.device.models import Models
from producers.openai import clients
from producers.openai.clients import Clients
from producers.openai.tenants import unrecorded

SERVICE_KEY = bytes(range(32))
SECRETS = [wrap(SERVICE_KEY, "acme", bytes([number]) * 32) for number in range(3)]


class Client:
    """Counts those that are open."""

    open: int = 0

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        Client.open += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        Client.open -= 1


def acme(*secrets: str) -> Tenant:
    return unrecorded("acme").model_copy(update={"secrets": secrets})


async def test_a_client_is_closed_when_its_secret_is_dropped_and_no_sooner() -> None:
    chosen = Settings(service_key=SERVICE_KEY.hex())  # type: ignore[arg-type]
    with patch.object(clients, "RedisClient", Client):
        held = Clients("redis://", chosen, Models(), kind="gateway")
        old = await held.of(acme(SECRETS[0]))
        new = await held.of(acme(SECRETS[1], SECRETS[0]))
        assert Client.open == 2
        assert await held.of(acme(SECRETS[0])) is old  # whoever knows of no later secret ends no later client
        assert Client.open == 2
        assert await held.of(acme(SECRETS[1])) is new
        assert Client.open == 1
        assert await held.of(acme(SECRETS[2])) is not new
        assert Client.open == 1
        await held.aclose()
        assert Client.open == 0
