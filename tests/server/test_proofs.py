"""The proof of the books, as an operator sees it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from domain.clock import SystemClock
from monay.wallet.v1 import operations_service_pb2 as operations
from monay.wallet.v1.operations_service_pb2 import GetLedgerProofRequest
from server.settings import Settings
from storage import proofs
from storage.database import create_engine

from .conftest import ENTROPY, Wallet, operator, refused
from .test_sandbox import working

HOLDER = "01890000-0000-7000-8000-000000000abc"


def report(**changes: Any) -> dict[str, Any]:
    """What the reconciliation stores, of a wallet with one consumer who has 5 USDC."""
    return {
        "block_number": 67,
        "block_hash": "0xabc",
        "block_time": "2026-01-02T03:04:05+00:00",
        "chain_note": "",
        "ledger_sums": {"USDC": 0},
        "owed": {"USDC": 5_000_000},
        "in_settlement": {"USDC": 2_000_000},
        "standing": {"USDC": 9_000_000},
        "on_chain": {"USDC": 9_000_000},
        "equations": [
            {"name": name, "checked": 3, "differences": []}
            for name in ("balance_is_entries", "consumer_backed", "operator_backed", "position_on_rail")
        ],
        **changes,
    }


async def store(settings: Settings, *, clean: bool = True, age: timedelta = timedelta(), **changes: Any) -> None:
    engine = create_engine(settings.database_url.get_secret_value())
    made_at = SystemClock().now() - age
    async with engine.begin() as tx:
        await proofs.store(tx, proof_id=ENTROPY.uuid7(), clean=clean, report=report(**changes), now=made_at)
    await engine.dispose()


async def ask(wallet: Wallet, **fields: Any) -> Any:
    return await wallet.operations.GetLedgerProof(GetLedgerProofRequest(**fields), metadata=operator(), timeout=5)


async def test_the_latest_proof_is_shown_with_its_block(wallet: Wallet) -> None:
    await store(wallet.settings, age=timedelta(seconds=60), owed={"USDC": 1})
    await store(wallet.settings)
    shown = await ask(wallet)
    assert shown.clean
    assert (shown.block.number, shown.block.hash) == (67, "0xabc")
    assert [(total.asset, total.sum_micros, total.consumers_micros) for total in shown.ledger[:1]] == [
        ("USDC", 0, 5_000_000)
    ]
    assert shown.ledger[0].in_settlement_micros == 2_000_000
    assert (shown.rails[0].expected.micros, shown.rails[0].found.micros) == (9_000_000, 9_000_000)
    assert len(shown.ledger) == 5
    assert {check.equation for check in shown.equations} == {1, 2, 3, 4}
    assert not shown.breaks


async def test_a_difference_is_shown_with_whom_it_concerns(wallet: Wallet) -> None:
    difference = {"holder": HOLDER, "asset": "USDC", "expected": 5, "found": 3}
    equations = [{"name": "position_on_rail", "checked": 9, "differences": [difference]}]
    await store(wallet.settings, clean=False, equations=equations)
    shown = await ask(wallet)
    assert not shown.clean
    [found] = shown.breaks
    assert (found.equation, found.holder_id, found.rail) == (operations.EQUATION_POSITION_ON_RAIL, HOLDER, "tempo")
    assert (found.asset, found.expected_micros, found.found_micros) == ("USDC", 5, 3)
    assert (shown.equations[0].holders_checked, shown.equations[0].break_count) == (9, 1)


async def test_a_proof_that_could_not_ask_the_chain_shows_no_block(wallet: Wallet) -> None:
    """Nothing was compared there, and it must not look as if it had been."""
    await store(wallet.settings, clean=False, chain_note="the chain could not be asked")
    shown = await ask(wallet)
    assert not shown.clean
    assert not shown.HasField("block")


async def test_an_old_proof_is_none(wallet: Wallet) -> None:
    refusal = await refused(ask(wallet))
    assert (refusal.code, refusal.reason, refusal.metadata) == (grpc.StatusCode.UNAVAILABLE, "PROOF_TOO_OLD", {})
    await store(wallet.settings, age=timedelta(hours=1))
    refusal = await refused(ask(wallet))
    assert refusal.reason == "PROOF_TOO_OLD"
    assert "proof_time" in refusal.metadata


async def test_a_fresh_one_is_waited_for(wallet: Wallet) -> None:
    await store(wallet.settings, age=timedelta(minutes=1), owed={"USDC": 1})

    async def prove(_: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.3)
        await store(wallet.settings)
        return {}

    async with working(wallet, proof=prove):
        shown = await ask(wallet, refresh=True)
    assert shown.ledger[0].consumers_micros == 5_000_000


async def test_a_fresh_one_that_nobody_makes_is_not_replaced_by_an_old_one(wallet: Wallet) -> None:
    await store(wallet.settings)
    await asyncio.sleep(0.01)
    call = wallet.operations.GetLedgerProof(GetLedgerProofRequest(refresh=True), metadata=operator(), timeout=1)
    assert (await refused(call)).reason == "PROOF_TOO_OLD"


async def test_the_real_reconciliation_can_be_shown(wallet: Wallet, tmp_path: Path) -> None:
    """The report is JSON between two processes; this keeps both ends in step."""
    from providers import simulated
    from server.ledger_writer import LedgerWriter
    from server.workers.jobs import proof_handler
    from server.workers.reconciliation import Reconciliation

    clock = SystemClock()
    url = wallet.settings.database_url.get_secret_value()
    engine = create_engine(url)
    rail = simulated.connect(simulated.SimulatedConfig(seed=b"s" * 32), clock=clock, entropy=ENTROPY)
    reconciliation = Reconciliation(
        engine=engine,
        writer=LedgerWriter(database_url=url, clock=clock, entropy=ENTROPY),
        reader=rail.reader,
        chain="tempo",
        clock=clock,
        entropy=ENTROPY,
    )
    async with working(wallet, proof=proof_handler(reconciliation)):
        shown = await ask(wallet, refresh=True)
    assert [check.break_count for check in shown.equations] == [0, 0, 0, 0]
    await engine.dispose()
