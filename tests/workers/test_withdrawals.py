"""Withdrawals from hold to end, on the simulated chain: posted once when paid, released once when they never can be."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from domain.errors import InsufficientFunds
from domain.identity import ConsumerId
from domain.money import Asset, Money
from domain.postings import AccountKind
from domain.pricing import FeeSchedule
from domain.routing import RoutingPolicy
from domain.settlement import ItemState
from providers.base import Holding, RefusalReason
from providers.simulated import Step
from server.services.destinations import Destinations
from server.services.provider_jobs import ProviderJobs
from server.services.rates import ReferenceRates
from server.services.routing import Routing
from server.services.withdrawals import WithdrawalOrder, WithdrawalService, Withdrawn
from storage import destination_checks, provider_health, transactions
from storage.bank_accounts import BankAccounts
from storage.destination_checks import DestinationCheck
from storage.proofs import system_accounts
from storage.provider_health import ProviderHealthRow
from storage.sealing import KeyRing, new_key_file
from tests.books import audit
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse

DESTINATION = "0x" + "ab" * 20
HOUR = timedelta(hours=1)


class Exit:
    """The way out of a house: the service as the API has it, over the house's own books."""

    def __init__(self, house: SimulatedHouse, ring: KeyRing) -> None:
        self.simulated, self.house = house, house.house
        engine, writer, clock, entropy = self.house.engine, self.house.writer, self.house.clock, self.house.entropy
        jobs = ProviderJobs(engine=engine, clock=clock, entropy=entropy)
        self.service = WithdrawalService(
            engine=engine,
            writer=writer,
            destinations=Destinations(engine=engine, jobs=jobs, clock=clock),
            bank_accounts=BankAccounts(ring),
            routing=Routing(engine=engine, fees=FeeSchedule(), policy=RoutingPolicy(), clock=clock),
            rates=ReferenceRates(engine=engine, clock=clock, max_age=HOUR),
            fees=FeeSchedule(),
            clock=clock,
            entropy=entropy,
        )

    async def withdraw(self, consumer: ConsumerId, micros: int, asset: Asset = Asset.USDC) -> Withdrawn:
        """A withdrawal whose destination was just found to be allowed, by a provider that is well."""
        now = self.house.clock.now()
        async with self.house.engine.begin() as tx:
            row = ProviderHealthRow("tempo", True, "closed", 5, 1_000_000, "", now)
            await provider_health.record(tx, row)
            await destination_checks.record(tx, asset, DESTINATION, DestinationCheck(True, now))
        order = WithdrawalOrder(
            consumer=consumer,
            amount=Money(asset, micros),
            address=DESTINATION,
            bank_account_id=None,
            memo="",
            speed=None,
            caller="consumer",
            request_id=str(uuid.UUID(bytes=self.house.entropy.token_bytes(16))),
        )
        return await self.service.withdraw(order, deadline=self.house.clock.monotonic() + 60)

    async def state(self, withdrawn: Withdrawn) -> str:
        async with self.house.engine.connect() as tx:
            found = await transactions.get(tx, withdrawn.recorded.transaction.id)
        assert found.withdrawal is not None
        return found.withdrawal.state

    async def balance(self, consumer: ConsumerId, asset: Asset = Asset.USDC) -> tuple[int, int]:
        [row] = await self.house.execute(
            "SELECT available_micros, held_micros FROM stablecoin_balances WHERE consumer_id = :id AND asset = :asset",
            id=consumer,
            asset=asset,
        )
        return row.available_micros, row.held_micros

    async def used_today(self, consumer: ConsumerId) -> Any:
        [row] = await self.house.execute(
            "SELECT usage_day, usage_usd_micros FROM wallets WHERE consumer_id = :id", id=consumer
        )
        return tuple(row)

    def paid_out(self, asset: Asset = Asset.USDC) -> int:
        """What the destination has on the chain."""
        return self.simulated.chain.state.balances.latest.get(Holding(DESTINATION, asset), 0)

    async def fees_earned(self, asset: Asset = Asset.USDC) -> int:
        async with self.house.engine.connect() as tx:
            return (await system_accounts(tx)).get((AccountKind.FEES, asset), 0)


@pytest.fixture
async def way_out(house: SimulatedHouse, tmp_path: Any) -> AsyncIterator[Exit]:
    keys = tmp_path / "sealing.json"
    keys.write_text(new_key_file(house.house.entropy, name="tests"))
    yield Exit(house, KeyRing.read(keys, entropy=house.house.entropy))
    await audit(house.house.engine)


async def test_rule_16_a_withdrawal_is_held_then_posted_in_the_commit_that_sees_it_paid(
    house: SimulatedHouse, way_out: Exit
) -> None:
    """At every step the books say what is so: held while on its way, gone when the block is final, always backed."""
    [ann] = await house.consumers(1)
    withdrawn = await way_out.withdraw(ann, 40 * UNIT)
    assert await way_out.balance(ann) == (60 * UNIT - FEE, 40 * UNIT + FEE)
    await house.house.prove_clean()

    await house.house.settlement.settle_round()
    assert await way_out.state(withdrawn) == "HELD", "broadcast proves nothing"
    await house.house.prove_clean()

    await house.block()
    assert await way_out.state(withdrawn) == "COMPLETED"
    assert await way_out.balance(ann) == (60 * UNIT - FEE, 0)
    assert way_out.paid_out() == 40 * UNIT
    assert await way_out.fees_earned() == FEE, "the fee is earned when the money is paid out"
    await house.house.prove_clean()
    position = await house.house.position(ann)
    assert position is not None
    assert (position.micros, position.reserved_micros) == (60 * UNIT, 0), "the fee waits there to be swept"


async def test_rule_11_a_definite_failure_gives_everything_back(house: SimulatedHouse, way_out: Exit) -> None:
    """Amount, fee and the day's limit, in the commit in which the item fails; nothing was paid and nothing earned."""
    [ann] = await house.consumers(1)
    withdrawn = await way_out.withdraw(ann, 40 * UNIT)
    house.chain.state.forbidden.add(DESTINATION)
    await house.work()
    assert await way_out.state(withdrawn) == "FAILED"
    assert await way_out.balance(ann) == (100 * UNIT, 0)
    assert (await way_out.used_today(ann))[1] == 0
    assert (way_out.paid_out(), await way_out.fees_earned()) == (0, 0)
    [item] = await house.house.items()
    assert item.state == ItemState.FAILED
    assert item.reason.startswith("PolicyForbids at block ")
    await house.house.prove_clean()


async def test_rule_11_the_limit_goes_back_to_the_day_it_was_taken_from(house: SimulatedHouse, way_out: Exit) -> None:
    """A failure after midnight must not give the new day more than its limit."""
    [ann] = await house.consumers(1)
    await way_out.withdraw(ann, 40 * UNIT)
    house.chain.faults.halted = True
    house.clock.advance(24 * 3600)
    house.chain.faults.halted = False
    house.chain.mine()
    bob = (await house.house.open_wallets(1))[0]
    await house.house.pay(ann, bob, 10 * UNIT)
    before = await way_out.used_today(ann)
    assert before[1] == 10 * UNIT
    house.chain.state.forbidden.add(DESTINATION)
    await house.work(3)
    assert await way_out.balance(ann) == (90 * UNIT - FEE, 0)
    assert await way_out.used_today(ann) == before


async def test_a_sender_whom_the_token_forbids_keeps_the_money(house: SimulatedHouse, way_out: Exit) -> None:
    """Whichever end is blocked, it can never be paid: a hold that stays would be money nobody has."""
    [ann] = await house.consumers(1)
    withdrawn = await way_out.withdraw(ann, 40 * UNIT)
    house.chain.state.forbidden.add((await house.house.address(ann)).address)
    await house.work()
    assert await way_out.state(withdrawn) == "FAILED"
    assert await way_out.balance(ann) == (100 * UNIT, 0)


async def test_what_may_still_happen_stays_held(house: SimulatedHouse, way_out: Exit) -> None:
    """Rule 11: a paused token, a lost broadcast, a reverted attempt prove nothing, and the hold waits for the end."""
    [ann] = await house.consumers(1)
    withdrawn = await way_out.withdraw(ann, 40 * UNIT)
    house.chain.state.paused.add(Asset.USDC)
    await house.work(3)
    assert await way_out.state(withdrawn) == "HELD"
    assert RefusalReason.CONTRACT_PAUSED in (await house.house.items())[0].reason
    house.chain.state.paused.discard(Asset.USDC)
    house.chain.faults.drop_broadcasts = 3
    for _ in range(12):
        await house.work()
        house.clock.advance(5)
        await house.block()
    assert await way_out.state(withdrawn) == "COMPLETED"
    assert way_out.paid_out() == 40 * UNIT
    assert await way_out.balance(ann) == (60 * UNIT - FEE, 0)
    await house.house.prove_clean()


@pytest.mark.parametrize("step", list(Step))
async def test_a_crash_between_any_two_steps_leaves_no_stuck_hold(
    house: SimulatedHouse, way_out: Exit, step: Step
) -> None:
    """Whatever the worker had done when it died, the money is paid once, and the hold ends once."""
    [ann] = await house.consumers(1)
    withdrawn = await way_out.withdraw(ann, 40 * UNIT)

    def die(reached: Step) -> None:
        if reached is step:
            raise ConnectionAbortedError("the process died here")

    house.chain.faults.at_step = die
    with pytest.raises((ConnectionAbortedError, ExceptionGroup)):
        await house.house.settlement.settle_round()
    house.chain.faults.at_step = lambda _: None
    house.house.settlement = house.house.new_settlement_worker()
    for _ in range(12):
        await house.work()
        house.clock.advance(5)
        await house.block()
    assert await way_out.state(withdrawn) == "COMPLETED"
    assert list(house.memos().values()) == [1]
    assert way_out.paid_out() == 40 * UNIT
    assert await way_out.balance(ann) == (60 * UNIT - FEE, 0)
    await house.house.prove_clean()


async def test_withdrawals_and_transfers_of_one_consumer_keep_their_order(house: SimulatedHouse, way_out: Exit) -> None:
    """Rule 7: a withdrawal has its place in the sender's queue like any other item, and all of it is paid."""
    ann, bob = await house.consumers(2)
    first = await way_out.withdraw(ann, 40 * UNIT)
    await house.house.pay(ann, bob, 20 * UNIT)
    second = await way_out.withdraw(ann, 30 * UNIT)
    third = await way_out.withdraw(bob, 110 * UNIT)
    await house.work(4)
    assert [await way_out.state(one) for one in (first, second, third)] == ["COMPLETED"] * 3
    assert way_out.paid_out() == 180 * UNIT
    await house.house.prove_clean()


async def test_a_failed_withdrawal_holds_nobody_up(house: SimulatedHouse, way_out: Exit) -> None:
    """What stands behind it in the sender's queue goes on."""
    ann, bob = await house.consumers(2)
    await way_out.withdraw(ann, 40 * UNIT)
    item_id = await house.house.pay(ann, bob, 20 * UNIT)
    house.chain.state.forbidden.add(DESTINATION)
    await house.work(3)
    assert (await house.house.item(item_id)).state == ItemState.CONFIRMED
    await house.house.prove_clean()


async def test_a_frozen_wallet_still_gets_its_end_of_a_hold(house: SimulatedHouse, way_out: Exit) -> None:
    """Freezing stops what begins, not what is under way: money that is paid out is posted all the same."""
    [ann] = await house.consumers(1)
    withdrawn = await way_out.withdraw(ann, 40 * UNIT)
    await house.house.execute("UPDATE wallets SET frozen = true")
    await house.work(2)
    assert await way_out.state(withdrawn) == "COMPLETED"


async def test_rule_21_the_end_of_a_hold_is_applied_once(house: SimulatedHouse, way_out: Exit) -> None:
    """Two watchers over the same blocks: one wins, and the money leaves the ledger once."""
    [ann] = await house.consumers(1)
    await way_out.withdraw(ann, 40 * UNIT)
    await house.house.settlement.settle_round()
    house.clock.advance(0.5)
    house.chain.mine()
    for watcher in (house.house.new_watcher(), house.house.new_watcher(), house.house.watcher):
        await watcher.step()
    [kinds] = await house.house.execute("SELECT count(*) FROM transactions WHERE kind = 'withdrawal_posted'")
    assert kinds[0] == 1
    await house.house.prove_clean()


async def test_random_withdrawals_end_all_and_keep_the_equations(house: SimulatedHouse, way_out: Exit) -> None:
    """Several consumers, several assets, policies that change midway: every hold ends, nothing is lost or doubled."""
    consumers = await house.consumers(3)
    uniform = house.house.entropy.uniform
    done: list[Withdrawn] = []
    for turn in range(30):
        consumer = consumers[int(uniform(0, 3))]
        with suppress(InsufficientFunds):
            done.append(await way_out.withdraw(consumer, int(uniform(1, 30 * UNIT))))
        if turn == 15:
            house.chain.state.forbidden.add(DESTINATION)
        if turn == 20:
            house.chain.state.forbidden.discard(DESTINATION)
        await house.work()
    await house.work(10)
    states = [await way_out.state(one) for one in done]
    assert set(states) == {"COMPLETED", "FAILED"}
    paid = sum(one.recorded.transaction.micros for one, state in zip(done, states, strict=True) if state == "COMPLETED")
    assert way_out.paid_out() == paid
    assert await way_out.fees_earned() == FEE * states.count("COMPLETED")
    await house.house.prove_clean()
