"""Rule 15: after a restore or a promotion settlement waits, and what lost commits had signed is adopted by its memo."""

from __future__ import annotations

from uuid import UUID

import pytest

from domain.settlement import ItemState
from server.workers.settlement import CHAIN
from storage import cursors, recoveries
from tests.workers.house import UNIT
from tests.workers.simulated import SimulatedHouse

PAST_THE_PAUSE = recoveries.PAUSE.total_seconds() + 1


async def restored(house: SimulatedHouse) -> None:
    """The database woke up as another one: a time line that nobody knows."""
    await house.house.execute("UPDATE recoveries SET incarnation = 'the one before'")


async def forgotten(house: SimulatedHouse, item: UUID) -> None:
    """The commits from claim to broadcast were never replicated."""
    await house.house.execute("DELETE FROM attempt_items WHERE item_id = :item", item=item)
    await house.house.execute("DELETE FROM settlement_attempts")
    await house.house.execute(
        "UPDATE settlement_items SET state = 'PENDING', attempt_id = NULL, lease_token = 0 WHERE id = :item", item=item
    )
    await house.house.execute("UPDATE custody_positions SET reserved_micros = 0")


async def read_on(house: SimulatedHouse, seconds: float) -> None:
    """Blocks for so long, and the watcher after them."""
    for _ in range(int(seconds / 5) + 1):
        house.clock.advance(5)
        await house.block()


async def test_rule_15_a_payment_signed_in_a_lost_commit_is_adopted_and_not_made_again(house: SimulatedHouse) -> None:
    """The books know of no attempt and the chain has it: without the pause it would be paid twice."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    await house.house.settlement.settle_round()
    await forgotten(house, item)
    await restored(house)
    assert await house.house.settlement.settle_round() == 0
    await house.block()
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert await house.stands(ann) == (99 * UNIT, 0)
    await read_on(house, PAST_THE_PAUSE)
    assert await house.house.settlement.settle_round() == 0
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


async def test_rule_15_what_lands_at_the_last_moment_is_adopted_too(house: SimulatedHouse) -> None:
    """The transaction was on its way when the database was restored, and is mined long after."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.late_blocks = 4
    await house.house.settlement.settle_round()
    await forgotten(house, item)
    await restored(house)
    for _ in range(6):
        house.clock.advance(4)
        await house.block()
        await house.house.settlement.chores()
        assert await house.house.settlement.settle_round() == 0
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    await read_on(house, PAST_THE_PAUSE)
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


async def test_rule_15_what_was_lost_altogether_settles_after_the_pause(house: SimulatedHouse) -> None:
    """Neither the books nor the chain know of an attempt, and by then none can land any more."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    await restored(house)
    await house.block()
    assert await house.house.breaks() == ["database_recovered"]
    assert "restored or promoted" in await halted(house)
    await read_on(house, PAST_THE_PAUSE)
    assert await halted(house) == ""
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert house.memos() == {item: 1}
    await house.house.prove_clean()


async def halted(house: SimulatedHouse) -> str:
    async with house.house.engine.connect() as tx:
        return await cursors.halted_reason(tx, CHAIN)


async def test_rule_15_a_memo_whose_transfer_was_lost_is_a_break(house: SimulatedHouse) -> None:
    """The ledger lost the transfer itself. Nothing is adopted that the books do not ask for."""
    [ann, bob] = await house.consumers(2)
    await house.house.settlement.settle_round()
    await restored(house)
    await house.block()
    await house.move_by_hand(ann, bob, UNIT)
    await house.block()
    assert await house.house.breaks() == ["database_recovered", "unexpected_transfer"]


async def test_rule_15_after_the_pause_a_stranger_hash_settles_nothing_any_more(house: SimulatedHouse) -> None:
    """Adoption is for what lost commits may have signed, and ends with the pause."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    await restored(house)
    await read_on(house, PAST_THE_PAUSE)
    await house.move_by_hand(ann, bob, UNIT, memo=item)
    await house.block()
    assert (await house.house.item(item)).state == ItemState.PENDING
    assert "unexpected_transfer" in await house.house.breaks()


async def test_rule_15_the_pool_gives_nobody_an_address_that_may_have_been_given_away(house: SimulatedHouse) -> None:
    """Onboardings may be lost, too; whoever pays their addresses must not pay a stranger."""
    await house.house.pool.fill()
    before = await house.house.execute("SELECT address, derivation_index FROM tempo_addresses WHERE state = 'free'")
    await restored(house)
    await house.block()
    [consumer] = await house.house.open_wallets(1)
    found = await house.house.address(consumer)
    assert found.address not in {row.address for row in before}
    assert found.index is not None
    assert found.index >= max(row.derivation_index for row in before) + recoveries.SKIPPED_INDEXES


@pytest.mark.parametrize("watchers", [1, 2])
async def test_rule_15_a_recovery_begins_once(house: SimulatedHouse, watchers: int) -> None:
    """However many workers notice it, and in the incarnation that is known none begins at all."""
    await house.block(3)
    assert await house.house.breaks() == []
    await restored(house)
    for watcher in [house.house.watcher, house.house.new_watcher()][:watchers]:
        await watcher.step()
    assert await house.house.breaks() == ["database_recovered"]
