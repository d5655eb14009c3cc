"""The production gateway before a server as in production: TLS on both sides, health first, a token for nobody."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest
import yaml

from sandbox.component import free_port
from sandbox.gateway import PRODUCTION, program_path
from server.api.descriptors import descriptor_set
from tests.deploy.certificates import write_certificates
from tests.server.conftest import fill_pool, service, serving, wallet_settings
from tests.workers.house import until

# The name that the certificate is for; only addresses and paths differ from a deployment.
NAME = "wallet-api"


def configured(folder: Path, *, port: int, wallet_port: int) -> Path:
    """The file as it is deployed, with this machine's places in it."""
    here = {name: (PRODUCTION.parent / name).read_text() for name in ("envoy.yaml", "tls.yaml")}
    for name, text in here.items():
        (folder / name).write_text(text.replace("/etc/monay/gateway", str(folder)).replace("/etc/monay", str(folder)))
    config = yaml.safe_load((folder / "envoy.yaml").read_text())
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (cluster,) = config["static_resources"]["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": wallet_port}
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    (folder / "contract.binpb").write_bytes(descriptor_set().SerializeToString())
    return folder / "envoy.yaml"


@asynccontextmanager
async def gateway(folder: Path, *, wallet_port: int) -> AsyncIterator[httpx.AsyncClient]:
    """Envoy, and a caller who trusts its certificate."""
    program = program_path()
    if program is None:
        (pytest.fail if os.environ.get("REQUIRE_ALL") == "1" else pytest.skip)("Envoy has no build for this machine")
    assert program is not None
    port = free_port()
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    config = configured(folder, port=port, wallet_port=wallet_port)
    with (folder / "envoy.log").open("w") as log:
        envoy = await asyncio.create_subprocess_exec(
            program, "--config-path", config, *options, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{port}",
            verify=ssl.create_default_context(cafile=folder / "tls/ca.crt"),
            timeout=20,
        ) as client:
            yield client
    finally:
        envoy.terminate()
        await envoy.wait()


async def get(client: httpx.AsyncClient, path: str, **headers: str) -> httpx.Response:
    return await client.get(path, headers={"host": NAME, **headers}, extensions={"sni_hostname": NAME})


async def test_calls_go_through_tls_on_both_sides_and_bring_their_own_token(database: str, tmp_path: Path) -> None:
    """What the sandbox forgives, a call without a token, is refused here."""
    write_certificates(tmp_path / "tls", NAME, "localhost")
    wallet_port = free_port()
    settings = wallet_settings(
        database,
        tmp_path,
        grpc_listen=f"localhost:{wallet_port}",
        tls_cert_file=tmp_path / "tls/tls.crt",
        tls_key_file=tmp_path / "tls/tls.key",
    )
    await fill_pool(settings)
    trusted = grpc.ssl_channel_credentials((tmp_path / "tls/ca.crt").read_bytes())
    async with serving(settings, credentials=trusted), gateway(tmp_path, wallet_port=wallet_port) as client:

        async def healthy() -> bool:
            try:
                return (await get(client, "/api/consumer/health")).status_code == 200
            except httpx.TransportError:
                return False

        await until(healthy, seconds=60)
        refused = await get(client, "/api/consumer/provider-status")
        assert refused.status_code == 401
        assert refused.json()["details"][0]["reason"] == "TOKEN_MISSING"
        ((_, token),) = service()
        assert (await get(client, "/api/consumer/provider-status", authorization=token)).status_code == 200
