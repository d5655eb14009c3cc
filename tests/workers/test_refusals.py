"""Rule 10: what cannot settle is never reversed; the operator stands in for the blocked end, or the item waits."""

from __future__ import annotations

from uuid import UUID

from domain.commands import Command, ItemTransition
from domain.identity import OPERATOR, ConsumerId
from domain.money import Asset
from domain.settlement import ItemState
from providers.base import Holding
from providers.simulated.state import UNLIMITED
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse


async def forbid(house: SimulatedHouse, *consumers: ConsumerId) -> None:
    for consumer in consumers:
        house.chain.state.forbidden.add((await house.house.address(consumer)).address)


async def legs(house: SimulatedHouse) -> dict[tuple[UUID, UUID], str]:
    return {(row.sender, row.recipient): row.state for row in await house.house.items()}


async def retry_blocked(house: SimulatedHouse) -> None:
    for row in await house.house.items():
        if row.state == ItemState.BLOCKED:
            freed = ItemTransition(
                item_id=row.id, expected=frozenset({ItemState.BLOCKED}), state=ItemState.PENDING, reason="retried"
            )
            await house.house.writer.submit(Command(transitions=(freed,)))


async def test_rule_10_a_blocked_recipients_money_stands_with_the_operator(house: SimulatedHouse) -> None:
    """The sender has paid, as the ledger says; the recipient has it in the ledger and in escrow on the chain."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, bob)
    await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(3)
    assert await legs(house) == {
        (ann, bob): ItemState.FAILED,
        (ann, OPERATOR): ItemState.CONFIRMED,
        (OPERATOR, bob): ItemState.BLOCKED,
    }
    reasons = {(row.sender, row.recipient): row.reason for row in await house.house.items()}
    assert reasons[OPERATOR, bob] == reasons[ann, bob] != ""
    assert reasons[ann, OPERATOR] == ""
    assert await house.house.available(bob) == 105 * UNIT
    assert await house.stands(ann) == (95 * UNIT, 0)
    assert await house.stands(OPERATOR) == (10_000_005 * UNIT, 0)
    await house.house.prove_clean()


async def test_rule_10_for_a_blocked_sender_the_operator_pays_and_keeps_a_receivable(house: SimulatedHouse) -> None:
    """The recipient is not to suffer for it."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, ann)
    await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(3)
    assert await legs(house) == {
        (ann, bob): ItemState.FAILED,
        (ann, OPERATOR): ItemState.BLOCKED,
        (OPERATOR, bob): ItemState.CONFIRMED,
    }
    assert await house.house.available(ann) == 95 * UNIT - FEE
    assert await house.stands(bob) == (105 * UNIT, 0)
    await house.house.prove_clean()


async def test_rule_10_with_both_ends_blocked_nothing_moves_and_everything_is_counted(house: SimulatedHouse) -> None:
    """The equations hold with two BLOCKED items in them."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, ann, bob)
    await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(3)
    assert (await legs(house))[ann, OPERATOR] == (await legs(house))[OPERATOR, bob] == ItemState.BLOCKED
    assert house.memos() == {}
    await house.house.prove_clean()


async def test_rule_10_what_was_blocked_settles_when_people_say_so(house: SimulatedHouse) -> None:
    """Both halves, once each; the transfer's own history points at them."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, ann, bob)
    item = await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(2)
    house.chain.state.forbidden.clear()
    await retry_blocked(house)
    await house.work(3)
    assert await house.stands(ann) == (95 * UNIT, 0)
    assert await house.stands(bob) == (105 * UNIT, 0)
    assert await house.stands(OPERATOR) == (10_000_000 * UNIT, 0)
    of = {row.transaction_id for row in await house.house.items()}
    assert of == {(await house.house.item(item)).transaction_id}
    await house.house.prove_clean()


async def test_rule_10_a_blocked_item_holds_nobody_up(house: SimulatedHouse) -> None:
    """What comes after it in its sender's queue goes on."""
    [ann, bob, cat] = await house.consumers(3)
    await forbid(house, bob)
    await house.house.pay(ann, bob, UNIT)
    await house.work(2)
    later = await house.house.pay(ann, cat, UNIT)
    await house.work(2)
    assert (await house.house.item(later)).state == ItemState.CONFIRMED


async def test_rule_10_a_sweep_of_a_blocked_consumers_fees_is_blocked_itself(house: SimulatedHouse) -> None:
    """Between a consumer and the operator there is nobody to stand in."""
    [ann, bob] = await house.consumers(2)
    await house.house.pay(ann, bob, UNIT)
    await house.work(2)
    await forbid(house, ann)
    await house.house.sweep_fees()
    await house.work(2)
    assert (await legs(house))[ann, OPERATOR] == ItemState.BLOCKED
    assert await house.stands(ann) == (99 * UNIT, 0)
    await house.house.prove_clean()


async def test_rule_10_a_paused_token_is_waited_for(house: SimulatedHouse) -> None:
    """Not on the closed list of permanent reasons: it goes back to its queue, and settles when the pause is over."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    house.chain.state.paused.add(Asset.USDC)
    for failures in (1, 2, 3):
        await house.house.settlement.settle_round()
        waiting = await house.house.item(item)
        assert (waiting.state, waiting.failures) == (ItemState.PENDING, failures)
        assert waiting.reason.startswith("ContractPaused")
        house.clock.advance(5)
        await house.block()
    house.chain.state.paused.clear()
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED


async def test_rule_10_an_offender_is_taken_out_and_the_others_settle(house: SimulatedHouse) -> None:
    """One transaction for eight payments, one of which the chain forbids."""
    consumers = await house.consumers(9)
    await forbid(house, consumers[4])
    items = [await house.house.pay(payer, consumers[8], UNIT) for payer in consumers[:8]]
    await house.house.settlement.settle_round()
    await house.block()
    states = [(await house.house.item(item)).state for item in items]
    assert states.count(ItemState.CONFIRMED) == 7
    assert states[4] == ItemState.FAILED


async def test_rule_27_what_the_signer_refuses_waits_for_a_person_and_harms_nobody_else(house: SimulatedHouse) -> None:
    """Somebody who can write to the database put another address there, with money and an allowance on the chain."""
    consumers = await house.consumers(6)
    items = [await house.house.pay(payer, consumers[5], UNIT) for payer in consumers[:5]]
    await house.house.execute(
        "UPDATE wallets SET tempo_address = :other WHERE consumer_id = :victim",
        other="0x" + "66" * 20,
        victim=consumers[2],
    )
    other = Holding("0x" + "66" * 20, Asset.USDC)
    house.chain.state.balances.set(other, 100 * UNIT, at_block=house.chain.height)
    house.chain.state.allowances.set(other, UNLIMITED, at_block=house.chain.height)
    await house.work(2)
    states = [(await house.house.item(item)).state for item in items]
    assert states.count(ItemState.CONFIRMED) == 4
    assert states[2] == ItemState.PENDING
    assert await house.house.breaks() == ["signing_refused"]
