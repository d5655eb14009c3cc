"""An upgrade of a running service: two replicas, one after the other replaced under load, and no caller notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from domain.money import Asset
from monay.wallet.v1 import consumer_wallet_service_pb2_grpc as wallet_grpc
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import WatchBalancesRequest
from sandbox.component import free_port
from tests.books import audit, books_of, deposit
from tests.server.conftest import fill_pool, service, wallet_settings
from tests.server.people import transfer
from tests.workers.house import UNIT, until

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 60

# What an SDK and the manifests say: balance over the addresses, and ask each for its health.
BALANCED = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
}


@dataclass
class Replica:
    """One API process, as a pod runs it."""

    environment: dict[str, str]
    port: int
    process: Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it says SERVING."""
        environment = {**self.environment, "GRPC_LISTEN": f"127.0.0.1:{self.port}", "HTTP_LISTEN": "127.0.0.1:0"}
        command = (sys.executable, "-m", "server", "api")
        self.process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=DEVNULL)
        await until(self.serving, seconds=PATIENCE_SECONDS)

    async def serving(self) -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> int:
        """As Kubernetes stops a pod; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()


@dataclass
class Callers:
    """Backends that pay and never try a call a second time, and an app that watches a balance."""

    wallet: wallet_grpc.ConsumerWalletServiceStub
    people: list[str]
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    streams: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        await asyncio.gather(*(self._pay(n) for n in range(len(self.people))), self._watch(self.people[0]))

    async def _pay(self, number: int) -> None:
        sender, recipient = self.people[number], self.people[number - 1]
        while not self.stop.is_set():
            request = transfer(uuid.UUID(recipient), 1_000, consumer_id=sender)
            try:
                await self.wallet.Transfer(request, metadata=service(), timeout=20)
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{error.code()}: {error.details()}")
            else:
                self.answered += 1
            await asyncio.sleep(0.002)

    async def _watch(self, consumer: str) -> None:
        """A stream ends with its server; it begins again elsewhere, with a snapshot, as SDKs do by themselves."""
        while not self.stop.is_set():
            stream = self.wallet.WatchBalances(WatchBalancesRequest(consumer_id=consumer), metadata=service())
            try:
                async for message in stream:
                    self.streams += message.HasField("snapshot")
                    if self.stop.is_set():
                        return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    self.failed.append(f"stream: {error.code()}")

    async def more(self, count: int) -> None:
        """Until that many more calls were answered."""
        wanted = self.answered + count

        async def reached() -> bool:
            return self.answered >= wanted

        await until(reached, seconds=PATIENCE_SECONDS)


@asynccontextmanager
async def replicas(database: str, folder: Path) -> AsyncIterator[list[Replica]]:
    """Two of them, and a third place for the surge."""
    settings = wallet_settings(database, folder)
    await fill_pool(settings)
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database,
        "SEALING_KEYS_FILE": str(settings.sealing_keys_file),
        "JWT_PUBLIC_KEY": str(settings.jwt_public_key),
        "JWT_ISSUER": str(settings.jwt_issuer),
        "LOG_LEVEL": "warning",
    }
    running = [Replica(environment, free_port()) for _ in range(3)]
    try:
        yield running
    finally:
        for replica in running:
            if replica.process is not None:
                await replica.stop()


async def people_with_money(wallet: wallet_grpc.ConsumerWalletServiceStub, database: str) -> list[str]:
    people = []
    for number in range(4):
        request = OnboardRequest(email=f"rolling-{number}@example.com", phone=f"+1415555{2000 + number}")
        people.append(str((await wallet.Onboard(request, metadata=service())).consumer.id))
    async with books_of(database) as books:
        for person in people:
            await books.apply(deposit(uuid.UUID(person), 900 * UNIT, asset=Asset.USDC))
    return people


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_both_replicas_are_replaced_under_load_without_a_failed_call(database: str, tmp_path: Path) -> None:
    """New before old, health before calls, and what is in flight is finished before a process leaves."""
    async with replicas(database, tmp_path) as (first, second, third):
        await asyncio.gather(first.start(), second.start())
        addresses = ",".join(f"127.0.0.1:{replica.port}" for replica in (first, second, third))
        options = [("grpc.service_config", json.dumps(BALANCED)), ("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(f"ipv4:{addresses}", options=options) as channel:
            wallet = wallet_grpc.ConsumerWalletServiceStub(channel)
            callers = Callers(wallet, await people_with_money(wallet, database))
            calling = asyncio.create_task(callers.run())
            await callers.more(100)
            # The surge, then one old one out; its place is taken by the second's successor.
            await third.start()
            assert await first.stop() == 0
            await callers.more(100)
            await first.start()
            assert await second.stop() == 0
            await callers.more(100)
            callers.stop.set()
            # The watcher sees the end with its next message.
            await wallet.Transfer(
                transfer(uuid.UUID(callers.people[0]), 1, consumer_id=callers.people[1]), metadata=service()
            )
            await calling
    assert callers.failed == []
    assert callers.streams >= 1
    async with books_of(database) as books:
        await audit(books.engine)
        rows = await books.execute("SELECT count(*) FROM transactions WHERE kind = 'transfer'")
        assert rows[0][0] == callers.answered + 1
