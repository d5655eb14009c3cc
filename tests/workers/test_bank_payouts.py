"""Payouts: paid once whatever is lost on the way, given back only when certain, reversed when the bank sends back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain.errors import NoRoute, ProviderUnavailable, ValidationFailed
from providers.custodian import OrderState, PayoutOrder
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse
from tests.workers.simulated_bank import SimulatedBranch, simulated_branch

FLOAT = 1_000 * UNIT
DAY = timedelta(days=1).total_seconds()


@pytest.fixture
async def branch(house: SimulatedHouse, tmp_path: Path) -> AsyncIterator[SimulatedBranch]:
    async with simulated_branch(house, tmp_path, standing=FLOAT) as branch:
        yield branch


async def used_today(branch: SimulatedBranch, consumer: object) -> int:
    [row] = await branch.house.execute("SELECT usage_usd_micros FROM wallets WHERE consumer_id = :id", id=consumer)
    used: int = row.usage_usd_micros
    return used


async def test_rule_17_a_payout_is_held_then_in_transit_then_posted_with_the_books_clean_at_every_step(
    branch: SimulatedBranch,
) -> None:
    """The operator pays the bank from its position there, and the consumer's position on Tempo pays the operator."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    assert await branch.balance(ann) == (60 * UNIT - FEE, 40 * UNIT + FEE)
    assert (withdrawn.recorded.withdrawal is not None) and withdrawn.recorded.states == ()
    await branch.house.prove_clean()

    await branch.round()
    assert await branch.standing() == (FLOAT, 40 * UNIT), "in transit: reserved, and not gone"
    assert await branch.state(withdrawn) == "HELD", "taken is not paid"
    await branch.house.prove_clean()

    branch.bank.end_payouts(OrderState.COMPLETE, fee=UNIT)
    await branch.round()
    assert await branch.state(withdrawn) == "COMPLETED"
    assert await branch.balance(ann) == (60 * UNIT - FEE, 0)
    assert await branch.standing() == (FLOAT - 41 * UNIT, 0)
    assert await branch.account("network_fees") == -UNIT, "what the custodian takes is the operator's expense"
    assert await branch.account("fees") == FEE
    await branch.house.prove_clean()

    await branch.simulated.work(2)
    position = await branch.house.position(ann)
    assert position is not None
    assert position.micros == 60 * UNIT, "the fee waits there to be swept"
    await branch.house.prove_clean()


async def test_rule_11_a_failed_payout_gives_everything_back(branch: SimulatedBranch) -> None:
    """Amount, fee and the day's limit; the cover is free again."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    branch.bank.end_payouts(OrderState.FAILED, reason="invalid_bank_account_number")
    await branch.round()
    assert await branch.state(withdrawn) == "FAILED"
    assert await branch.balance(ann) == (100 * UNIT, 0)
    assert await used_today(branch, ann) == 0
    assert await branch.standing() == (FLOAT, 0)
    [payout] = await branch.payouts()
    assert (payout.state, payout.reason) == ("FAILED", "invalid_bank_account_number")
    await branch.house.prove_clean()


async def test_rule_4_an_order_refused_at_its_first_try_ends_the_payout(branch: SimulatedBranch) -> None:
    """Nothing before it can be on its way, so a definite no is one."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    branch.bank.faults.refuse = 1
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    assert await branch.state(withdrawn) == "FAILED"
    assert await branch.balance(ann) == (100 * UNIT, 0)
    await branch.house.prove_clean()


async def test_rule_4_an_order_that_was_only_put_off_is_tried_again_and_may_still_be_refused(
    branch: SimulatedBranch,
) -> None:
    """A try that did nothing leaves nothing behind that a refusal would have to fear."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    branch.bank.faults.too_many = 2
    branch.bank.faults.refuse = 1
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    assert branch.bank.asked == 1, "not before the time it was told"
    await branch.round(seconds=6)
    assert await branch.state(withdrawn) == "HELD"
    await branch.round(seconds=6)
    assert await branch.state(withdrawn) == "FAILED"


async def test_rule_4_executed_but_not_answered_is_found_and_never_paid_again(branch: SimulatedBranch) -> None:
    """The most dangerous moment of all: the bank is paid and nobody knows."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    branch.bank.faults.lose_answers = 1
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    assert await branch.state(withdrawn) == "HELD"
    await branch.house.prove_clean()
    await branch.round(seconds=60)
    assert len(branch.bank.paid) == 1
    assert branch.bank.asked == 1, "it was looked for before it was asked for again"
    branch.bank.end_payouts(OrderState.COMPLETE)
    await branch.round()
    assert await branch.state(withdrawn) == "COMPLETED"
    await branch.house.prove_clean()


async def test_rule_4_an_order_that_got_lost_is_sent_again_under_its_key(branch: SimulatedBranch) -> None:
    """And a refusal then proves nothing: the first one may still be on its way."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    branch.bank.faults.lose_orders = 1
    branch.bank.faults.refuse = 1
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    await branch.round(seconds=60)
    [payout] = await branch.payouts()
    assert payout.state == "STARTED"
    assert "may be on its way" in payout.reason
    assert await branch.state(withdrawn) == "HELD"
    await branch.round(seconds=120)
    branch.bank.end_payouts(OrderState.COMPLETE)
    await branch.round()
    assert await branch.state(withdrawn) == "COMPLETED"
    assert len(branch.bank.paid) == 1


async def test_rule_4_one_of_unknown_outcome_for_each_bank_and_amount(branch: SimulatedBranch) -> None:
    """Two alike could not be told apart at the custodian, so the second waits; another amount does not."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    branch.bank.faults.lose_orders = 1
    await branch.withdraw(ann, account, 20 * UNIT)
    await branch.round()
    await branch.withdraw(ann, account, 20 * UNIT)
    await branch.withdraw(ann, account, 30 * UNIT)
    await branch.round()
    started = [(one.micros, one.state) for one in await branch.payouts()]
    assert sorted(started) == [(20 * UNIT, "STARTED"), (30 * UNIT, "SUBMITTED")]
    await branch.round(seconds=60)
    await branch.round()
    assert [one.state for one in await branch.payouts()] == ["SUBMITTED"] * 3
    assert len(branch.bank.paid) == 3
    await branch.house.prove_clean()


async def test_rule_4_unknown_for_a_day_is_looked_for_and_not_asked_for_again(branch: SimulatedBranch) -> None:
    """The custodian promises to remember keys for no longer; should it show up after all, it is still found."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    branch.bank.faults.lose_orders = 1
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    await branch.round(seconds=DAY)
    [payout] = await branch.payouts()
    assert branch.bank.asked == 1
    assert "a person" in payout.reason
    assert await branch.state(withdrawn) == "HELD"
    order = PayoutOrder(
        key=payout.key,
        amount=withdrawn.recorded.withdrawal.amount,  # type: ignore[union-attr]
        bank_reference=payout.bank_reference,
        ordered_at=payout.ordered_at,
    )
    branch.bank._pay(order)
    await branch.round(seconds=3_600)
    assert [one.state for one in await branch.payouts()] == ["SUBMITTED"]


async def test_a_payout_that_the_bank_returns_is_reversed(branch: SimulatedBranch) -> None:
    """Days later: the consumer gets all of it, what sending it back cost is the operator's, the fee stays earned."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    withdrawn = await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    branch.bank.end_payouts(OrderState.COMPLETE)
    await branch.round()
    await branch.simulated.work(2)
    spent = await branch.account("network_fees")
    branch.bank.send_back(fee=3 * UNIT)
    await branch.round(seconds=3 * DAY)
    assert await branch.state(withdrawn) == "RETURNED"
    assert await branch.balance(ann) == (100 * UNIT - FEE, 0)
    assert await branch.account("network_fees") == spent - 3 * UNIT
    assert await branch.standing() == (FLOAT - 3 * UNIT, 0)
    await branch.house.prove_clean()
    for _ in range(2):
        await branch.round(seconds=120)
    assert await branch.balance(ann) == (100 * UNIT - FEE, 0), "once"
    await branch.simulated.work(2)
    position = await branch.house.position(ann)
    assert position is not None
    assert position.micros == 100 * UNIT
    await branch.house.prove_clean()


async def test_a_return_to_somebody_who_is_gone_stands_in_suspense(branch: SimulatedBranch) -> None:
    """The wallet was closed after the payout; the money is kept for whoever asks for it."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    await branch.withdraw(ann, account, 40 * UNIT)
    await branch.round()
    branch.bank.end_payouts(OrderState.COMPLETE)
    await branch.round()
    await branch.house.execute("UPDATE wallets SET erased_at = now() WHERE consumer_id = :id", id=ann)
    branch.bank.send_back()
    await branch.round(seconds=DAY)
    assert await branch.account("suspense") == 40 * UNIT
    await branch.house.prove_clean()


async def test_payouts_wait_for_cover_and_for_a_provider_that_is_not_paused(branch: SimulatedBranch) -> None:
    """Rule 8 at the custodian: two that each fit and together do not; and an operator's pause stops new ones only."""
    [ann] = await branch.simulated.consumers(1, micros=2_000 * UNIT)
    account = await branch.linked(ann)
    await branch.withdraw(ann, account, 700 * UNIT)
    branch.simulated.clock.advance(1)
    await branch.withdraw(ann, account, 600 * UNIT)
    await branch.well(paused=True)
    await branch.round()
    assert await branch.payouts() == []
    await branch.well()
    await branch.round()
    assert [one.micros for one in await branch.payouts()] == [700 * UNIT]
    with pytest.raises(NoRoute):
        await branch.withdraw(ann, account, 400 * UNIT)
    branch.bank.end_payouts(OrderState.FAILED, reason="vendor_inactive")
    await branch.round()
    await branch.round()
    assert {one.micros: one.state for one in await branch.payouts()} == {
        700 * UNIT: "FAILED",
        600 * UNIT: "SUBMITTED",
    }
    await branch.house.prove_clean()


async def test_two_workers_pay_once(branch: SimulatedBranch) -> None:
    """Any number may run: starting is under a lock, trying under a lease."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    other = branch.new_worker()
    for micros in range(10, 15):
        await branch.withdraw(ann, account, micros * UNIT)
    for _ in range(2):
        await branch.round()
        await other.step()
    assert len(branch.bank.paid) == branch.bank.asked == 5


async def test_nothing_is_held_for_a_bank_that_cannot_be_paid(branch: SimulatedBranch) -> None:
    """Fractions of a cent, and an account that the custodian has not taken yet."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    with pytest.raises(ValidationFailed):
        await branch.withdraw(ann, account, 10 * UNIT + 1)
    await branch.house.execute("DELETE FROM bank_links")
    with pytest.raises(ProviderUnavailable):
        await branch.withdraw(ann, account, 10 * UNIT)
    assert await branch.balance(ann) == (100 * UNIT, 0)


async def test_what_is_asked_for_is_begun_within_a_second_or_so_of_a_long_pause(branch: SimulatedBranch) -> None:
    """Consumers do not wait for the next look at the custodian: their wish is in our own database."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.linked(ann)
    stop = asyncio.Event()
    running = asyncio.create_task(branch.new_worker(poll_seconds=DAY).run(stop))
    await asyncio.sleep(0)
    await branch.withdraw(ann, account, 10 * UNIT)
    async with asyncio.timeout(30):
        while not branch.bank.paid:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stop.set()
    await running
