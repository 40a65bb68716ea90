"""rediss:// against a real server with certificates made here; the bundled one is built without TLS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from dsdq.bus.connection import check_server
from dsdq.bus.dead import DeadLetters
from dsdq.bus.embedded import free_port
from dsdq.bus.inbox import Bounds, Inbox
from dsdq.bus.publishing import publish
from dsdq.errors import BusError, DeniedError, RedisUnavailableError
from dsdq.testing.servers import RealServer, Tls, client, cluster_port, real_sentinels, until
from tests.conftest import newest_server


@dataclass(frozen=True)
class Certificates:
    """The authority's file, what a server is told of its certificate, and a client's own for a URL."""

    authority: str
    arguments: list[str]
    mine: str


@dataclass(frozen=True)
class Place:
    """A server's TLS port, and its certificates."""

    port: int
    certificates: Certificates

    def url(self, host: str = "localhost", query: str = "") -> str:
        return f"rediss://{host}:{self.port}/0?{query}"

    def trusted(self, host: str = "localhost", query: str = "") -> str:
        return self.url(host, f"ssl_ca_certs={self.certificates.authority}&{query}")


def save(folder: Path, name: str, certificate: trustme.LeafCert) -> tuple[str, str]:
    certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return certificates_for("localhost", tmp_path)


def certificates_for(host: str, tmp_path: Path) -> Certificates:
    authority, file = trustme.CA(), str(tmp_path / "authority.pem")
    authority.cert_pem.write_to_path(file)
    server, key = save(tmp_path, "server", authority.issue_cert(host))
    mine, my_key = save(tmp_path, "mine", authority.issue_cert("device@example.org"))
    arguments = ["--tls-cert-file", server, "--tls-key-file", key, "--tls-ca-cert-file", file]
    return Certificates(file, arguments, f"ssl_certfile={mine}&ssl_keyfile={my_key}")


@pytest.fixture(params=["no"])
async def place(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> AsyncIterator[Place]:
    port = free_port()
    arguments = [*certificates.arguments, "--tls-port", str(port), "--tls-auth-clients", request.param]
    async with RealServer(tmp_path, program=newest_server(), arguments=arguments):
        yield Place(port, certificates)


async def test_everything_works_over_tls(place: Place) -> None:
    async with client(place.trusted()) as redis:
        await check_server(redis)
        inbox = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
        await inbox.open(Bounds(entries=3, kept=1, bytes_=1 << 20))
        await publish(redis, "w1", "acme", b"one")
        assert [entry.payload for entry in await inbox.read(count=1, block_ms=100)] == [b"one"]


@pytest.mark.parametrize("place", ["yes"], indirect=True)
async def test_a_server_that_wants_certificates_of_its_clients_gets_them(place: Place) -> None:
    async with client(place.trusted(query=place.certificates.mine)) as redis:
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


async def test_a_cluster_is_reached_over_tls(certificates: Certificates, tmp_path: Path) -> None:
    port = cluster_port()
    arguments = [
        "--tls-port",
        str(port),
        "--tls-auth-clients",
        "no",
        "--tls-cluster",
        "yes",
        "--cluster-enabled",
        "yes",
    ]
    async with RealServer(tmp_path, program=newest_server(), arguments=[*certificates.arguments, *arguments]) as server:
        async with client(server.url) as redis:
            await redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
        url = f"rediss+cluster://localhost:{port}?ssl_ca_certs={certificates.authority}&ssl_check_hostname=no"
        async with client(url) as redis:

            async def fit() -> bool:
                with contextlib.suppress(RedisUnavailableError):  # its slots are new
                    await check_server(redis)
                    return True
                return False

            await until(fit, "a cluster of one node")


async def test_a_failover_is_followed_over_tls(tmp_path: Path) -> None:
    certificates = certificates_for("127.0.0.1", tmp_path)
    tls = Tls(certificates.arguments, f"ssl_ca_certs={certificates.authority}")
    async with (
        real_sentinels(tmp_path, program=newest_server(), tls=tls) as watched,
        client(watched.url) as redis,
        client(watched.url.partition("?")[0]) as doubtful,
    ):
        await watched.replicated()
        await check_server(redis)
        with pytest.raises(BusError):
            await check_server(doubtful)  # it does not know the authority
        inbox = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
        await inbox.open(Bounds(entries=3, kept=1, bytes_=1 << 20))
        await publish(redis, "w1", "acme", b"one")
        await redis.wait(1, 5_000)
        old = await watched.primary()
        await old.kill()

        async def promoted() -> bool:
            with contextlib.suppress(RedisUnavailableError):
                await check_server(redis)
                return True
            return False

        await until(promoted, "another primary")
        assert await watched.primary() is not old
        assert [entry.payload for entry in await inbox.read(count=1, block_ms=100)] == [b"one"]
