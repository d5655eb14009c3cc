"""Signing elsewhere: workers without keys settle on a real chain, through a process that has them and trusts nobody."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import trustme
from psycopg import sql

from domain.clock import SystemClock, SystemEntropy
from domain.money import Asset
from providers.base import Movement, Party, SignerUnavailable, SigningRefused
from sandbox.component import free_port
from sandbox.tempo_node import TempoNode
from server.signer.remote import RemoteSigner
from server.signing_keys import sealed
from storage.sealing import KeyRing, new_key_file
from tests.system.tempo import FEE_PAYER_KEY, LEASE_SECONDS, OPERATOR_KEY, ROOT, WINDOW, Chain, System, system_on
from tests.workers.house import UNIT, until

ENTROPY = SystemEntropy(SystemClock())
THIEF = Party.outside("0x" + "66" * 20)


@dataclass
class SignerProcess:
    """The process, the certificates around it, and the environment of its workers."""

    folder: Path
    chain: Chain
    database: str
    address: str

    def certificate(self, name: str, *, issuer: trustme.CA) -> None:
        issued = issuer.issue_cert(name, "127.0.0.1")
        (self.folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (self.folder / f"{name}.key").write_bytes(issued.private_key_pem.bytes())

    def environment(self, name: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "TEMPO_RPC_URL": self.chain.node.url,
            "TEMPO_CHAIN_ID": str(self.chain.tokens.chain_id),
            "TEMPO_TOKENS": ",".join(f"{asset}={address}" for asset, address in self.chain.tokens.tokens.items()),
            "SIGNER_CERT_FILE": str(self.folder / f"{name}.pem"),
            "SIGNER_KEY_FILE": str(self.folder / f"{name}.key"),
            "SIGNER_CA_FILE": str(self.folder / "ca.pem"),
        }

    def seal_keys(self) -> None:
        ring = self.folder / "ring.json"
        ring.write_text(new_key_file(ENTROPY, name="signing"))
        texts = {"operator": OPERATOR_KEY.hex(), "fee_payer": FEE_PAYER_KEY.hex(), "seed": self.chain.seed.hex()}
        (self.folder / "keys.json").write_text(sealed(texts, KeyRing.read(ring, entropy=ENTROPY)))

    @asynccontextmanager
    async def running(self, *, limit: int = 1_000 * UNIT) -> AsyncIterator[None]:
        environment = {
            **self.environment("signer"),
            "DATABASE_URL": self.database,
            "SIGNER_LISTEN": self.address,
            "SIGNER_JOURNAL": str(self.folder / "journal"),
            "SIGNING_KEYS_FILE": str(self.folder / "keys.json"),
            "SIGNING_KEYS_RING_FILE": str(self.folder / "ring.json"),
            "SIGNER_DAILY_LIMITS": f"USDC={limit}",
            "SIGNER_DAILY_OUTSIDE_LIMITS": f"USDC={2 * UNIT}",
        }
        async with _process("signer", environment=environment):
            yield

    @asynccontextmanager
    async def worker(self, database: str) -> AsyncIterator[None]:
        """A worker process of a deployment, with a certificate in the place of keys."""
        environment = {
            **self.environment("workers"),
            "DATABASE_URL": database,
            "HTTP_LISTEN": "127.0.0.1:0",
            "SIGNER_ADDRESS": self.address,
            "TEMPO_VALID_BEFORE_SECONDS": str(WINDOW.total_seconds()),
            "SETTLEMENT_LEASE_SECONDS": str(LEASE_SECONDS),
            "ADDRESS_POOL_SIZE": "16",
            "PROOF_INTERVAL_SECONDS": "3600",
        }
        async with _process("workers", environment=environment):
            yield

    async def connect(self, name: str = "workers") -> RemoteSigner:
        """Somebody with that certificate, once the signer is there."""
        for _ in range(100):
            try:
                return await RemoteSigner.connect(
                    self.address,
                    certificate=self.folder / f"{name}.pem",
                    key=self.folder / f"{name}.key",
                    authority=self.folder / "ca.pem",
                )
            except SignerUnavailable as fault:
                if "PERMISSION_DENIED" in str(fault):
                    raise
                await asyncio.sleep(0.2)
        raise AssertionError("the signer never answered")


@asynccontextmanager
async def _process(*arguments: str, environment: dict[str, str]) -> AsyncIterator[None]:
    command = (sys.executable, "-m", "server", *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=DEVNULL)
    try:
        yield
        assert process.returncode is None, "it ended by itself"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()


@pytest.fixture
async def chain(tempo_node: TempoNode) -> Chain:
    return await Chain.of(tempo_node)


@pytest.fixture
def reader_database(database: str) -> str:
    """The same database, for a role that reads two tables and nothing else."""
    role, password = f"signer_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password))
        owner.execute(sql.SQL("GRANT SELECT ON settlement_items, wallets TO {}").format(sql.Identifier(role)))
    return database.replace(database.split("//")[1].split("@")[0], f"{role}:{password}")


@pytest.fixture
def signer(chain: Chain, reader_database: str, tmp_path: Path) -> SignerProcess:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = SignerProcess(tmp_path, chain, reader_database, f"127.0.0.1:{free_port()}")
    for name in ("signer", "workers", "reports"):
        made.certificate(name, issuer=authority)
    made.seal_keys()
    return made


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=20)


async def movement_of(system: System, item: UUID, *, micros: int | None = None, to: Party | None = None) -> Movement:
    """An item as a worker asks for it, or as a thief would."""
    row = await system.house.item(item)
    ends = [await system.house.address(holder) for holder in (row.sender, row.recipient)]
    source, destination = (Party.consumer(address=end.address, index=end.index or 0) for end in ends)
    return Movement(item, Asset(row.asset), micros or row.micros, source, to or destination)


async def test_workers_without_keys_settle_through_the_signer(
    chain: Chain, database: str, signer: SignerProcess
) -> None:
    """Activations, payments and their confirmation, with every signature made in another process."""
    async with system_on(chain, database) as system, signer.running(), signer.worker(database):
        [ann, bob] = await system.consumers(2)
        await system.credited([ann, bob])
        payments = [await system.house.pay(ann, bob, UNIT), await system.house.pay(bob, ann, 2 * UNIT)]
        await system.settled()
        await system.require_each_once(payments)


async def test_a_worker_that_was_taken_over_gets_no_signature_for_anything_that_is_not_planned(
    chain: Chain, database: str, signer: SignerProcess
) -> None:
    async with system_on(chain, database) as system, signer.running():
        [ann, bob] = await system.consumers(2)
        await system.house.fund(ann, 20 * UNIT)
        thief = await signer.connect()

        async def credited() -> bool:
            await system.house.watcher.step()
            return await system.house.available(ann) > 0

        await until(credited)
        payment = await system.house.pay(ann, bob, UNIT)
        planned = await movement_of(system, payment)
        with pytest.raises(SigningRefused, match="not a planned settlement"):
            await thief.sign_transfers([planned], valid_before=soon())
        await system.house.execute(f"UPDATE settlement_items SET state = 'CLAIMED' WHERE id = '{payment}'")
        wrong = [
            await movement_of(system, payment, micros=2 * UNIT),
            await movement_of(system, payment, to=THIEF),
            Movement(UUID(int=7 << 80), Asset.USDC, UNIT, planned.source, planned.destination),
        ]
        for movement in wrong:
            with pytest.raises(SigningRefused, match="not a planned settlement"):
                await thief.sign_transfers([movement], valid_before=soon())
        with pytest.raises(SigningRefused, match="kept for later"):
            await thief.sign_transfers([planned], valid_before=soon() + timedelta(hours=1))
        assert (await thief.sign_transfers([planned], valid_before=soon())).payload
        with pytest.raises(SignerUnavailable, match="may still land"):
            await thief.sign_transfers([planned], valid_before=soon())
        await thief.close()


async def test_a_database_that_was_taken_over_cannot_redirect_a_consumer_nor_exceed_the_day(
    chain: Chain, database: str, signer: SignerProcess
) -> None:
    """Who can write plans can have them signed: to addresses that the signer derives, within its limits."""
    async with system_on(chain, database) as system, signer.running(limit=3 * UNIT):
        [ann, bob] = await system.consumers(2)
        worker = await signer.connect()
        ids = [await _forged(system, ann, bob, micros=2 * UNIT) for _ in range(2)]
        redirected = await movement_of(system, ids[0])
        elsewhere = Party.consumer(address=THIEF.address, index=redirected.destination.index or 0)
        with pytest.raises(SigningRefused, match="is not the address of consumer"):
            await worker.sign_transfers(
                [Movement(ids[0], Asset.USDC, 2 * UNIT, redirected.source, elsewhere)], valid_before=soon()
            )
        await worker.sign_transfers([await movement_of(system, ids[0])], valid_before=soon())
        with pytest.raises(SigningRefused, match="limit of the day of USDC"):
            await worker.sign_transfers([await movement_of(system, ids[1])], valid_before=soon())
        await worker.close()
    # What was signed before a restart counts after it.
    async with system_on(chain, database) as system, signer.running(limit=3 * UNIT):
        worker = await signer.connect()
        with pytest.raises(SigningRefused, match="limit of the day of USDC"):
            await worker.sign_transfers([await movement_of(system, ids[1])], valid_before=soon())
        await worker.close()


async def _forged(system: System, sender: UUID, recipient: UUID, *, micros: int) -> UUID:
    item = ENTROPY.uuid7()
    await system.house.execute(
        "INSERT INTO settlement_items (id, sender, recipient, asset, micros, sender_seq, position, counts, state,"
        f" created_at) VALUES ('{item}', '{sender}', '{recipient}', 'USDC', {micros}, 1, 0, true, 'CLAIMED', now())"
    )
    return item


async def test_another_services_certificate_opens_nothing(chain: Chain, signer: SignerProcess) -> None:
    async with signer.running():
        await (await signer.connect()).close()
        with pytest.raises(SignerUnavailable, match="PERMISSION_DENIED"):
            await signer.connect("reports")
