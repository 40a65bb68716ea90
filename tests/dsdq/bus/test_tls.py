"""rediss:// against a real server with certificates made here; the bundled one is built without TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from dsdq.bus.connection import check_server
from dsdq.bus.embedded import free_port
from dsdq.bus.inbox import Inbox, publish
from dsdq.errors import DeniedError
from dsdq.testing.servers import RealServer, client
from tests.conftest import newest_server


@dataclass(frozen=True)
class Place:
    """A server's TLS port, the authority that signed its certificate, and a client's own certificate for a URL."""

    port: int
    authority: str
    mine: str

    def url(self, host: str = "localhost", query: str = "") -> str:
        return f"rediss://{host}:{self.port}/0?{query}"

    def trusted(self, host: str = "localhost", query: str = "") -> str:
        return self.url(host, f"ssl_ca_certs={self.authority}&{query}")


def save(folder: Path, name: str, certificate: trustme.LeafCert) -> tuple[str, str]:
    certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


@pytest.fixture(params=["no"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    file, key = save(tmp_path, "server", authority.issue_cert("localhost"))
    mine = save(tmp_path, "mine", authority.issue_cert("device@example.org"))
    port = free_port()
    arguments = ["--tls-port", str(port), "--tls-cert-file", file, "--tls-key-file", key]
    arguments += ["--tls-ca-cert-file", str(tmp_path / "authority.pem"), "--tls-auth-clients", request.param]
    async with RealServer(tmp_path, program=newest_server(), arguments=arguments):
        yield Place(port, str(tmp_path / "authority.pem"), f"ssl_certfile={mine[0]}&ssl_keyfile={mine[1]}")


async def test_everything_works_over_tls(place: Place) -> None:
    async with client(place.trusted()) as redis:
        await check_server(redis)
        inbox = Inbox(redis, "w1", ["acme"])
        await inbox.open(bound=3, slots=1)
        await publish(redis, "w1", "acme", b"one")
        assert [entry.payload for entry in await inbox.read(count=1, block_ms=100)] == [b"one"]


@pytest.mark.parametrize("place", ["yes"], indirect=True)
async def test_a_server_that_wants_certificates_of_its_clients_gets_them(place: Place) -> None:
    async with client(place.trusted(query=place.mine)) as redis:
        await check_server(redis)


async def test_an_unknown_authority_is_denied(place: Place) -> None:
    async with client(place.url()) as redis:
        with pytest.raises(DeniedError, match="ssl_ca_certs"):
            await check_server(redis)


async def test_a_certificate_for_another_host_is_denied_unless_that_is_allowed(place: Place) -> None:
    async with client(place.trusted("127.0.0.1")) as redis:
        with pytest.raises(DeniedError, match="for this host"):
            await check_server(redis)
    async with client(place.trusted("127.0.0.1", "ssl_check_hostname=no")) as redis:
        await check_server(redis)
