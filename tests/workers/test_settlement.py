"""Settlement from item to confirmation, on the simulated chain and a real Postgres."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from domain.identity import FEE_PAYER, OPERATOR
from domain.money import Asset
from domain.settlement import ItemState
from providers.base import Holding
from providers.simulated.blocks import FEE_MICROS
from providers.simulated.faults import Step
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse


async def test_a_transfer_is_settled_after_deposit_and_activation(house: SimulatedHouse) -> None:
    """The main road: money arrives unannounced, is paid on in the ledger, and the chain follows."""
    [alice, bob] = await house.house.open_wallets(2)
    await house.house.fund(alice, 10 * UNIT)
    await house.block()
    assert await house.house.available(alice) == 10 * UNIT
    item = await house.house.pay(alice, bob, 3 * UNIT)
    await house.house.prove_clean()
    await house.work(4)
    stored = await house.house.item(item)
    assert (stored.state, stored.transaction_hash is not None) == ("CONFIRMED", True)
    assert house.memos() == {item: 1}
    assert await house.stands(alice) == (7 * UNIT, 0)
    assert await house.stands(bob) == (3 * UNIT, 0)
    assert await house.house.available(alice) == 7 * UNIT - FEE
    await house.house.prove_clean()


async def test_rule_01_an_attempt_that_may_still_land_keeps_its_item(house: SimulatedHouse) -> None:
    """The broadcast was lost, as far as anybody knows: no second transaction is signed, the same one is sent again."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.drop_broadcasts = 1
    await house.house.settlement.settle_round()
    await house.block(4)
    for _ in range(5):
        assert await house.house.settlement.settle_round() == 0
    assert (await house.house.item(item)).state == ItemState.BROADCAST
    house.clock.advance(4)
    await house.block()
    await house.house.settlement.chores()
    await house.block()
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
    assert await house.attempts() == ["CONFIRMED"]


async def test_rule_01_a_crash_between_persisting_and_sending_loses_nothing(house: SimulatedHouse) -> None:
    """ "Not sent yet" is known to nobody afterwards: the signed bytes are in the books and go out again."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.crash_at(Step.SUBMIT)
    with pytest.raises(ExceptionGroup):
        await house.house.settlement.settle_round()
    assert (await house.house.item(item)).state == ItemState.SIGNED
    house.clock.advance(4)
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}


async def test_rule_01_a_crash_after_sending_pays_nobody_twice(house: SimulatedHouse) -> None:
    """The transaction was taken and the process died before it could say so."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.crash_at(Step.SUBMITTED)
    with pytest.raises(ExceptionGroup):
        await house.house.settlement.settle_round()
    assert (await house.house.item(item)).state == ItemState.SIGNED
    await house.work(8)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


async def test_rule_01_a_reverted_attempt_gives_its_items_another_and_its_fee_is_booked(house: SimulatedHouse) -> None:
    """Status 0 in a finalized block: nothing moved, the fee was paid, and the innocent settle at the next try."""
    [ann, bob, cat] = await house.consumers(3)
    items = [await house.house.pay(ann, bob, UNIT), await house.house.pay(cat, bob, UNIT)]
    await house.house.settlement.settle_round()
    # The issuer's decision falls between simulation and block.
    house.chain.state.forbidden.add((await house.house.address(ann)).address)
    await house.block()
    assert await house.attempts() == ["FAILED"]
    [first, second] = [await house.house.item(item) for item in items]
    assert (first.state, second.state) == (ItemState.PENDING, ItemState.PENDING)
    assert (first.failures, second.failures) == (1, 1)
    assert await house.stands(FEE_PAYER) == (1_000_000 * UNIT - FEE_MICROS, 0)
    await house.house.prove_clean()
    house.clock.advance(1)
    await house.work(2)
    assert (await house.house.item(items[1])).state == ItemState.CONFIRMED
    await house.house.prove_clean()


async def test_rule_02_a_signature_that_comes_after_its_lease_is_thrown_away(house: SimulatedHouse) -> None:
    """A worker was suspended while it signed; meanwhile another one took the item over and settled it."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    other = house.house.new_settlement_worker()

    async def meanwhile() -> None:
        house.clock.advance(house.house.pace.lease.total_seconds() + 1)
        await house.block()
        await other.chores()
        assert await other.settle_round() == 1

    house.during_the_next_preparation(meanwhile)
    assert await house.house.settlement.settle_round() == 0
    await house.block()
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
    assert await house.attempts() == ["CONFIRMED"]
    await house.house.prove_clean()


async def test_rule_02_a_lost_lease_decides_nothing_about_a_forbidden_item(house: SimulatedHouse) -> None:
    """The one who lost the lease saw the recipient forbidden; the one who has it settled the item. Only one counts."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    bobs = (await house.house.address(bob)).address
    house.chain.state.forbidden.add(bobs)
    other = house.house.new_settlement_worker()

    async def meanwhile() -> None:
        house.chain.state.forbidden.discard(bobs)
        house.clock.advance(house.house.pace.lease.total_seconds() + 1)
        await house.block()
        await other.chores()
        assert await other.settle_round() == 1

    house.after_the_next_preparation(meanwhile)
    await house.house.settlement.settle_round()
    await house.block()
    assert [row.state for row in await house.house.items()] == [ItemState.CONFIRMED]
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


async def test_rule_02_two_workers_never_take_the_same_item(house: SimulatedHouse) -> None:
    """Any number may run."""
    consumers = await house.consumers(6)
    for payer, payee in pairwise(consumers):
        await house.house.pay(payer, payee, UNIT)
    other = house.house.new_settlement_worker()
    assert await house.house.settlement.settle_round() + await other.settle_round() == 5
    await house.block()
    assert set(house.memos().values()) == {1}
    assert await house.house.states() == [ItemState.CONFIRMED]


async def test_rule_05_nothing_is_signed_on_an_old_head(house: SimulatedHouse) -> None:
    """`valid_before` stamped from a stale head would lie about when the transaction dies."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.halted = True
    house.clock.advance(10)
    assert await house.house.settlement.settle_round() == 0
    stored = await house.house.item(item)
    assert (stored.state, stored.failures) == (ItemState.PENDING, 0)
    assert await house.attempts() == []
    house.chain.faults.halted = False
    await house.work(3)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED


async def test_rule_07_a_senders_items_settle_in_the_order_of_the_ledger(house: SimulatedHouse) -> None:
    """Forty payments of one consumer need two transactions, and the second is not signed before the first stands."""
    [ann, bob] = await house.consumers(2)
    items = [await house.house.pay(ann, bob, UNIT // 10) for _ in range(40)]
    assert await house.house.settlement.settle_round() == 32
    assert await house.house.settlement.settle_round() == 0
    await house.block()
    assert await house.house.settlement.settle_round() == 8
    await house.block()
    assert [log.item_id for log in house.transfers() if log.item_id] == items


async def test_rule_07_what_is_refused_holds_back_what_comes_after_it(house: SimulatedHouse) -> None:
    """Otherwise a later payment could use up the cover of an earlier one."""
    [ann, bob, cat] = await house.consumers(3)
    paused = await house.house.pay(ann, bob, UNIT, Asset.USDC)
    later = await house.house.pay(ann, cat, UNIT, Asset.USDC)
    house.chain.state.allowances.set(
        Holding((await house.house.address(ann)).address, Asset.USDC), UNIT // 2, at_block=house.chain.height
    )
    await house.house.settlement.settle_round()
    assert [(await house.house.item(item)).state for item in (paused, later)] == [ItemState.PENDING] * 2
    assert (await house.house.item(paused)).reason.startswith("InsufficientAllowance")
    assert (await house.house.item(later)).failures == 0


async def test_a_short_allowance_is_granted_again(house: SimulatedHouse) -> None:
    """The chain is right about it and the books are wrong."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    allowance = Holding((await house.house.address(ann)).address, Asset.USDC)
    house.chain.state.allowances.set(allowance, 0, at_block=house.chain.height)
    await house.work(6)
    house.clock.advance(2)
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED


async def test_rule_08_cover_is_reserved_with_the_claim_and_freed_with_the_confirmation(house: SimulatedHouse) -> None:
    """Whoever looks at the position meanwhile sees what is spoken for."""
    [ann, bob] = await house.consumers(2, micros=10 * UNIT)
    await house.house.pay(ann, bob, 4 * UNIT)
    await house.house.settlement.settle_round()
    assert await house.stands(ann) == (10 * UNIT, 4 * UNIT)
    await house.block()
    assert await house.stands(ann) == (6 * UNIT, 0)
    assert await house.stands(bob) == (14 * UNIT, 0)


async def test_rule_08_money_received_is_paid_on_in_the_same_transaction(house: SimulatedHouse) -> None:
    """Bob has less on the chain than he pays; Ann's payment to him rides in front of his."""
    [ann, bob, cat] = await house.consumers(3, micros=10 * UNIT)
    first = await house.house.pay(ann, bob, 9 * UNIT)
    second = await house.house.pay(bob, cat, 18 * UNIT)
    assert await house.house.settlement.settle_round() == 2
    await house.block()
    assert [log.item_id for log in house.transfers() if log.item_id] == [first, second]
    assert len({log.transaction_hash for log in house.transfers() if log.item_id}) == 1


async def test_rule_08_without_cover_on_the_chain_an_item_waits_for_it(house: SimulatedHouse) -> None:
    """What Ann owes Bob is on its way and not yet there: Bob's payment is not signed on the hope of it."""
    [ann, bob, cat] = await house.consumers(3, micros=10 * UNIT)
    await house.house.pay(ann, bob, 9 * UNIT)
    await house.house.settlement.settle_round()
    waiting = await house.house.pay(bob, cat, 18 * UNIT)
    assert await house.house.settlement.settle_round() == 0
    assert (await house.house.item(waiting)).state == ItemState.PENDING
    await house.work(3)
    assert (await house.house.item(waiting)).state == ItemState.CONFIRMED


async def test_rule_09_the_operators_items_go_while_others_of_its_are_in_flight(house: SimulatedHouse) -> None:
    """Its float covers both, and neither has to wait for the other."""
    [ann, bob] = await house.consumers(2)
    for consumer in (ann, bob):
        await house.operator_pays(consumer, UNIT)
        assert await house.house.settlement.settle_round() == 1
    assert await house.stands(OPERATOR) == (10_000_000 * UNIT, 2 * UNIT)
    await house.block()
    assert set(house.memos().values()) == {1}


async def test_a_fee_sweep_brings_the_fees_home(house: SimulatedHouse) -> None:
    """Rules 16 and 17 hold before, during and after."""
    [ann, bob] = await house.consumers(2)
    for _ in range(3):
        await house.house.pay(ann, bob, UNIT)
    await house.work(2)
    await house.house.prove_clean()
    assert await house.house.sweep_fees() == 1
    await house.house.prove_clean()
    await house.work(2)
    assert await house.stands(OPERATOR) == (10_000_000 * UNIT + 3 * FEE, 0)
    assert await house.house.sweep_fees() == 0
    await house.house.prove_clean()


async def test_rule_19_fees_leave_the_fee_payer_and_never_the_float(house: SimulatedHouse) -> None:
    """So that gas reserved for one transaction cannot make another one's transfers revert."""
    [ann, bob] = await house.consumers(2)
    await house.operator_pays(ann, UNIT)
    await house.house.pay(ann, bob, UNIT)
    await house.work(2)
    # Two transactions: Ann's payment did not need the operator's, but rode along; the other is none.
    paid = sum(fee.micros for number in range(house.chain.height + 1) for fee in house.chain.block(number).fees)
    assert paid > 0
    assert await house.stands(OPERATOR) == (9_999_999 * UNIT, 0)
    assert await house.stands(FEE_PAYER) == (1_000_000 * UNIT - paid, 0)
    await house.house.prove_clean()


async def test_rule_19_without_money_for_fees_nothing_is_signed_and_nothing_lost(house: SimulatedHouse) -> None:
    """The network would drop such a transaction without a word."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    purse = Holding(house.rail.signer.fee_payer_address, Asset.USDC)
    house.chain.state.balances.set(purse, 0, at_block=house.chain.height)
    assert await house.house.settlement.settle_round() == 0
    stored = await house.house.item(item)
    assert (stored.state, stored.failures) == (ItemState.PENDING, 0)
    assert "fee payer" in stored.reason
    house.chain.state.balances.set(purse, UNIT, at_block=house.chain.height)
    house.clock.advance(31)
    await house.block()
    assert await house.house.settlement.settle_round() == 1


async def test_a_lease_left_behind_by_a_dead_worker_ends_by_itself(house: SimulatedHouse) -> None:
    """Nothing was persisted, so nothing can land: the item goes back to its queue, and its cover with it."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.crash_at(Step.SIGN)
    with pytest.raises(ExceptionGroup):
        await house.house.settlement.settle_round()
    assert (await house.house.item(item)).state == ItemState.CLAIMED
    assert await house.stands(ann) == (100 * UNIT, UNIT)
    house.clock.advance((house.house.pace.lease + timedelta(seconds=1)).total_seconds())
    await house.block()
    await house.house.settlement.chores()
    assert (await house.house.item(item)).state == ItemState.PENDING
    assert await house.stands(ann) == (100 * UNIT, 0)
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
