"""Failover to a custodian, step by step: who leaves Tempo when, who pays, and what comes home."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.identity import OPERATOR
from domain.money import Asset, Money
from domain.routing import RoutingPolicy
from providers.custodian import OrderState
from providers.simulated import SimulatedCustodian
from server.workers.failover import Failover
from tests.providers.worlds import SeededEntropy
from tests.workers.house import FEE, UNIT
from tests.workers.second_rail import FLOAT, PATIENCE, SecondRail
from tests.workers.simulated import SimulatedHouse


@pytest.fixture
async def abroad(house: SimulatedHouse) -> SecondRail:
    """The house with a custodian beside it, whose float is in the books."""
    rail = SecondRail(house.house, SimulatedCustodian(clock=house.clock, entropy=SeededEntropy(2)))
    await rail.furnish()
    return rail


async def _tempo_fails(house: SimulatedHouse, abroad: SecondRail) -> None:
    house.clock.advance(PATIENCE.total_seconds() + 1)
    await abroad.health(tempo=False)


async def _to_the_end(abroad: SecondRail) -> None:
    """Every order sent, complete and booked."""
    await abroad.workers.orders.step()
    abroad.custodian.complete_all()
    abroad.house.clock.advance(30)  # type: ignore[attr-defined]
    await abroad.workers.orders.step()


async def test_a_payment_settles_from_the_float_while_tempo_is_away(house: SimulatedHouse, abroad: SecondRail) -> None:
    """The recipient gets it there, the sender owes the operator here, and both books stay exact."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, 7 * UNIT)
    await _tempo_fails(house, abroad)
    assert await abroad.workers.failover.step() == 1
    assert await abroad.stands(OPERATOR) == (FLOAT, 7 * UNIT)
    await _to_the_end(abroad)
    row = await house.house.item(item)
    assert (row.state, row.rail, row.sender, row.purpose) == ("CONFIRMED", "circle", OPERATOR, "payment")
    assert row.route["reasons"][0] == "FALLBACK"
    assert await abroad.stands(ben) == (7 * UNIT, 0)
    assert await abroad.stands(OPERATOR) == (FLOAT - 7 * UNIT - 500, 0)
    [owed] = await house.house.execute("SELECT * FROM settlement_items WHERE purpose = 'reimbursement'")
    assert (owed.sender, owed.recipient, owed.state, owed.for_item_id) == (ann, OPERATOR, "PENDING", item)
    await house.house.prove_clean()


async def test_the_debt_takes_the_items_place_in_the_senders_queue(house: SimulatedHouse, abroad: SecondRail) -> None:
    """What the sender pays later does not overtake it (money rule 7)."""
    ann, ben = await house.consumers(2)
    first = await house.house.item(await house.house.pay(ann, ben, UNIT))
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    second = await house.house.pay(ann, ben, UNIT)
    [owed] = await house.house.execute("SELECT * FROM settlement_items WHERE purpose = 'reimbursement'")
    assert (owed.sender_seq, owed.position) == (first.sender_seq, first.position)
    await house.work(3)
    assert list(house.memos()) == [owed.id, second]


async def test_nothing_leaves_while_an_attempt_may_still_land(house: SimulatedHouse, abroad: SecondRail) -> None:
    """An item that was signed for Tempo is paid there or nowhere, until it is proven dead (rules 1 and 3)."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, UNIT)
    house.chain.faults.late_blocks = 1_000
    await house.house.settlement.settle_round()
    await _tempo_fails(house, abroad)
    assert await abroad.workers.failover.step() == 0
    house.clock.advance(60)
    await house.house.settlement.chores()
    await abroad.health(tempo=False)
    assert (await house.house.item(item)).state == "INDETERMINATE"
    assert await abroad.workers.failover.step() == 0
    await house.block()
    await house.house.settlement.chores()
    await abroad.health(tempo=False)
    assert (await house.house.item(item)).state == "PENDING"
    assert await abroad.workers.failover.step() == 1


async def test_a_consumers_own_position_is_spent_before_the_float(house: SimulatedHouse, abroad: SecondRail) -> None:
    """Money rule 9: the float is for those who have nothing there."""
    ann, ben, cleo = await house.consumers(3)
    await house.house.pay(ann, ben, 5 * UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    await _to_the_end(abroad)
    item = await house.house.pay(ben, cleo, 3 * UNIT)
    await _tempo_fails(house, abroad)
    assert await abroad.workers.failover.step() == 1
    await _to_the_end(abroad)
    assert (await house.house.item(item)).sender == ben
    assert await abroad.stands(ben) == (2 * UNIT, 0)
    assert await abroad.stands(cleo) == (3 * UNIT, 0)
    assert await abroad.item_count("reimbursement") == 1
    await house.house.prove_clean()


async def test_the_float_is_never_promised_twice(house: SimulatedHouse, abroad: SecondRail) -> None:
    """It is reserved in the commit that reroutes; what it cannot pay waits, and says so."""
    people = await house.consumers(4)
    items = [await house.house.pay(payer, people[3], 30 * UNIT) for payer in people[:3]]
    await _tempo_fails(house, abroad)
    assert await abroad.workers.failover.step() == 1
    assert await abroad.workers.failover.step() == 0
    assert await abroad.stands(OPERATOR) == (FLOAT, 30 * UNIT)
    reasons = [(await house.house.item(item)).reason for item in items]
    assert sorted(reasons) == ["", *["waits: circle FLOAT_TOO_SMALL, tempo UNHEALTHY"] * 2]


async def test_without_fallback_it_waits_and_says_why(house: SimulatedHouse, abroad: SecondRail) -> None:
    """CONSUMER_FALLBACK_ENABLED=false."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, UNIT)
    policy = replace(RoutingPolicy(), fallback_enabled=False)
    workers = SecondRail(house.house, abroad.custodian, policy).workers
    await _tempo_fails(house, abroad)
    assert await workers.failover.step() == 0
    assert (await house.house.item(item)).reason == "waits: circle FALLBACK_DISABLED, tempo UNHEALTHY"
    await house.work(3)
    assert (await house.house.item(item)).state == "CONFIRMED"


async def test_an_order_without_an_answer_is_looked_up_and_never_ordered_anew(
    house: SimulatedHouse, abroad: SecondRail
) -> None:
    """Executed, but no answer: the case that pays twice wherever it is decided again (money rule 4)."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    abroad.custodian.faults.lose_answers = 1
    abroad.custodian.faults.unlisted = True
    await abroad.workers.orders.step()
    row = await house.house.item(item)
    assert (row.state, row.reason) == ("INDETERMINATE", "no answer to the order: the answer was lost")
    for _ in range(3):
        house.clock.advance(30)
        await abroad.workers.orders.step()
    abroad.custodian.faults.unlisted = False
    await _to_the_end(abroad)
    assert (await house.house.item(item)).state == "CONFIRMED"
    assert len(abroad.custodian.executed) == 1
    [order] = await abroad.orders()
    assert order.tries > 1


async def test_confirmed_is_not_booked_for_it_may_still_fail(house: SimulatedHouse, abroad: SecondRail) -> None:
    """A reorganisation takes back what was confirmed. Then the item settles on Tempo after all, out of the float."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    await abroad.workers.orders.step()
    [order] = abroad.custodian.under_way()
    abroad.custodian.advance(order, OrderState.CONFIRMED)
    house.clock.advance(30)
    await abroad.workers.orders.step()
    assert (await house.house.item(item)).state == "BROADCAST"
    assert await abroad.stands(ben) == (0, 0)
    abroad.custodian.advance(order, OrderState.FAILED, reason="FAILED_REORG")
    house.clock.advance(30)
    await abroad.workers.orders.step()
    row = await house.house.item(item)
    assert (row.state, row.rail, row.sender, row.reason) == ("PENDING", "tempo", OPERATOR, "FAILED_REORG")
    assert await abroad.stands(OPERATOR) == (FLOAT, 0)
    await house.block()
    await house.work(4)
    assert (await house.house.item(item)).state == "CONFIRMED"
    await house.house.prove_clean()


async def test_a_first_try_that_is_refused_frees_the_item(house: SimulatedHouse, abroad: SecondRail) -> None:
    """Nothing of it exists, and nothing can."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    abroad.custodian.standing.clear()
    await abroad.workers.orders.step()
    assert (await house.house.item(item)).rail == "tempo"
    assert [order.state for order in await abroad.orders()] == ["FAILED"]


async def test_positions_come_home_when_tempo_is_well_again(house: SimulatedHouse, abroad: SecondRail) -> None:
    """A pair of items, and in the end everything stands where it would without the failure."""
    ann, ben = await house.consumers(2)
    await house.house.pay(ann, ben, 7 * UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    await _to_the_end(abroad)
    await abroad.health(tempo=True)
    assert await abroad.workers.repatriation.step() == 0
    house.clock.advance(16)
    await abroad.health(tempo=True)
    assert await abroad.workers.repatriation.step() == 1
    assert await abroad.workers.repatriation.step() == 0
    await _to_the_end(abroad)
    await house.block()
    await house.work(4)
    assert set(await house.house.states()) == {"CONFIRMED"}
    assert await abroad.stands(ben) == (0, 0)
    assert await abroad.stands(OPERATOR) == (FLOAT - 500, 0)
    assert (await house.stands(ben))[0] == 107 * UNIT
    assert (await house.stands(ann))[0] == 93 * UNIT
    await house.house.prove_clean()


async def test_a_queue_that_waits_for_the_money_brings_it_home_at_once(
    house: SimulatedHouse, abroad: SecondRail
) -> None:
    """Money rule 9: no waiting for better times when it is in the way."""
    ann, ben = await house.consumers(2, micros=10 * UNIT)
    await house.house.pay(ann, ben, 8 * UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    await _to_the_end(abroad)
    item = await house.house.pay(ben, ann, 15 * UNIT)
    await abroad.health(tempo=True)
    assert await abroad.workers.repatriation.step() == 1
    await _to_the_end(abroad)
    await house.block()
    await house.work(6)
    assert (await house.house.item(item)).state == "CONFIRMED"
    assert await house.house.available(ben) == 3 * UNIT - FEE
    await house.house.prove_clean()


async def test_float_that_somebody_brings_is_booked_once(house: SimulatedHouse, abroad: SecondRail) -> None:
    """However often the custodian tells of it."""
    wallet = await abroad.wallet(OPERATOR)
    assert wallet is not None
    house.clock.advance(1)
    reference = abroad.custodian.fund(wallet, Money(Asset.USDC, 5 * UNIT))
    for _ in range(3):
        assert await abroad.workers.transactions.look(reference)
    assert await abroad.stands(OPERATOR) == (FLOAT + 5 * UNIT, 0)
    await house.house.prove_clean()


async def test_two_processes_reroute_each_item_once(house: SimulatedHouse, abroad: SecondRail) -> None:
    """The float's lock lets one in at a time, and the other finds nothing left to do."""
    ann, ben = await house.consumers(2)
    await house.house.pay(ann, ben, UNIT)
    await _tempo_fails(house, abroad)
    other: Failover = abroad.new_workers().failover
    assert [await abroad.workers.failover.step(), await other.step()] == [1, 0]
    assert len(await abroad.orders()) == 1


async def test_the_custodians_wallets_are_compared_with_the_books(house: SimulatedHouse, abroad: SecondRail) -> None:
    """What is under way explains itself; what is not in the books is a break, and shows in the proof."""
    ann, ben = await house.consumers(2)
    await house.house.pay(ann, ben, UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    await abroad.workers.orders.step()
    abroad.custodian.complete_all()
    assert await abroad.workers.comparison.step() == 0
    house.clock.advance(30)
    await abroad.workers.orders.step()
    assert await abroad.workers.comparison.step() == 0
    await house.house.prove_clean()
    wallet = await abroad.wallet(ben)
    assert wallet is not None
    abroad.custodian.fund(wallet, Money(Asset.USDC, 5))
    for _ in range(4):
        house.clock.advance(20)
        assert await abroad.workers.comparison.step() == 1
    assert await house.house.breaks() == ["position_on_rail"]
    proof = await house.house.prove()
    assert not proof.clean


async def test_an_item_that_circle_was_told_to_pay_before_a_restore_is_not_paid_again(
    house: SimulatedHouse, abroad: SecondRail
) -> None:
    """Money rule 15: the order is lost with its commit, and Circle still carries the item's name."""
    ann, ben = await house.consumers(2)
    item = await house.house.pay(ann, ben, 7 * UNIT)
    await _tempo_fails(house, abroad)
    await abroad.workers.failover.step()
    await abroad.workers.orders.step()
    [reference] = [order.reference for order in abroad.custodian.under_way()]
    await _forget_the_order(abroad, item)
    assert await abroad.workers.transactions.look(reference)
    row = await house.house.item(item)
    assert (row.state, reference in row.reason) == ("BLOCKED", True)
    await house.work(3)
    assert item not in list(house.memos())
    assert await house.house.execute("SELECT 1 FROM breaks WHERE kind = 'unexpected_circle_transfer'")


async def _forget_the_order(abroad: SecondRail, item: object) -> None:
    """What a restore to the moment before the item left Tempo does to the books."""
    for statement in (
        "DELETE FROM attempt_items",
        "DELETE FROM settlement_attempts",
        "DELETE FROM settlement_items WHERE purpose = 'reimbursement'",
        "UPDATE custody_positions SET reserved_micros = 0 WHERE rail = 'circle'",
        "UPDATE settlement_items SET rail = 'tempo', state = 'PENDING', sender = original.consumer_id "
        "FROM transactions original WHERE original.id = settlement_items.transaction_id",
    ):
        await abroad.house.execute(statement)
