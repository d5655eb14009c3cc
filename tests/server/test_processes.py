"""The processes themselves, as an operator meets them: how they start, refuse to start, stop, and die together."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from domain.clock import SystemClock
from domain.money import Asset
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import WatchBalancesRequest, WatchBalancesResponse
from monay.wallet.v1.operations_service_pb2 import GetLedgerProofRequest
from monay.wallet.v1.provider_pb2 import GetHealthRequest
from sandbox.component import free_port
from sandbox.tempo_node import TempoNode
from server.settings import WORKER_SECRETS
from storage import proofs
from storage.database import create_engine
from storage.sealing import new_key_file

from .conftest import ENTROPY, ISSUER, SIGNING_KEY, Wallet, consumer, operator, service, unpacked

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 30
REPORT: dict[str, Any] = {
    "block_number": None,
    "block_hash": "",
    "block_time": None,
    "chain_note": "",
    "ledger_sums": {},
    "owed": {},
    "in_settlement": {},
    "standing": {},
    "on_chain": {},
    "equations": [],
}


@pytest.fixture
def environment(database: str, tmp_path: Path) -> dict[str, str]:
    """What a deployment without a chain sets."""
    (tmp_path / "sealing.json").write_text(new_key_file(ENTROPY, name="tests"))
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database,
        "SEALING_KEYS_FILE": str(tmp_path / "sealing.json"),
        "JWT_PUBLIC_KEY": SIGNING_KEY.as_pem(private=False).decode(),
        "JWT_ISSUER": ISSUER,
        "GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        "HTTP_LISTEN": "127.0.0.1:0",
        "TEMPO_MOCK_MODE": "true",
        "TEMPO_SEED": "5e" * 32,
        "TEMPO_MOCK_FILE": str(tmp_path / "chain.json"),
        "ADDRESS_POOL_SIZE": "20",
        "GRACE_SECONDS": "5",
    }


@asynccontextmanager
async def running(environment: dict[str, str], *line: str) -> AsyncIterator[tuple[Process, Wallet]]:
    """The server as a child process, serving; killed at the end if it still runs."""
    command = (sys.executable, "-m", "server", *line)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE)
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    try:
        async with grpc.aio.insecure_channel(environment["GRPC_LISTEN"], options=options) as channel:
            await until_serving(process, channel)
            yield process, Wallet(None, channel, asyncio.Event())  # type: ignore[arg-type]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_serving(process: Process, channel: grpc.aio.Channel) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.returncode is None, (await process.communicate())[1].decode()
        try:
            answer = await Wallet(None, channel, asyncio.Event()).health.Check(HealthCheckRequest(), timeout=1)  # type: ignore[arg-type]
            if answer.status == HealthCheckResponse.SERVING:
                return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
    raise AssertionError("the server does not serve")


async def exit_code(process: Process, *, within: float = 20) -> int:
    async with asyncio.timeout(within):
        return await process.wait()


async def store_proof(database: str) -> None:
    """What a worker does when a proof was asked for."""
    engine = create_engine(database)
    async with engine.begin() as tx:
        await proofs.store(tx, proof_id=ENTROPY.uuid7(), clean=True, report=REPORT, now=SystemClock().now())
    await engine.dispose()
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE provider_jobs SET state = 'done', answer = '{}'")


# --- one API process ----------------------------------------------------------------------------------------------


async def test_a_call_in_flight_finishes_after_sigterm_and_the_process_ends_with_0(
    environment: dict[str, str], database: str
) -> None:
    """A deployment replaces servers all day; nobody's call is to fail because of it."""
    async with running(environment, "api") as (process, wallet):
        call = wallet.operations.GetLedgerProof(GetLedgerProofRequest(refresh=True), metadata=operator(), timeout=10)
        stream = wallet.consumers.WatchBalances(
            WatchBalancesRequest(consumer_id=str(ENTROPY.uuid7())), metadata=service()
        )
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        await store_proof(database)
        assert (await call).clean
        assert await stream.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
        assert await exit_code(process) == 0


@pytest.mark.system
async def test_newcomers_are_sent_away_while_calls_in_flight_finish(environment: dict[str, str], database: str) -> None:
    async with running(environment, "api") as (process, wallet):
        call = wallet.operations.GetLedgerProof(GetLedgerProofRequest(refresh=True), metadata=operator(), timeout=10)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        async with grpc.aio.insecure_channel(environment["GRPC_LISTEN"]) as late:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Wallet(None, late, asyncio.Event()).consumers.GetHealth(GetHealthRequest())  # type: ignore[arg-type]
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        await store_proof(database)
        await call
        assert await exit_code(process) == 0


@pytest.mark.system
async def test_the_grace_is_bounded(environment: dict[str, str]) -> None:
    """A call that never ends must not keep an old server alive."""
    environment["GRACE_SECONDS"] = "0.5"
    async with running(environment, "api") as (process, wallet):
        call = wallet.operations.GetLedgerProof(GetLedgerProofRequest(refresh=True), metadata=operator(), timeout=30)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert await exit_code(process, within=10) == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_server_ends_at_once(environment: dict[str, str], number: signal.Signals) -> None:
    async with running(environment, "api") as (process, _):
        process.send_signal(number)
        assert await exit_code(process, within=5) == 0


async def refused_start(environment: dict[str, str], *line: str) -> str:
    """What a process that does not start says; one sentence and exit code 1."""
    command = (sys.executable, "-m", "server", *line)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(START_SECONDS):
        _, said = await process.communicate()
    assert process.returncode == 1, said.decode()
    assert "Traceback" not in said.decode()
    return said.decode()


async def test_without_a_database_it_says_so(environment: dict[str, str]) -> None:
    environment["DATABASE_URL"] = f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none"
    said = await refused_start(environment, "api")
    assert "cannot be reached" in said
    assert "secret" not in said


async def test_without_migrations_it_says_how_to_apply_them(environment: dict[str, str], database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE alembic_version")
    assert "make migrate" in await refused_start(environment, "api")


async def test_a_schema_of_a_newer_release_is_fine(environment: dict[str, str], database: str) -> None:
    """Migrations only add, so that the old servers run on while the new ones start."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    async with running(environment, "api") as (process, _):
        process.send_signal(signal.SIGTERM)
        assert await exit_code(process) == 0


async def test_a_taken_port_is_an_error_and_not_half_of_somebody_elses_calls(environment: dict[str, str]) -> None:
    """A second gRPC server would bind a used port without any error, if it were let."""
    async with running(environment, "api"):
        assert "GRPC_LISTEN" in await refused_start(environment, "api")
        assert "GRPC_LISTEN" in await refused_start(environment, "all")


async def test_an_unreachable_issuer_is_said_at_the_start(environment: dict[str, str]) -> None:
    del environment["JWT_PUBLIC_KEY"]
    environment["JWT_JWKS_URL"] = f"http://127.0.0.1:{free_port()}/keys"
    assert "JWT_JWKS_URL" in await refused_start(environment, "api")


async def test_workers_refuse_another_chain_than_the_settings_name(
    environment: dict[str, str], tempo_node: TempoNode
) -> None:
    """What is signed for one chain must never be sent to another."""
    del environment["TEMPO_MOCK_MODE"]
    environment |= {
        "TEMPO_RPC_URL": tempo_node.url,
        "TEMPO_CHAIN_ID": "42431",
        "TEMPO_TOKENS": ",".join(f"{asset}=0x{number:040x}" for number, asset in enumerate(Asset, 1)),
        "TEMPO_PRIVATE_KEY": "11" * 32,
        "TEMPO_FEE_PAYER_KEY": "22" * 32,
    }
    said = await refused_start(environment, "workers")
    assert "42431" in said
    assert "31337" in said


# --- a supervisor -------------------------------------------------------------------------------------------------


def children(process: Process) -> dict[str, int]:
    """The supervisor's children by name, from the system's own list."""
    found = {}
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        name = line[line.index("server") + 1]
        found[f"{name}-{line[line.index('--number') + 1]}"] = int(pid)
    return found


async def gone(pids: list[int], *, within: float = 15) -> None:
    async with asyncio.timeout(within):
        while any(map(exists, pids)):  # noqa: ASYNC110 - other processes tell us nothing
            await asyncio.sleep(0.05)


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def variables(pid: int) -> set[str]:
    """The names in a process' environment."""
    held = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return {variable.partition("=")[0] for variable in held}


async def test_a_supervisors_processes_share_the_port_and_end_together(environment: dict[str, str]) -> None:
    async with running(environment, "all", "--workers", "2") as (process, wallet):
        family = children(process)
        assert family.keys() == {"api-0", "api-1", "workers-2"}
        answered_by: set[str] = set()
        async with asyncio.timeout(START_SECONDS):
            while len(answered_by) < 2:
                answered_by.add(await who_answers(environment["GRPC_LISTEN"]))
        await onboarded(wallet)
        process.send_signal(signal.SIGTERM)
        assert await exit_code(process) == 0
        await gone(list(family.values()))


async def who_answers(address: str) -> str:
    """Which process takes a new connection: call ids begin with a name of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = Wallet(None, channel, asyncio.Event()).consumers.GetHealth(GetHealthRequest())  # type: ignore[arg-type]
        await call
        return str(dict(await call.trailing_metadata())["request-id"]).partition("-")[0]


async def onboarded(wallet: Wallet) -> None:
    """Onboard somebody, once the workers have derived an address."""
    request = OnboardRequest(email="ann@example.com", phone="+14155550100")
    for _ in range(100):
        try:
            await wallet.consumers.Onboard(request, metadata=service())
        except grpc.aio.AioRpcError as error:
            if unpacked(error).reason != "ADDRESS_POOL_EMPTY":
                raise
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("the workers derived no address")


@pytest.mark.system
async def test_only_the_worker_process_holds_keys(environment: dict[str, str]) -> None:
    """What strangers talk to must hold nothing that moves money, not even in its environment."""
    async with running(environment, "all") as (process, _):
        for name, pid in children(process).items():
            assert bool(variables(pid) & set(WORKER_SECRETS)) == name.startswith("workers"), name


@pytest.mark.parametrize("victim", ["api-0", "workers-1"])
async def test_a_child_that_dies_takes_all_down_with_exit_code_1(environment: dict[str, str], victim: str) -> None:
    """Half a wallet looks like a whole one; whoever runs the service is to see it and start it anew."""
    async with running(environment, "all") as (process, _):
        family = children(process)
        os.kill(family[victim], signal.SIGKILL)
        assert await exit_code(process) == 1
        await gone(list(family.values()))
        assert b"supervisor.child_died" in (await process.communicate())[0]


@pytest.mark.system
async def test_children_end_by_themselves_when_the_supervisor_is_killed(environment: dict[str, str]) -> None:
    """Else they would hold the port against the next start."""
    async with running(environment, "all") as (process, _):
        family = children(process)
        process.kill()
        await process.wait()
        await gone(list(family.values()))


@pytest.mark.system
async def test_the_port_of_a_supervisor_is_nobody_elses(environment: dict[str, str]) -> None:
    async with running(environment, "all"):
        host, _, port = environment["GRPC_LISTEN"].rpartition(":")
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, int(port)))


@pytest.mark.system
async def test_consumers_of_a_stream_are_told_to_go_elsewhere(environment: dict[str, str]) -> None:
    async with running(environment, "all") as (process, wallet):
        await onboarded(wallet)
        found = psycopg.connect(environment["DATABASE_URL"]).execute("SELECT id FROM consumers").fetchone()
        assert found is not None
        stream = wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=consumer(found[0]))
        assert (await stream.read()).snapshot.balances
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_the_end(stream)
        assert unpacked(caught.value).reason == "SHUTTING_DOWN"
        assert await exit_code(process) == 0


async def to_the_end(stream: grpc.aio.UnaryStreamCall[WatchBalancesRequest, WatchBalancesResponse]) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
