"""Rule 3: an attempt is dead when that is proven, and INDETERMINATE until then."""

from __future__ import annotations

from uuid import UUID

import pytest

from domain.identity import ConsumerId
from domain.settlement import ItemState
from providers.base import Holding
from tests.workers.house import UNIT
from tests.workers.simulated import WINDOW, SimulatedHouse

PAST_EXPIRY = WINDOW.total_seconds() + 1


async def lost_payment(house: SimulatedHouse) -> tuple[ConsumerId, UUID]:
    """A payment whose only broadcast the network forgot, and its sender."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.drop_broadcasts = 1
    await house.house.settlement.settle_round()
    return ann, item


async def test_rule_03_a_proven_death_frees_the_item_for_exactly_one_more_attempt(house: SimulatedHouse) -> None:
    """Expired in finalized time, read past by the watcher, no receipt, and the sender still has the money."""
    _, item = await lost_payment(house)
    house.clock.advance(PAST_EXPIRY)
    await house.block()
    await house.house.settlement.chores()
    freed = await house.house.item(item)
    assert (freed.state, freed.attempt_id) == (ItemState.PENDING, None)
    assert "proven" in freed.reason
    assert await house.attempts() == ["DEAD"]
    await house.house.prove_clean()
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


async def test_rule_03_our_own_clock_proves_nothing(house: SimulatedHouse) -> None:
    """The chain stands still: no finalized block is past the expiry, so the transaction may yet be mined in one."""
    _, item = await lost_payment(house)
    house.chain.faults.halted = True
    house.clock.advance(PAST_EXPIRY + 60)
    await house.house.settlement.chores()
    waiting = await house.house.item(item)
    assert waiting.state == ItemState.INDETERMINATE
    assert "no finalized block" in waiting.reason
    house.chain.faults.halted = False
    await house.block()
    await house.house.settlement.chores()
    assert (await house.house.item(item)).state == ItemState.PENDING


async def test_rule_03_what_the_watcher_has_not_read_proves_nothing(house: SimulatedHouse) -> None:
    """The block past the expiry is there, but its logs are not in the books: the payment may be among them."""
    _, item = await lost_payment(house)
    house.clock.advance(PAST_EXPIRY)
    house.chain.mine()
    await house.house.settlement.chores()
    assert (await house.house.item(item)).state == ItemState.BROADCAST
    assert await house.attempts() == ["BROADCAST"]


async def test_rule_03_a_lagging_endpoint_proves_nothing(house: SimulatedHouse) -> None:
    """Its null receipt is what it has not heard of yet."""
    _, item = await lost_payment(house)
    house.clock.advance(PAST_EXPIRY)
    await house.block(3)
    house.chain.faults.lag_blocks = 2
    await house.house.settlement.chores()
    waiting = await house.house.item(item)
    assert waiting.state == ItemState.INDETERMINATE
    assert "no endpoint could show it" in waiting.reason
    house.chain.faults.lag_blocks = 0
    await house.house.settlement.chores()
    assert (await house.house.item(item)).state == ItemState.PENDING


async def test_rule_03_a_balance_that_differs_from_custody_proves_nothing(house: SimulatedHouse) -> None:
    """Something moved the sender's money. Until it is known what, it may have been this attempt."""
    ann, item = await lost_payment(house)
    house.clock.advance(PAST_EXPIRY)
    house.chain.mine()
    purse = Holding((await house.house.address(ann)).address, (await house.house.item(item)).asset)
    house.chain.state.balances.set(purse, 99 * UNIT, at_block=house.chain.height)
    await house.block(0)
    await house.house.settlement.chores()
    waiting = await house.house.item(item)
    assert waiting.state == ItemState.INDETERMINATE
    assert "differs from custody" in waiting.reason


async def test_rule_03_an_indeterminate_item_that_lands_after_all_is_confirmed(house: SimulatedHouse) -> None:
    """It was never given another attempt, so there is nothing to take back."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.late_blocks = 8
    await house.house.settlement.settle_round()
    house.chain.faults.late_blocks = 0
    house.chain.faults.unreachable = True
    house.clock.advance(PAST_EXPIRY - 3)
    for _ in range(9):
        house.chain.mine()
    house.clock.advance(60)
    await house.house.settlement.chores()
    assert (await house.house.item(item)).state == ItemState.INDETERMINATE
    house.chain.faults.unreachable = False
    await house.block()
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


@pytest.mark.parametrize("blocks_after", [1, 40])
async def test_rule_03_a_landing_in_the_last_second_is_never_taken_for_a_death(
    house: SimulatedHouse, blocks_after: int
) -> None:
    """The race that a second payment would come out of: the judge looks while the watcher is still behind."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.late_blocks = 1
    await house.house.settlement.settle_round()
    house.chain.mine()
    house.clock.advance(WINDOW.total_seconds() - 1.5)
    house.chain.mine()
    house.clock.advance(2)
    for _ in range(blocks_after):
        house.chain.mine()
    assert house.memos() == {item: 1}
    for _ in range(3):
        await house.house.settlement.chores()
        assert await house.house.settlement.settle_round() == 0
        await house.house.watcher.step()
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
