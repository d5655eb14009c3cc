"""Secrets, planted and looked for: in everything that the service writes, says and keeps, nothing of them may stand.

People's data and keys go in by the same doors as in production; then logs, answers, figures, the cache, a dump of the
database and the very bytes of its files are searched for each of them, in each form that it could have taken.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import psycopg
import pytest
import redis
from google.rpc import status_pb2

from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1.operations_service_pb2 import ListAuditRequest
from monay.wallet.v1.transfer_pb2 import Recipient
from sandbox import postgres as sandbox_postgres
from sandbox.component import free_port
from sandbox.postgres import Postgres
from storage.sealing import new_key_file

from .conftest import ENTROPY, ISSUER, SIGNING_KEY, Wallet, consumer, make_token, operator, service
from .people import transfer

ROOT = Path(__file__).parents[2]
EMAIL, PHONE, NAME = "Quagga.Planted@example.com", "+14155550142", "Philippa Quagga"
HOLDER, ACCOUNT, IBAN = "Philippa Q Planted", "9988776655", "DE89370400440532013000"
SEED = "7e57" * 16


@dataclass
class Secrets:
    """What was planted, by name, in all the forms it might be found in."""

    forms: dict[str, list[bytes]] = field(default_factory=dict)

    def plant(self, name: str, text: str) -> None:
        self.forms[name] = [text.encode(), text.lower().encode(), text.encode().hex().encode()]

    def plant_key(self, name: str, key: bytes) -> None:
        self.forms[name] = [key, key.hex().encode(), base64.b64encode(key), repr(key)[2:-1].encode()]

    def found_in(self, haystack: bytes) -> list[str]:
        return [name for name, forms in self.forms.items() if any(form in haystack for form in forms)]


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    planted = Secrets()
    for name, text in {
        "email": EMAIL,
        "phone": PHONE.removeprefix("+"),
        "name": NAME,
        "holder": HOLDER,
        "account": ACCOUNT,
        "iban": IBAN,
    }.items():
        planted.plant(name, text)
    planted.plant_key("seed", bytes.fromhex(SEED))
    document = json.loads(new_key_file(ENTROPY, name="planted"))
    (tmp_path / "sealing.json").write_text(json.dumps(document))
    planted.plant_key("sealing key", base64.b64decode(document["keys"]["planted"]))
    planted.plant_key("index key", base64.b64decode(document["index_key"]))
    return planted


@dataclass
class Service:
    """The processes of a deployment, from outside, and everything they said."""

    wallet: Wallet
    metrics: str
    output: bytearray = field(default_factory=bytearray)
    answers: bytearray = field(default_factory=bytearray)
    traces: bytearray = field(default_factory=bytearray)

    async def refused(self, call: Any) -> grpc.StatusCode:
        """A call that must fail; what its error carries is kept."""
        try:
            await call
        except grpc.aio.AioRpcError as error:
            self.answers += (error.details() or "").encode()
            for key, value in error.trailing_metadata() or ():
                self.answers += key.encode() + (value if isinstance(value, bytes) else value.encode())
                if key == "grpc-status-details-bin":
                    self.answers += str(status_pb2.Status.FromString(value)).encode()
            return error.code()
        raise AssertionError("it was answered")


@pytest.fixture
def environment(service_database: str, redis_url: str, tmp_path: Path, secrets: Secrets) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LOG_LEVEL": "debug",
        "DATABASE_URL": service_database,
        "REDIS_URL": redis_url,
        "SEALING_KEYS_FILE": str(tmp_path / "sealing.json"),
        "JWT_PUBLIC_KEY": SIGNING_KEY.as_pem(private=False).decode(),
        "JWT_ISSUER": ISSUER,
        "TEMPO_MOCK_MODE": "true",
        "SANDBOX_ENABLED": "true",
        "ADDRESS_POOL_SIZE": "20",
        "GRACE_SECONDS": "5",
    }


@asynccontextmanager
async def process(output: bytearray, environment: Mapping[str, str], role: str) -> AsyncIterator[None]:
    command = (sys.executable, "-m", "server", role)
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE)

    async def keep(stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(65_536):
            output.extend(piece)

    assert child.stdout is not None
    assert child.stderr is not None
    reading = asyncio.gather(keep(child.stdout), keep(child.stderr))
    try:
        yield
    finally:
        child.terminate()
        async with asyncio.timeout(30):
            await child.wait()
            await reading


@asynccontextmanager
async def trace_collector(received: bytearray) -> AsyncIterator[str]:
    """Takes whatever is exported; its address."""

    async def export(request: bytes, _context: Any) -> bytes:
        received.extend(request)
        return b""

    collector = grpc.aio.server()
    handler: dict[str, Any] = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    collector.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handler),))
    port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    yield f"http://127.0.0.1:{port}"
    await collector.stop(0)


@pytest.fixture
async def running(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Service]:
    """An API process without keys and a worker process with them, both as talkative as they can be."""
    grpc_listen, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    output, traces = bytearray(), bytearray()
    api = {"GRPC_LISTEN": grpc_listen, "HTTP_LISTEN": metrics}
    workers = {
        "HTTP_LISTEN": "127.0.0.1:0",
        "TEMPO_SEED": SEED,
        "TEMPO_MOCK_FILE": str(tmp_path / "chain.json"),
    }
    async with (
        trace_collector(traces) as collector,
        process(output, {**environment, **api, "OTEL_EXPORTER_OTLP_ENDPOINT": collector}, "api"),
        process(output, {**environment, **workers, "OTEL_EXPORTER_OTLP_ENDPOINT": collector}, "workers"),
        grpc.aio.insecure_channel(grpc_listen) as channel,
    ):
        await asyncio.wait_for(channel.channel_ready(), 30)
        yield Service(Wallet(None, channel, asyncio.Event()), metrics, output, traces=traces)  # type: ignore[arg-type]


async def live(service_: Service) -> str:
    """Philippa's life with the wallet: what works, and what is refused with her data in its hands."""
    wallet, onboarding = service_.wallet, pb.OnboardRequest(email=EMAIL, phone=PHONE, full_name=NAME)
    for _ in range(100):
        try:
            answer = await wallet.consumers.Onboard(onboarding, metadata=service())
            break
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.1)
    mine = consumer(answer.consumer.id)
    link = pb.LinkBankAccountRequest(
        request_id=str(ENTROPY.uuid7()),
        holder_name=HOLDER,
        bank_name="First Bank",
        iban=IBAN,
        holder_address=pb.PostalAddress(line1="1 Main Street", city="Berlin", postal_code="10115", country="DE"),
    )
    await wallet.consumers.LinkBankAccount(link, metadata=mine)
    await wallet.consumers.GetConsumer(pb.GetConsumerRequest(), metadata=mine)
    await service_.refused(wallet.consumers.Onboard(onboarding, metadata=service()))
    await service_.refused(wallet.consumers.Onboard(pb.OnboardRequest(email=f"{EMAIL} ", phone=PHONE), metadata=mine))
    broken = pb.OnboardRequest(email=f"..{EMAIL}", phone=f"{PHONE}{ACCOUNT}{ACCOUNT}", full_name=NAME * 100)
    await service_.refused(wallet.consumers.Onboard(broken, metadata=service()))
    wrong = pb.LinkBankAccountRequest(request_id=str(ENTROPY.uuid7()), holder_name=HOLDER, iban=f"{IBAN}{ACCOUNT}")
    await service_.refused(wallet.consumers.LinkBankAccount(wrong, metadata=mine))
    for recipient in (Recipient(email=f"x{EMAIL}"), Recipient(email=EMAIL), Recipient(phone=PHONE)):
        await service_.refused(wallet.consumers.Transfer(transfer(recipient, 1_000_000), metadata=mine))
    return str(answer.consumer.id)


async def fail_inside(service_: Service, database: str) -> None:
    """Faults of ours with her data under way: their tracebacks go into the log."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("REVOKE INSERT ON consumers FROM monay_service")
        again = pb.OnboardRequest(email=f"two{EMAIL}", phone="+14155550143", full_name=NAME)
        code = await service_.refused(service_.wallet.consumers.Onboard(again, metadata=service()))
        assert code == grpc.StatusCode.INTERNAL
        owner.execute("GRANT INSERT ON consumers TO monay_service")


async def test_nothing_planted_is_found_anywhere(
    running: Service, secrets: Secrets, database: str, postgres: Postgres, redis_url: str
) -> None:
    token = make_token(sub="curious", token_use="service", scope="none:at-all")
    secrets.plant("token", token)
    secrets.plant("token's signature", token.rpartition(".")[2])
    await running.refused(
        running.wallet.consumers.Onboard(pb.OnboardRequest(), metadata=(("authorization", f"Bearer {token}"),))
    )
    await running.refused(
        running.wallet.consumers.Onboard(pb.OnboardRequest(), metadata=(("authorization", f"Bearer {token}x"),))
    )
    consumer_id = await live(running)
    await fail_inside(running, database)
    await running.wallet.operations.ListAudit(ListAuditRequest(), metadata=operator())
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://{running.metrics}/metrics")).content
    while b"Onboard" not in running.traces:  # noqa: ASYNC110 - they are exported in batches
        await asyncio.sleep(0.1)
    haystacks = {
        "the traces": bytes(running.traces),
        "the answers": bytes(running.answers),
        "the metrics": metrics,
        "the cache": _everything_in(redis_url),
        "a dump of the database": _dump(database),
        "the files of the database": b"".join(_files(database, postgres)),
        "the logs": bytes(running.output),
    }
    assert consumer_id.encode() in haystacks["a dump of the database"], "the search looks in the right place"
    assert consumer_id.encode() in haystacks["the logs"]
    assert b"InsufficientPrivilege" in haystacks["the logs"], "the fault's traceback was written"
    assert b"Onboard" in haystacks["the metrics"]
    found = {place: secrets.found_in(haystack) for place, haystack in haystacks.items()}
    assert {place: names for place, names in found.items() if names} == {}


def test_a_secret_that_is_there_would_be_found(secrets: Secrets) -> None:
    """A search that cannot find proves nothing."""
    assert secrets.found_in(f"… {EMAIL.lower()} …".encode()) == ["email"]
    assert secrets.found_in(b"\x00" + bytes.fromhex(SEED)) == ["seed"]
    assert secrets.found_in(IBAN.encode().hex().encode()) == ["iban"]


def _everything_in(redis_url: str) -> bytes:
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter())
        return b"\n".join(key + (client.dump(key) or b"") for key in keys)


def _dump(database: str) -> bytes:
    program = sandbox_postgres.programs() / "pg_dump"
    return subprocess.run([program, database], check=True, capture_output=True).stdout


def _files(database: str, postgres: Postgres) -> Iterator[bytes]:
    """What somebody with the disk reads: every table and index of the database, and the write-ahead log."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("CHECKPOINT")
        found = owner.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        assert found is not None
        log = owner.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
        assert log is not None
    data = postgres.working_folder
    for path in [*(data / "base" / str(found[0])).iterdir(), data / "pg_wal" / str(log[0])]:
        if path.is_file():
            yield path.read_bytes()
