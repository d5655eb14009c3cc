"""Swaps from quote to chain: both sides in one transaction or none, in the consumer's own order, the proof clean."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator

import pytest

from domain.identity import OPERATOR
from domain.money import Asset
from providers.base import Holding
from server.services.swaps import Swapped
from tests.books import audit
from tests.workers.bureau import Bureau
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse


@pytest.fixture
async def bureau(house: SimulatedHouse) -> AsyncIterator[Bureau]:
    yield Bureau(house.house, house.rail.exchange)
    await audit(house.house.engine)


def carried(house: SimulatedHouse, done: Swapped) -> list[tuple[int, str]]:
    """Where the sides of a swap stand on the chain: block and chain transaction, in log order."""
    ids = {receipt.item_id for receipt in done.recorded.receipts}
    blocks = [house.chain.block(number) for number in range(house.chain.height + 1)]
    return [(b.number, t.transaction_hash) for b in blocks for t in b.transfers if t.item_id in ids]


async def stands(house: SimulatedHouse, holder: uuid.UUID, asset: Asset) -> int:
    position = await house.house.position(holder, asset)
    return position.micros if position else 0


async def test_rule_17_a_swap_settles_as_one_chain_transaction(house: SimulatedHouse, bureau: Bureau) -> None:
    """Sold goes in, bought comes out, in one transaction of two calls; the operator's equation holds at each step."""
    [ann, bob] = await house.consumers(2)
    before = await stands(house, OPERATOR, Asset.USDT)
    done = await bureau.swap(ann, 40 * UNIT)
    await house.house.prove_clean()
    assert await house.house.available(ann, Asset.USDT) == done.quote.buy.micros
    await house.house.pay(bob, ann, 5 * UNIT)
    await house.work(4)
    assert await house.house.states() == ["CONFIRMED"]
    first, second = carried(house, done)
    assert first == second
    assert len([t for t in house.chain.block(first[0]).transfers if t.transaction_hash == first[1]]) == 2
    assert await stands(house, ann, Asset.USDC) == 65 * UNIT
    assert await stands(house, ann, Asset.USDT) == done.quote.buy.micros
    assert await stands(house, OPERATOR, Asset.USDT) == before - done.quote.buy.micros
    await house.house.prove_clean()


async def test_euros_are_swapped_against_the_float(house: SimulatedHouse, bureau: Bureau) -> None:
    """No exchange trades them, and none is needed."""
    [ann] = await house.consumers(1)
    done = await bureau.swap(ann, 54 * UNIT, buy=Asset.EURC)
    assert done.quote.buy.micros == 49_750_000
    await house.work(3)
    assert await stands(house, ann, Asset.EURC) == 49_750_000
    await house.house.prove_clean()


async def test_rule_07_a_swap_goes_in_the_consumers_own_order(house: SimulatedHouse, bureau: Bureau) -> None:
    """Paid before, swapped, and what was bought paid on: three transactions, one after the other."""
    [ann, bob] = await house.consumers(2)
    first = await house.house.pay(ann, bob, 10 * UNIT)
    done = await bureau.swap(ann, 40 * UNIT)
    last = await house.house.pay(ann, bob, 10 * UNIT)
    await house.work(6)
    assert await house.house.states() == ["CONFIRMED"]
    [(swapped_at, _), _] = carried(house, done)
    assert (await house.house.item(first)).block_number < swapped_at < (await house.house.item(last)).block_number
    await house.house.prove_clean()


async def test_rule_18_neither_side_goes_without_the_other(house: SimulatedHouse, bureau: Bureau) -> None:
    """The consumer's allowance is gone: the operator's side could go, and waits all the same."""
    [ann] = await house.consumers(1)
    done = await bureau.swap(ann, 40 * UNIT)
    address = (await house.house.address(ann)).address
    house.chain.state.allowances.set(Holding(address, Asset.USDC), 0, at_block=house.chain.height)
    await house.work(1)
    assert carried(house, done) == []
    assert await house.house.states() == ["PENDING"]
    await house.house.prove_clean()
    await house.work(12)
    assert await house.house.states() == ["CONFIRMED"]
    first, second = carried(house, done)
    assert first == second
    await house.house.prove_clean()


async def test_rule_10_a_consumer_who_may_neither_pay_nor_be_paid_keeps_both_sides(
    house: SimulatedHouse, bureau: Bureau
) -> None:
    """The tokens' policies turn on the consumer: both sides are shown as BLOCKED, and the books still say the same."""
    [ann] = await house.consumers(1)
    await bureau.swap(ann, 40 * UNIT)
    house.chain.state.forbidden.add((await house.house.address(ann)).address)
    await house.work(2)
    assert await house.house.states() == ["BLOCKED"]
    await house.house.prove_clean()


@pytest.mark.parametrize("blocked", [0, 1], ids=["sold", "bought"])
async def test_rule_10_a_side_that_is_blocked_for_good_frees_the_other(
    house: SimulatedHouse, bureau: Bureau, blocked: int
) -> None:
    """What was sold stays a claim and the float pays what was bought, or the other way round. Queues go on."""
    [ann] = await house.consumers(1)
    done = await bureau.swap(ann, 40 * UNIT)
    sides = [receipt.item_id for receipt in done.recorded.receipts]
    await house.house.execute("UPDATE settlement_items SET state = 'BLOCKED' WHERE id = :id", id=sides[blocked])
    await house.work(3)
    assert house.memos() == {sides[1 - blocked]: 1}
    assert await house.house.states() == ["BLOCKED", "CONFIRMED"]
    await house.house.prove_clean()


async def test_rule_18_a_swap_that_reverted_is_tried_again_as_a_whole(house: SimulatedHouse, bureau: Bureau) -> None:
    """Status 0 after a clean rehearsal: both sides come back, and go together the next time."""
    [ann] = await house.consumers(1)
    done = await bureau.swap(ann, 40 * UNIT)
    await house.house.settlement.settle_round()
    house.chain.state.paused.add(Asset.USDT)
    await house.block()
    assert await house.house.states() == ["PENDING"]
    assert carried(house, done) == []
    house.chain.state.paused.clear()
    await house.work(12)
    first, second = carried(house, done)
    assert first == second
    await house.house.prove_clean()


async def test_a_swap_waits_until_the_float_covers_it(house: SimulatedHouse, bureau: Bureau) -> None:
    """The float left by hand after the promise: the swap is never reversed, it goes when the float is back."""
    [ann] = await house.consumers(1)
    done = await bureau.swap(ann, 40 * UNIT)
    operator = house.rail.signer.operator_address
    await house.house.execute(
        "UPDATE custody_positions SET reserved_micros = micros WHERE holder_id = :id AND asset = 'USDT'", id=OPERATOR
    )
    await house.work(3)
    assert carried(house, done) == []
    await house.house.execute(
        "UPDATE custody_positions SET reserved_micros = 0 WHERE holder_id = :id AND asset = 'USDT'", id=OPERATOR
    )
    await house.work(3)
    assert len(carried(house, done)) == 2
    assert house.chain.state.balances.latest[Holding(operator, Asset.USDC)] > 0
    await house.house.prove_clean()


@pytest.mark.parametrize("seed", range(3))
async def test_rule_07_no_history_of_payments_and_swaps_gets_stuck(
    house: SimulatedHouse, bureau: Bureau, seed: int
) -> None:
    """Money goes round among five in three assets, far ahead of the chain, whose broadcasts get lost now and then.

    A swap can wait for a payment and a payment for a swap, but each only for what the ledger committed before it. So
    in the end everything is settled, every item stands on the chain once, and so does every swap in one transaction.
    """
    chance = random.Random(seed)
    people = await house.consumers(5, micros=50 * UNIT)
    swaps = []
    for _ in range(40):
        [payer, payee] = chance.sample(people, 2)
        asset, other = chance.sample([Asset.USDC, Asset.USDT, Asset.EURC], 2)
        most = await house.house.available(payer, asset) - FEE
        if most > UNIT and chance.random() < 0.5:
            swaps.append(await bureau.swap(payer, chance.randint(UNIT, most), sell=asset, buy=other))
        elif most > UNIT:
            await house.house.pay(payer, payee, chance.randint(UNIT, most), asset=asset)
        if chance.random() < 0.4:
            house.chain.faults.drop_broadcasts = chance.randint(0, 1)
            await house.work(1)
    await house.house.prove_clean()
    for _ in range(400):
        if await house.house.states() == ["CONFIRMED"]:
            break
        await house.work(1)
    assert await house.house.states() == ["CONFIRMED"]
    assert set(house.memos().values()) == {1}
    assert [len(set(carried(house, done))) for done in swaps] == [1] * len(swaps)
    await house.house.prove_clean()
