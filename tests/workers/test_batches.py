"""Batches and refunds on the rail: as few chain transactions as the rules allow, and every part in its order."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from domain.identity import ConsumerId
from domain.ledger_state import Applied
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from server.services.batch_transfers import BatchItem, BatchOrder, BatchTransferred, BatchTransferService
from server.services.rates import ReferenceRates
from server.services.recipients import By, Recipient, Recipients
from server.services.refunds import RefundOrder, RefundService
from storage.consumers import Directory
from storage.sealing import KeyRing, new_key_file
from tests.workers.house import UNIT
from tests.workers.simulated import SimulatedHouse


def service(house: SimulatedHouse, folder: Path) -> BatchTransferService:
    """The service of an API process, on the books of this house."""
    parts, keys = house.house, folder / "sealing.json"
    keys.write_text(new_key_file(parts.entropy, name="tests"))
    tools: dict[str, Any] = {"engine": parts.engine, "clock": parts.clock}
    directory = Directory(KeyRing.read(keys, entropy=parts.entropy))
    return BatchTransferService(
        writer=parts.writer,
        recipients=Recipients(engine=parts.engine, directory=directory),
        rates=ReferenceRates(max_age=timedelta(days=1), **tools),
        fees=FeeSchedule(),
        entropy=parts.entropy,
        batch_limit=100,
        **tools,
    )


def order(sender: ConsumerId, recipients: list[ConsumerId], micros: int = UNIT) -> BatchOrder:
    items = [BatchItem(Recipient(By.CONSUMER_ID, str(recipient)), micros, "") for recipient in recipients]
    return BatchOrder(sender=sender, asset=Asset.USDC, items=items, caller="consumer", request_id=str(uuid.uuid4()))


async def send(house: SimulatedHouse, service: BatchTransferService, order: BatchOrder) -> BatchTransferred:
    return await service.transfer(order, deadline=house.clock.monotonic() + 60)


async def test_a_batch_of_a_hundred_settles_in_four_chain_transactions(house: SimulatedHouse, tmp_path: Path) -> None:
    """32 calls fit into one, so ⌈100/32⌉ carry all of them, in the order of the items."""
    [ann] = await house.consumers(1, micros=200 * UNIT)
    crowd = await house.house.open_wallets(7)
    done = await send(house, service(house, tmp_path), order(ann, [crowd[n % 7] for n in range(100)]))
    await house.work(6)
    assert await house.attempts() == ["CONFIRMED"] * 4
    settled = [log.item_id for log in house.transfers() if log.item_id is not None]
    assert settled == [part.receipts[0].item_id for part in done.parts]
    assert await house.house.states() == ["CONFIRMED"]
    assert await house.stands(ann) == (100 * UNIT, 0)
    await house.house.prove_clean()


async def test_a_batch_waits_behind_what_its_sender_paid_before_and_before_what_came_after(
    house: SimulatedHouse, tmp_path: Path
) -> None:
    """Strict order for each sender (rule 7), also around a batch."""
    [ann, bob, carol] = await house.consumers(3)
    first = await house.house.pay(ann, bob, UNIT)
    done = await send(house, service(house, tmp_path), order(ann, [carol, bob]))
    last = await house.house.pay(ann, carol, UNIT)
    await house.work(4)
    settled = [log.item_id for log in house.transfers() if log.item_id is not None]
    assert settled == [first, *(part.receipts[0].item_id for part in done.parts), last]
    await house.house.prove_clean()


async def test_a_refund_settles_like_a_transfer_the_other_way(house: SimulatedHouse, tmp_path: Path) -> None:
    """Both movements stand on the chain: nothing is netted away that somebody could ask for."""
    [ann, shop] = await house.consumers(2)
    done = await send(house, service(house, tmp_path), order(ann, [shop], micros=5 * UNIT))
    refunds = RefundService(engine=house.house.engine, writer=house.house.writer, entropy=house.house.entropy)
    refund = RefundOrder(
        refunder=shop,
        transaction_id=done.parts[0].transaction.id,
        amount=Money(Asset.USDC, 2 * UNIT),
        memo="",
        caller="consumer",
        request_id=str(uuid.uuid4()),
    )
    back = await refunds.refund(refund, deadline=house.clock.monotonic() + 60)
    assert isinstance(back.applied, Applied)
    await house.work(4)
    assert len(house.memos()) == 2
    assert await house.stands(ann) == (97 * UNIT, 0)
    assert await house.stands(shop) == (103 * UNIT, 0)
    await house.house.prove_clean()
