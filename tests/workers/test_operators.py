"""Operators among the workers: pauses, retries and adjustments, with the books backed by the rail at every step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from domain.audit import Actor, Role
from domain.errors import SettlementNotRetryable
from domain.identity import OPERATOR, ConsumerId, ItemId
from domain.money import Asset, Money
from domain.postings import Account, AccountKind, available, operator_account
from domain.settlement import ItemState
from server.services.acts import Acts
from server.services.adjustments import Adjusted, AdjustmentService, Proposal
from server.services.pauses import PauseService
from server.services.retries import RetryService
from storage import provider_health
from storage.provider_health import ProviderHealthRow
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse

MAKER = Actor("maria", Role.OPERATOR)
CHECKER = Actor("chris", Role.OPERATOR)


def acts(house: SimulatedHouse) -> Acts:
    return Acts(engine=house.house.engine, clock=house.clock, entropy=house.house.entropy)


async def pause(house: SimulatedHouse, *, paused: bool = True) -> None:
    provider = house.rail.provider.name
    async with house.house.engine.begin() as tx:
        row = ProviderHealthRow(provider, True, "closed", 1, 1_000_000, "", house.clock.now())
        await provider_health.record(tx, row)
    await PauseService(acts=acts(house)).set_paused(provider, paused=paused, reason="halted", actor=MAKER)


async def retry(house: SimulatedHouse, item_id: UUID) -> None:
    await RetryService(acts=acts(house)).retry(item_id, reason="policy lifted", actor=MAKER)


async def adjust(
    house: SimulatedHouse, source: Account, target: Account, micros: int, *, cancel: UUID | None = None
) -> Adjusted:
    """Proposed by one operator, approved by another."""
    service = AdjustmentService(
        engine=house.house.engine, writer=house.house.writer, clock=house.clock, entropy=house.house.entropy
    )
    proposal = Proposal(
        source=source,
        target=target,
        amount=Money(Asset.USDC, micros),
        reason="mending",
        cancel_item_id=ItemId(cancel) if cancel else None,
        actor=by(house, MAKER),
    )
    deadline = house.clock.monotonic() + 3_600
    proposed = await service.propose(proposal, deadline=deadline)
    return await service.approve(proposed.adjustment.id, actor=by(house, CHECKER), deadline=deadline)


def by(house: SimulatedHouse, actor: Actor) -> Actor:
    return replace(actor, request_id=str(house.house.entropy.uuid7()))


async def forbid(house: SimulatedHouse, *consumers: ConsumerId) -> None:
    for consumer in consumers:
        house.chain.state.forbidden.add((await house.house.address(consumer)).address)


async def item_between(house: SimulatedHouse, sender: UUID, recipient: UUID) -> UUID:
    (item_id,) = [row.id for row in await house.house.items() if (row.sender, row.recipient) == (sender, recipient)]
    found: UUID = item_id
    return found


# --- pauses -----------------------------------------------------------------------------------------------------------


async def test_a_paused_provider_gets_nothing_new_and_what_is_out_is_watched_to_its_end(house: SimulatedHouse) -> None:
    """A pause must neither lose sight of a payment nor begin one."""
    [ann, bob] = await house.consumers(2)
    out = await house.house.pay(ann, bob, UNIT)
    await house.house.settlement.settle_round()
    assert (await house.house.item(out)).state == ItemState.BROADCAST
    await pause(house)
    waiting = await house.house.pay(ann, bob, UNIT)
    await house.work(4)
    assert (await house.house.item(out)).state == ItemState.CONFIRMED
    assert (await house.house.item(waiting)).state == ItemState.PENDING
    assert house.memos() == {out: 1}
    await pause(house, paused=False)
    await house.work(2)
    assert (await house.house.item(waiting)).state == ItemState.CONFIRMED
    await house.house.prove_clean()


async def test_nobody_is_activated_while_the_provider_is_paused(house: SimulatedHouse) -> None:
    [ann, bob] = await house.consumers(2, active=False)
    await house.house.pay(ann, bob, UNIT)
    await pause(house)
    await house.work(3)
    assert await house.attempts() == []


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_rule_10_blocked_items_settle_after_a_retry(house: SimulatedHouse) -> None:
    """Once the policy is lifted, both halves of the stand-in go on, once each."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, ann, bob)
    await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(2)
    house.chain.state.forbidden.clear()
    for ends in ((ann, OPERATOR), (OPERATOR, bob)):
        await retry(house, await item_between(house, *ends))
    await house.work(3)
    assert await house.stands(ann) == (95 * UNIT, 0)
    assert await house.stands(bob) == (105 * UNIT, 0)
    assert set(house.memos().values()) == {1}
    await house.house.prove_clean()


async def test_rule_1_what_is_in_flight_is_not_retried_until_it_is_dead(house: SimulatedHouse) -> None:
    """A second attempt beside one that may still land would pay twice."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    await house.house.settlement.settle_round()
    with pytest.raises(SettlementNotRetryable):
        await retry(house, item)
    await house.work(2)
    with pytest.raises(SettlementNotRetryable):
        await retry(house, item)
    assert house.memos() == {item: 1}


# --- adjustments ------------------------------------------------------------------------------------------------------


async def settled_after(house: SimulatedHouse) -> None:
    """The books are backed at once, and again when the rail has followed."""
    await house.house.prove_clean()
    await house.work(3)
    assert not [row.state for row in await house.house.items() if row.state == ItemState.PENDING]
    await house.house.prove_clean()


@pytest.mark.parametrize(
    "kind", [AccountKind.LOSSES, AccountKind.TREASURY, AccountKind.SUSPENSE, AccountKind.ESCROW, AccountKind.FEES]
)
async def test_rules_16_and_17_an_adjustment_in_a_consumers_favour_is_backed(
    house: SimulatedHouse, kind: AccountKind
) -> None:
    """It comes out of the operator's float, so the float has to show it."""
    [ann] = await house.consumers(1)
    await adjust(house, operator_account(kind), available(ann), 7 * UNIT)
    assert await house.house.available(ann) == 107 * UNIT
    await settled_after(house)
    assert await house.stands(ann) == (107 * UNIT, 0)


@pytest.mark.parametrize("kind", [AccountKind.LOSSES, AccountKind.TREASURY, AccountKind.SUSPENSE, AccountKind.ESCROW])
async def test_rules_16_and_17_an_adjustment_to_a_consumers_cost_is_backed(
    house: SimulatedHouse, kind: AccountKind
) -> None:
    [ann] = await house.consumers(1)
    await adjust(house, available(ann), operator_account(kind), 7 * UNIT)
    await settled_after(house)
    assert await house.stands(ann) == (93 * UNIT, 0)


async def test_rule_16_a_fee_by_adjustment_is_swept_with_the_others(house: SimulatedHouse) -> None:
    [ann] = await house.consumers(1)
    await adjust(house, available(ann), operator_account(AccountKind.FEES), 7 * UNIT)
    await house.house.prove_clean()
    assert await house.stands(ann) == (100 * UNIT, 0)
    await house.house.sweep_fees()
    await settled_after(house)
    assert await house.stands(ann) == (93 * UNIT, 0)


async def test_rules_16_and_17_between_consumers_and_between_accounts_of_the_operator(house: SimulatedHouse) -> None:
    [ann, bob] = await house.consumers(2)
    await adjust(house, available(ann), available(bob), 7 * UNIT)
    await adjust(house, operator_account(AccountKind.TREASURY), operator_account(AccountKind.LOSSES), 3 * UNIT)
    await settled_after(house)
    assert (await house.stands(ann), await house.stands(bob)) == ((93 * UNIT, 0), (107 * UNIT, 0))


async def test_rule_10_a_receivable_is_written_off_in_one_commit_with_its_item(house: SimulatedHouse) -> None:
    """The blocked sender keeps the tokens that nobody can move, and the operator books the loss."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, ann)
    await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(3)
    receivable = await item_between(house, ann, OPERATOR)
    await adjust(house, operator_account(AccountKind.LOSSES), available(ann), 5 * UNIT, cancel=receivable)
    assert (await house.house.item(receivable)).state == ItemState.CANCELLED
    assert await house.house.available(ann) == 100 * UNIT - FEE
    await settled_after(house)
    assert await house.stands(ann) == (100 * UNIT, 0)


async def test_rule_10_a_payment_that_cannot_reach_its_recipient_is_refunded_by_people(house: SimulatedHouse) -> None:
    """First the item to the recipient is undone into escrow, then the sender gets the money out of it."""
    [ann, bob] = await house.consumers(2)
    await forbid(house, bob)
    await house.house.pay(ann, bob, 5 * UNIT)
    await house.work(3)
    undeliverable = await item_between(house, OPERATOR, bob)
    escrow = operator_account(AccountKind.ESCROW)
    await adjust(house, available(bob), escrow, 5 * UNIT, cancel=undeliverable)
    await house.house.prove_clean()
    await adjust(house, escrow, available(ann), 5 * UNIT)
    await settled_after(house)
    assert await house.house.available(ann) == 100 * UNIT - FEE
    assert (await house.stands(ann), await house.stands(bob)) == ((100 * UNIT, 0), (100 * UNIT, 0))


async def test_rule_10_an_item_that_waits_in_its_queue_can_be_refunded_too(house: SimulatedHouse) -> None:
    [ann, bob, cat] = await house.consumers(3)
    first, second = await house.house.pay(ann, bob, 5 * UNIT), await house.house.pay(ann, cat, UNIT)
    await adjust(house, available(bob), available(ann), 5 * UNIT, cancel=first)
    await settled_after(house)
    assert house.memos() == {second: 1}
    assert await house.stands(bob) == (100 * UNIT, 0)


async def test_a_retry_shortens_the_wait_of_an_item_whose_cause_is_gone(house: SimulatedHouse) -> None:
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    await house.house.execute(
        "UPDATE settlement_items SET failures = 4, not_before = :later WHERE id = :id",
        later=house.clock.now() + timedelta(hours=1),
        id=item,
    )
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.PENDING
    await retry(house, item)
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
