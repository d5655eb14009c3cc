"""Rule 6: an allowance is granted once, with the consumer's own key, and judged by what stands on the chain."""

from __future__ import annotations

from domain.identity import ConsumerId
from domain.money import Asset
from domain.settlement import ItemState
from tests.workers.house import UNIT
from tests.workers.simulated import WINDOW, SimulatedHouse


async def new_consumers(house: SimulatedHouse) -> list[ConsumerId]:
    return await house.consumers(2, micros=10 * UNIT, active=False)


async def activated(house: SimulatedHouse, consumer: ConsumerId) -> bool:
    position = await house.house.position(consumer)
    return position is not None and position.activated


async def test_rule_06_the_first_payment_activates_its_sender_and_nobody_else(house: SimulatedHouse) -> None:
    """It costs a fee, so it is done when it is first needed."""
    [ann, bob] = await new_consumers(house)
    item = await house.house.pay(ann, bob, UNIT)
    await house.house.settlement.settle_round()
    assert (await house.house.item(item)).state == ItemState.PENDING
    await house.work(3)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    assert (await activated(house, ann), await activated(house, bob)) == (True, False)
    await house.house.prove_clean()


async def test_rule_06_an_activation_is_not_signed_twice_while_one_is_under_way(house: SimulatedHouse) -> None:
    """Rounds come every tenth of a second and blocks every half."""
    [ann, bob] = await new_consumers(house)
    await house.house.pay(ann, bob, UNIT)
    other = house.house.new_settlement_worker()
    for worker in (house.house.settlement, other, house.house.settlement):
        await worker.settle_round()
    assert await house.attempts() == ["BROADCAST"]


async def test_rule_06_an_activation_whose_answer_was_lost_is_known_by_its_effect(house: SimulatedHouse) -> None:
    """Nobody saw its hash; the allowance is there, and that is what counts."""
    [ann, bob] = await new_consumers(house)
    await house.house.pay(ann, bob, UNIT)
    house.chain.faults.lose_answers = 1
    await house.house.settlement.settle_round()
    await house.block()
    await house.house.settlement.chores()
    assert await activated(house, ann)
    assert await house.attempts() == ["CONFIRMED"]


async def test_rule_06_an_activation_that_was_lost_is_dead_at_its_expiry_and_signed_again(
    house: SimulatedHouse,
) -> None:
    """Not before: until then it may still land, and do what is wanted."""
    [ann, bob] = await new_consumers(house)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.faults.drop_broadcasts = 1
    await house.house.settlement.settle_round()
    await house.block()
    await house.house.settlement.chores()
    assert await house.attempts() == ["BROADCAST"]
    house.clock.advance(WINDOW.total_seconds() + 1)
    await house.block()
    await house.house.settlement.chores()
    assert await house.attempts() == ["DEAD"]
    await house.work(4)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED


async def test_a_consumer_is_activated_for_all_assets_that_wait(house: SimulatedHouse) -> None:
    """One transaction, one fee."""
    [ann, bob] = await new_consumers(house)
    await house.house.fund(ann, UNIT, Asset.EURC)
    await house.block()
    items = [await house.house.pay(ann, bob, UNIT // 2, asset) for asset in (Asset.USDC, Asset.EURC)]
    await house.work(4)
    assert [(await house.house.item(item)).state for item in items] == [ItemState.CONFIRMED] * 2
    assert len(await house.attempts()) == 2
