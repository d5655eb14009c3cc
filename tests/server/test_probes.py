"""The port for probes: health and nothing else, without TLS, for those who restart processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from monay.wallet.v1 import consumer_wallet_service_pb2_grpc as wallet_grpc
from monay.wallet.v1.provider_pb2 import GetHealthRequest
from sandbox.component import free_port
from server.api.probes import ProbeServer
from server.process import StartRefused
from tests.deploy.certificates import write_certificates

from .conftest import serving, wallet_settings


async def test_health_is_served_in_plain_beside_a_server_that_speaks_tls_only(database: str, tmp_path: Path) -> None:
    """Kubernetes' probes speak no TLS; and nothing that needs a token can be called where there is none."""
    write_certificates(tmp_path / "tls", "localhost")
    port, folder = free_port(), tmp_path / "tls"
    settings = wallet_settings(
        database,
        tmp_path,
        grpc_listen=f"localhost:{free_port()}",
        probe_listen=f"127.0.0.1:{port}",
        tls_cert_file=folder / "tls.crt",
        tls_key_file=folder / "tls.key",
    )
    trusted = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
    async with serving(settings, credentials=trusted), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        probe: Any = health_pb2_grpc.HealthStub(channel)
        answer = await probe.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await wallet_grpc.ConsumerWalletServiceStub(channel).GetHealth(GetHealthRequest(), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_one_sentence() -> None:
    """And it names the setting."""
    port = free_port()
    first = ProbeServer(f"127.0.0.1:{port}", offset=0)
    assert first.port == port
    with pytest.raises(StartRefused, match="PROBE_LISTEN"):
        ProbeServer(f"127.0.0.1:{port}", offset=0)
