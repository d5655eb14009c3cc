"""A real API process in the test's own event loop, on a real database, and callers with tokens of every kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from joserfc import jwt
from joserfc.jwk import ECKey

from domain.clock import SystemClock, SystemEntropy
from monay.wallet.v1 import consumer_wallet_service_pb2_grpc as wallet_grpc
from monay.wallet.v1 import operations_service_pb2_grpc as operations_grpc
from monay.wallet.v1 import sandbox_service_pb2_grpc as sandbox_grpc
from sandbox.component import free_port
from server.api_process import run_api
from server.process import Arguments
from server.settings import Role, Settings
from storage import addresses
from storage.database import create_engine
from storage.sealing import new_key_file
from tests import reasons

ISSUER = "https://issuer.test"
SIGNING_KEY = ECKey.generate_key("P-256", parameters={"kid": "tests"})
ENTROPY = SystemEntropy(SystemClock())
ALL_SCOPES = "wallet:read wallet:write consumers:onboard operations:read operations:write"

Metadata = tuple[tuple[str, str], ...]


# Some tokens are made when a module is imported, which is minutes before its tests run.
TOKEN_SECONDS = 7_200


def make_token(key: Any = SIGNING_KEY, *, alg: str = "ES256", **claims: Any) -> str:
    """A token that the test server accepts, unless the claims say otherwise; a claim of None is left out."""
    now = int(time.time())
    body = {"iss": ISSUER, "aud": "monay-wallet", "iat": now, "exp": now + TOKEN_SECONDS, "scope": ALL_SCOPES, **claims}
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode({"alg": alg}, body, key, algorithms=[alg])


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def consumer(consumer_id: UUID | str, **claims: Any) -> Metadata:
    """What a consumer's app sends."""
    return bearer(make_token(sub=str(consumer_id), token_use="consumer", **claims))


def service(name: str = "backend", **claims: Any) -> Metadata:
    """What a backend of ours sends."""
    return bearer(make_token(sub=name, token_use="service", **claims))


def operator(name: str = "alice", **claims: Any) -> Metadata:
    """What an operator sends."""
    return bearer(make_token(sub=name, token_use="operator", **claims))


@dataclass
class Wallet:
    """The server under test, from outside."""

    settings: Settings
    channel: grpc.aio.Channel
    stop: asyncio.Event

    @property
    def consumers(self) -> Any:
        return wallet_grpc.ConsumerWalletServiceStub(self.channel)

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)

    @property
    def operations(self) -> Any:
        return operations_grpc.OperationsServiceStub(self.channel)

    @property
    def sandbox(self) -> Any:
        return sandbox_grpc.SandboxServiceStub(self.channel)


def wallet_settings(database: str, folder: Path, **changes: Any) -> Settings:
    """Settings of a test server, on free ports."""
    keys = folder / "sealing.json"
    if not keys.exists():
        keys.write_text(new_key_file(ENTROPY, name="tests"))
    values: dict[str, Any] = {
        "database_url": database,
        "sealing_keys_file": keys,
        "grpc_listen": f"127.0.0.1:{free_port()}",
        "http_listen": "127.0.0.1:0",
        "jwt_public_key": SIGNING_KEY.as_pem(private=False).decode(),
        "jwt_issuer": ISSUER,
        "sandbox_enabled": True,
        # Tests call faster than people; what the limits do has tests of its own.
        "consumer_rate_limit": 0,
        "grace_seconds": 5,
        "log_level": "warning",
    }
    return Settings(**{**values, **changes})


@asynccontextmanager
async def serving(settings: Settings, *, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Wallet]:
    """Run the server's own composition until the block ends, then stop it as SIGTERM would."""
    stop = asyncio.Event()
    running = asyncio.create_task(run_api(Arguments(Role.API, 1, 0, False), settings, stop))
    # The first try comes before the server is there; a second's pause after it would be most of a test.
    options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50)]
    if credentials is None:
        connection = grpc.aio.insecure_channel(settings.grpc_listen, options=options)
    else:
        connection = grpc.aio.secure_channel(settings.grpc_listen, credentials, options=options)
    async with connection as channel:
        ready = asyncio.create_task(channel.channel_ready())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        if running.done():
            running.result()
        try:
            yield Wallet(settings, channel, stop)
        finally:
            stop.set()
            await running


@pytest.fixture
def settings(service_database: str, tmp_path: Path) -> Settings:
    """Of a server that works as the service's own role, as it does in a deployment."""
    return wallet_settings(service_database, tmp_path)


@pytest.fixture
async def wallet(settings: Settings) -> AsyncIterator[Wallet]:
    """A server on an empty database with a few free addresses."""
    await fill_pool(settings)
    async with serving(settings) as running:
        yield running


async def fill_pool(settings: Settings, count: int = 20) -> None:
    """What the workers do ahead of time, with addresses that nobody has a key for."""
    engine = create_engine(settings.database_url.get_secret_value())
    async with engine.begin() as tx:
        first = await addresses.next_index(tx)
        derived = [f"0x{ENTROPY.token_bytes(20).hex()}" for _ in range(count)]
        await addresses.add_derived(tx, derived, first_index=first, now=SystemClock().now(), entropy=ENTROPY)
    await engine.dispose()


@dataclass
class Refusal:
    """An error as a client unpacks it."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    trailers: dict[str, Any]
    details: list[Any]

    def detail(self, kind: Any) -> Any:
        """The detail of that type; fails when there is none."""
        for packed in self.details:
            if packed.Is(kind.DESCRIPTOR):
                found = kind()
                packed.Unpack(found)
                return found
        raise AssertionError(f"no {kind.DESCRIPTOR.name} among the details")

    def has(self, kind: Any) -> bool:
        return any(packed.Is(kind.DESCRIPTOR) for packed in self.details)


async def refused(call: Callable[[], Awaitable[Any]] | Awaitable[Any]) -> Refusal:
    """The refusal that a call must end in."""
    try:
        answer = await (call() if callable(call) else call)
    except grpc.aio.AioRpcError as error:
        return unpacked(error)
    raise AssertionError(f"the call was answered: {answer}")


def unpacked(error: grpc.aio.AioRpcError) -> Refusal:
    """What an error carries."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for packed in status.details:
        if packed.Is(info.DESCRIPTOR):
            packed.Unpack(info)
    reasons.SEEN.add(info.reason)
    return Refusal(
        error.code(), error.details() or "", info.reason, dict(info.metadata), trailers, list(status.details)
    )
