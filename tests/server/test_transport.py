"""The transport: TLS, reflection, sizes, the metrics beside it, and a database that goes away."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import grpc
import httpx
import psycopg
import pytest
import structlog
import trustme
from grpc_reflection.v1alpha import reflection_pb2

from monay.wallet.v1.consumer_pb2 import GetConsumerRequest, OnboardRequest
from monay.wallet.v1.provider_pb2 import GetHealthRequest
from sandbox.component import free_port
from sandbox.postgres import Postgres
from server.settings import Settings
from server.telemetry import configure_logging

from .conftest import ENTROPY, Metadata, Wallet, fill_pool, operator, refused, service, serving, wallet_settings

V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"


async def listed(channel: grpc.aio.Channel, version: str, metadata: Metadata | None = None) -> list[str]:
    """The services that reflection names."""
    ask = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=metadata)
    answer: Any = await call.read()
    assert isinstance(answer, reflection_pb2.ServerReflectionResponse), await call.code()
    return [service.name for service in answer.list_services_response.service]


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_reflection_lists_the_services_in_both_versions(wallet: Wallet, version: str) -> None:
    """grpcurl asks for one and other tools for the other."""
    names = await listed(wallet.channel, version)
    assert {"monay.wallet.v1.ConsumerWalletService", "monay.wallet.v1.SandboxService"} <= set(names)


@pytest.fixture
def production(service_database: str, tmp_path: Path) -> tuple[Settings, trustme.CA]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    changes = {"tls_cert_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "key.pem"}
    said = {"environment": "production", "synchronous_standby": "none"}
    return wallet_settings(service_database, tmp_path, **said, **changes), authority


async def test_with_a_certificate_tls_is_all_that_is_spoken(production: tuple[Settings, trustme.CA]) -> None:
    settings, authority = production
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with serving(settings, credentials=credentials) as wallet:
        assert (await wallet.consumers.GetHealth(GetHealthRequest())).database == "connected"
        async with grpc.aio.insecure_channel(settings.grpc_listen) as plain:
            refusal = await refused(Wallet(settings, plain, wallet.stop).consumers.GetHealth(GetHealthRequest()))
            assert refusal.code == grpc.StatusCode.UNAVAILABLE


async def test_in_production_reflection_needs_a_token_and_the_sandbox_is_not_listed(
    production: tuple[Settings, trustme.CA],
) -> None:
    settings, authority = production
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with serving(settings, credentials=credentials) as wallet:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(wallet.channel, V1)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        names = await listed(wallet.channel, V1, operator())
        assert "monay.wallet.v1.OperationsService" in names
        assert "monay.wallet.v1.SandboxService" not in names


async def test_a_message_that_is_too_large_is_refused_before_it_is_read(database: str, tmp_path: Path) -> None:
    async with serving(wallet_settings(database, tmp_path, grpc_max_message_bytes=10_000)) as wallet:
        request = OnboardRequest(email="a" * 20_000)
        refusal = await refused(wallet.consumers.Onboard(request, metadata=service()))
        assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_figures_are_served_beside_it(database: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with serving(wallet_settings(database, tmp_path, http_listen=address)) as wallet:
        await wallet.consumers.GetHealth(GetHealthRequest())
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{address}/metrics")
        assert 'grpc_server_handled_total{grpc_code="OK",grpc_method="GetHealth"' in answer.text


async def test_a_database_that_is_away_is_unavailable_and_not_a_fault(
    postgres: Postgres, settings: Settings, database: str
) -> None:
    """SDKs try again with the same request id; the process stays and answers when the database is back."""
    await fill_pool(settings)
    name = database.rpartition("/")[2]
    request = OnboardRequest(email="ann@example.com", phone="+14155550100", request_id=str(ENTROPY.uuid7()))
    unknown = GetConsumerRequest(consumer_id=str(ENTROPY.uuid7()))
    async with serving(settings) as wallet:
        with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            for call in (
                wallet.consumers.Onboard(request, metadata=service()),
                wallet.consumers.GetConsumer(unknown, metadata=service()),
            ):
                refusal = await refused(call)
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        answer = await wallet.consumers.Onboard(request, metadata=service())
        assert answer.consumer.id


def test_every_line_is_one_json_object(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Our own lines and those of libraries, exceptions included."""
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("info", process="api-7")
        structlog.get_logger().info("settlement.confirmed", items=42)
        logging.getLogger("a.library").warning("something %s", "odd")
        try:
            raise RuntimeError("inside")
        except RuntimeError:
            logging.getLogger("a.library").exception("it failed")
    finally:
        structlog.configure(**before)
        root.handlers[:], root.level = handlers, level
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["settlement.confirmed", "something odd", "it failed"]
    assert {line["process"] for line in lines} == {"api-7"}
    assert lines[0]["items"] == 42
    assert "RuntimeError: inside" in lines[2]["exception"]
    assert all(line["time"].endswith("Z") for line in lines)
