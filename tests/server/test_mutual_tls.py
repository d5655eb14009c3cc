"""Certificates: services show theirs on a listener of their own, and ours is renewed without a restart."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.provider_pb2 import GetHealthRequest
from sandbox.component import free_port
from server.settings import Settings

from .conftest import Metadata, Wallet, consumer, fill_pool, operator, refused, service, serving, wallet_settings


@dataclass
class Authorities:
    """Who issues the server's certificate, and who the clients'."""

    servers: trustme.CA
    clients: trustme.CA
    folder: Path

    def renew(self) -> int:
        """Give the server a new certificate; its serial number."""
        issued = self.servers.issue_cert("127.0.0.1")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (self.folder / "cert.pem").write_bytes(chain)
        (self.folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
        return x509.load_pem_x509_certificate(chain).serial_number

    def client(self, *names: str, common_name: str | None = None, issuer: trustme.CA | None = None) -> Credentials:
        issued = (issuer or self.clients).issue_cert(*names, common_name=common_name)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return grpc.ssl_channel_credentials(self.servers.cert_pem.bytes(), issued.private_key_pem.bytes(), chain)

    def anonymous(self) -> Credentials:
        return grpc.ssl_channel_credentials(self.servers.cert_pem.bytes())


Credentials = grpc.ChannelCredentials


@pytest.fixture
def authorities(tmp_path: Path) -> Authorities:
    found = Authorities(trustme.CA(), trustme.CA(), tmp_path)
    found.renew()
    found.clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    return found


@pytest.fixture
async def settings(database: str, tmp_path: Path, authorities: Authorities) -> Settings:
    changed = wallet_settings(
        database,
        tmp_path,
        tls_cert_file=tmp_path / "cert.pem",
        tls_key_file=tmp_path / "key.pem",
        mtls_listen=f"127.0.0.1:{free_port()}",
        mtls_client_ca_file=tmp_path / "clients.pem",
    )
    await fill_pool(changed)
    return changed


def onboarding(number: int) -> OnboardRequest:
    return OnboardRequest(email=f"ann{number}@example.com", phone=f"+1415555010{number}")


async def reason_of(address: str, credentials: Credentials, metadata: Metadata, *, number: int = 0) -> str:
    """How an onboarding ends over such a connection: "", or the reason of its refusal."""
    async with grpc.aio.secure_channel(address, credentials) as channel:
        wallet = Wallet(None, channel, None)  # type: ignore[arg-type]
        try:
            await wallet.consumers.Onboard(onboarding(number), metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return (await refused(_raising(error))).reason or error.code().name
    return ""


async def _raising(error: grpc.aio.AioRpcError) -> None:
    raise error


async def test_a_service_is_let_in_with_its_token_and_its_certificate(
    settings: Settings, authorities: Authorities
) -> None:
    assert settings.mtls_listen is not None
    shown: Sequence[Credentials] = (
        authorities.client("payroll"),
        authorities.client("payroll.internal", "payroll"),
        authorities.client("host7.internal", common_name="payroll"),
    )
    async with serving(settings, credentials=authorities.anonymous()):
        for number, credentials in enumerate(shown):
            assert await reason_of(settings.mtls_listen, credentials, service("payroll"), number=number) == ""


async def test_a_stolen_token_is_worth_nothing_without_the_certificate(
    settings: Settings, authorities: Authorities
) -> None:
    """Neither with another service's certificate, nor on the listener that asks for none."""
    assert settings.mtls_listen is not None
    async with serving(settings, credentials=authorities.anonymous()):
        other = authorities.client("reports")
        assert await reason_of(settings.mtls_listen, other, service("payroll")) == "CERTIFICATE_REQUIRED"
        longer = authorities.client("payroll.reports")
        assert await reason_of(settings.mtls_listen, longer, service("payroll")) == "CERTIFICATE_REQUIRED"
        anonymous = authorities.anonymous()
        assert await reason_of(settings.grpc_listen, anonymous, service("payroll")) == "CERTIFICATE_REQUIRED"


async def test_without_a_certificate_of_our_authority_there_is_no_connection(
    settings: Settings, authorities: Authorities
) -> None:
    assert settings.mtls_listen is not None
    async with serving(settings, credentials=authorities.anonymous()):
        stranger = authorities.client("payroll", issuer=trustme.CA())
        for credentials in (authorities.anonymous(), stranger):
            assert await reason_of(settings.mtls_listen, credentials, service("payroll")) == "UNAVAILABLE"


async def test_consumers_and_operators_need_no_certificate(settings: Settings, authorities: Authorities) -> None:
    async with serving(settings, credentials=authorities.anonymous()):
        nobody = "01890000-0000-7000-8000-000000000abc"
        for metadata in (consumer(nobody), operator()):
            reason = await reason_of(settings.grpc_listen, authorities.anonymous(), metadata)
            assert reason == "CALLER_NOT_ALLOWED", "let in, and told that only services onboard"


# --- renewal ----------------------------------------------------------------------------------------------------------


def shown_serial(address: str) -> int:
    """The certificate that a new connection is shown."""
    host, _, port = address.partition(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode()).serial_number


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    settings: Settings, authorities: Authorities
) -> None:
    async with serving(settings, credentials=authorities.anonymous()) as wallet:
        await wallet.consumers.GetHealth(GetHealthRequest())
        serial = authorities.renew()
        assert await asyncio.to_thread(shown_serial, settings.grpc_listen) == serial
        await wallet.consumers.GetHealth(GetHealthRequest())


async def test_a_pair_that_does_not_fit_is_passed_over(settings: Settings, authorities: Authorities) -> None:
    """Files are replaced one after the other; a handshake in between must not fail."""
    async with serving(settings, credentials=authorities.anonymous()):
        serial = await asyncio.to_thread(shown_serial, settings.grpc_listen)
        key = (authorities.folder / "key.pem").read_bytes()
        renewed = authorities.renew()
        new_key = (authorities.folder / "key.pem").read_bytes()
        (authorities.folder / "key.pem").write_bytes(key)
        assert await asyncio.to_thread(shown_serial, settings.grpc_listen) == serial
        (authorities.folder / "cert.pem").rename(authorities.folder / "away.pem")
        assert await asyncio.to_thread(shown_serial, settings.grpc_listen) == serial
        (authorities.folder / "away.pem").rename(authorities.folder / "cert.pem")
        (authorities.folder / "key.pem").write_bytes(new_key)
        assert await asyncio.to_thread(shown_serial, settings.grpc_listen) == renewed


async def test_an_authority_that_is_withdrawn_lets_nobody_in_any_more(
    settings: Settings, authorities: Authorities
) -> None:
    assert settings.mtls_listen is not None
    async with serving(settings, credentials=authorities.anonymous()):
        known = authorities.client("payroll")
        assert await reason_of(settings.mtls_listen, known, service("payroll")) == ""
        successor = trustme.CA()
        successor.cert_pem.write_to_path(authorities.folder / "clients.pem")
        assert await reason_of(settings.mtls_listen, known, service("payroll"), number=1) == "UNAVAILABLE"
        fresh = authorities.client("payroll", issuer=successor)
        assert await reason_of(settings.mtls_listen, fresh, service("payroll"), number=1) == ""
