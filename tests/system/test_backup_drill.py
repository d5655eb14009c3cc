"""The drill of docs/runbook.md: a backup under load, the database lost, and the wallet brought back from that file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.transaction_pb2 import ListTransactionsRequest, WatchTransactionsRequest
from monay.wallet.v1.transfer_pb2 import TransferRequest, TransferResponse
from sandbox.postgres import Postgres
from sandbox.tempo_node import TempoNode
from storage import recoveries
from storage.backups import main as backups
from tests.server.conftest import Wallet, refused, service, serving, wallet_settings
from tests.server.people import transfer
from tests.system.tempo import Chain, System, system_on
from tests.workers.house import UNIT, until

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Load:
    """Consumers who pay each other in a circle, one transfer after the other each, until told to stop."""

    wallet: Wallet
    people: Sequence[str]
    sent: list[TransferRequest] = field(default_factory=list)
    """What was acknowledged."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        await asyncio.gather(*(self._pay(n) for n in range(len(self.people))))

    async def _pay(self, number: int) -> None:
        sender, recipient = self.people[number], self.people[number - 1]
        while not self.stop.is_set():
            request = transfer(uuid.UUID(recipient), 1_000 + len(self.sent), consumer_id=sender)
            await send(self.wallet, request)
            self.sent.append(request)
            await asyncio.sleep(0.02)

    async def until(self, count: int) -> None:
        async def reached() -> bool:
            return len(self.sent) >= count

        await until(reached, seconds=60)


async def send(wallet: Wallet, request: TransferRequest) -> TransferResponse:
    answer: TransferResponse = await wallet.consumers.Transfer(request, metadata=service(), timeout=30)
    return answer


async def join(wallet: Wallet) -> str:
    unique = uuid.uuid4().hex
    phone = f"+1415{int(unique[:6], 16) % 8_000_000 + 2_000_000:07d}"
    request = OnboardRequest(email=f"{unique}@example.com", phone=phone)
    return str((await wallet.consumers.Onboard(request, metadata=service())).consumer.id)


async def cursor_of(wallet: Wallet, consumer: str) -> str:
    request = ListTransactionsRequest(consumer_id=consumer)
    return str((await wallet.consumers.ListTransactions(request, metadata=service())).resume_cursor)


async def command(database: str, *arguments: str) -> None:
    """The command that an operator gives."""
    environment = {**os.environ, "DATABASE_URL": database, "DATABASE_OWNER_URL": database}
    line = (sys.executable, "-m", "storage.backups", *arguments)
    done = await asyncio.to_thread(subprocess.run, line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_rule_15_a_backup_taken_under_load_brings_the_wallet_back(
    tempo_node: TempoNode, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    """What came after the backup is gone from the books, never was on the chain, and is there once when sent again."""
    chain, file = await Chain.of(tempo_node), tmp_path / "wallet.backup"
    async with system_on(chain, database) as system, serving(wallet_settings(database, tmp_path)) as wallet:
        people = await newcomers(system, wallet)
        load = Load(wallet, people)
        async with system.worker() as worker:
            await system.credited([uuid.UUID(person) for person in people])
            cursor = await cursor_of(wallet, people[0])
            paying = asyncio.create_task(load.run())
            await load.until(30)
            # From here on nothing new reaches the chain; what is on its way there lands all the same.
            worker.send_signal(signal.SIGSTOP)
            try:
                await command(database, "make", str(file))
                await load.until(len(load.sent) + 10)
            finally:
                load.stop.set()
                await paying
                worker.kill()
                await worker.wait()
    restored = postgres.database_url("drill")
    await command(database, "restore", str(file), "--database", "drill")
    async with system_on(chain, restored) as system, serving(wallet_settings(restored, tmp_path)) as wallet:
        async with system.worker():
            await the_old_cursor_is_told_where_to_go_on(wallet, people[0], cursor)
            answers = [await send(wallet, request) for request in load.sent]
            assert {answer.replayed for answer in answers} == {True, False}
            await asyncio.sleep(recoveries.PAUSE.total_seconds())
            await system.settled()
        assert await system.house.breaks() == ["database_recovered"]
        items = [row.id for row in await system.house.items()]
        assert len(items) == len(load.sent)
        await system.require_each_once(items)


async def newcomers(system: System, wallet: Wallet) -> list[str]:
    """Three consumers with money on the chain that the worker has yet to see."""
    while await system.house.pool.fill():
        pass
    people = [await join(wallet) for _ in range(3)]
    for person in people:
        await system.house.fund(uuid.UUID(person), 20 * UNIT)
    return people


async def the_old_cursor_is_told_where_to_go_on(wallet: Wallet, consumer: str, cursor: str) -> None:
    """A cursor from before the restore could skip what is now there under the same numbers: it is refused, with one
    from which nothing is missed."""
    ask = WatchTransactionsRequest(consumer_id=consumer, resume_cursor=cursor)

    async def first(request: WatchTransactionsRequest) -> Any:
        async for message in wallet.consumers.WatchTransactions(request, metadata=service(), timeout=20):
            if message.HasField("transaction"):
                return message
        return None

    refusal = await refused(first(ask))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_TOO_OLD")
    anew = WatchTransactionsRequest(consumer_id=consumer, resume_cursor=refusal.metadata["oldest_cursor"])
    assert (await first(anew)).transaction.id


def test_a_restore_never_overwrites_a_database(
    postgres: Postgres,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whoever mistypes the name at night has lost nothing."""
    monkeypatch.setenv("DATABASE_OWNER_URL", database)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    file = tmp_path / "wallet.backup"
    assert backups(["make", str(file)]) == 0
    assert file.stat().st_mode & 0o077 == 0
    taken = database.rpartition("/")[2]
    assert backups(["restore", str(file), "--database", taken]) == 1
    assert f"The database {taken} cannot be made" in capfd.readouterr().err


def test_a_restored_database_is_another_time_line(
    postgres: Postgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the very server that the backup is of, Postgres itself shows no difference."""
    monkeypatch.setenv("DATABASE_OWNER_URL", database)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE recoveries SET first_index = 7")
        before = connection.execute("SELECT epoch FROM ledger_epoch").fetchone()
    assert backups(["make", str(tmp_path / "b")]) == 0
    assert backups(["restore", str(tmp_path / "b"), "--database", "other_time_line"]) == 0
    with psycopg.connect(postgres.database_url("other_time_line")) as connection:
        assert connection.execute("SELECT epoch FROM ledger_epoch").fetchone() != before
        rows = connection.execute("SELECT incarnation, first_index FROM recoveries").fetchall()
    assert [(" until " in incarnation, index) for incarnation, index in rows] == [(True, 7)]


def test_a_backup_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a backup would be found in the hour when it is needed."""
    monkeypatch.setenv("DATABASE_OWNER_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert backups(["make", str(tmp_path / "wallet.backup")]) == 1
    assert capsys.readouterr().err.startswith("pg_dump failed: ")
    assert list(tmp_path.iterdir()) == []
