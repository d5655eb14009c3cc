"""The bank rail end to end against the Circle simulator over HTTP: the real adapter, and no webhook ever arrives.

The simulator's clock stands still and is moved together with the house's, so that every step can be looked at.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.identity import ConsumerId
from providers.circle import CircleConfig, CircleRail, EventRules, Rates, connect, known_tokens
from providers.circle.mint import CircleMint
from storage.sealing import KeyRing, new_key_file
from tests.books import audit
from tests.circle import API_KEY, ENTITY_ID, ENTITY_SECRET, MINT_API_KEY, CircleSandbox
from tests.workers.bank_branch import Branch
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse

DOLLAR = UNIT
PAYOUTS = "/v1/businessAccount/payouts"


class CircleBranch(Branch[CircleMint]):
    """A branch whose bank is Circle."""

    circle: CircleSandbox

    async def round(self, *, seconds: float = 0.0, woken: bool = True) -> None:
        self.circle.advance(seconds)
        await super().round(seconds=seconds, woken=woken)

    async def wire(self, consumer: ConsumerId, amount: str) -> None:
        """Somebody pays in by the instructions they were given, and the money takes its time."""
        told = (await self.announce(consumer)).instructions
        order = {"tracking_ref": told["reference"], "amount": amount}
        self.circle.ask("POST", "/wires/incoming", order)

    async def ended(self) -> list[str]:
        """Time passes until nothing is under way, and how every payout stands then."""
        await self.round(seconds=5)
        await self.round(seconds=5)
        return [one.state for one in await self.payouts()]

    def posted(self) -> int:
        """How many payouts were ordered, whatever became of them."""
        return sum(one["method"] == "POST" for one in self.circle.requests(PAYOUTS))

    def paid(self) -> list[dict[str, Any]]:
        """The payouts that Circle has."""
        with self.circle.mint() as client:
            found: list[dict[str, Any]] = client.get(PAYOUTS).json()["data"]
        return found


@pytest.fixture
async def mint(circle: CircleSandbox) -> AsyncIterator[CircleRail]:
    circle.configure(rate_limits=False)
    circle.freeze()
    config = CircleConfig(
        wallets_url=circle.url,
        mint_url=circle.url,
        api_key=API_KEY,
        entity_secret=bytes.fromhex(ENTITY_SECRET),
        mint_api_key=MINT_API_KEY,
        wallet_set=circle.wallet_set_id,
        chain="ARC-TESTNET",
        tokens=known_tokens("ARC-TESTNET"),
        request_timeout=timedelta(seconds=1),
        rates=Rates(reads=1_000, writes=1_000),
        events=EventRules(entity_id=ENTITY_ID, certificate_hosts=frozenset()),
    )
    rail = connect(config, clock=SystemClock())
    yield rail
    await rail.close()


@pytest.fixture
async def branch(
    house: SimulatedHouse, circle: CircleSandbox, mint: CircleRail, tmp_path: Path
) -> AsyncIterator[CircleBranch]:
    house.clock.advance((datetime.now(UTC) - house.clock.now()).total_seconds())
    await house.block()
    keys = tmp_path / "sealing.json"
    keys.write_text(new_key_file(house.house.entropy, name="tests"))
    assert mint.mint is not None
    branch = CircleBranch(house, mint.mint, KeyRing.read(keys, entropy=house.house.entropy))
    branch.circle = circle
    yield branch
    await audit(house.house.engine)


@pytest.fixture
async def ann(branch: CircleBranch) -> tuple[ConsumerId, uuid.UUID]:
    """A consumer with a hundred dollars and a linked account."""
    [ann] = await branch.simulated.consumers(1)
    return ann, await branch.linked(ann)


Customer = tuple[ConsumerId, uuid.UUID]


async def test_a_link_becomes_a_wire_account_at_circle_and_its_number_stays_there(
    branch: CircleBranch, ann: Customer
) -> None:
    """Linked, verified, and its instructions kept: with a virtual account number of the consumer's own."""
    consumer, account = ann
    assert await branch.state_of(account) == "ACTIVE"
    told = (await branch.announce(consumer)).instructions
    assert told["beneficiary_name"] == "CIRCLE INTERNET FINANCIAL INC"
    assert str(told["reference"]).startswith("CIR")
    assert told["account_number"] != "12340010"
    await branch.house.prove_clean()


async def test_a_wire_is_credited_when_it_is_complete_and_settles_on_tempo(branch: CircleBranch, ann: Customer) -> None:
    """Ledger, position at Circle and Circle's own balance agree at every step."""
    consumer, _ = ann
    await branch.wire(consumer, "250.50")
    await branch.round(seconds=2.5)
    assert [one.state for one in await branch.deposits()] == ["PENDING"]
    assert await branch.balance(consumer) == (100 * DOLLAR, 0)
    await branch.round(seconds=2)
    assert await branch.balance(consumer) == (350_500_000, 0)
    await branch.house.prove_clean()
    await branch.simulated.work(2)
    position = await branch.house.position(consumer)
    assert position is not None
    assert position.micros == 350_500_000
    await branch.house.prove_clean()


async def test_a_payout_is_paid_and_posted(branch: CircleBranch, ann: Customer) -> None:
    """What Circle takes for it is the operator's expense, and Circle's balance is what the books say."""
    consumer, account = ann
    branch.circle.configure(payout_fee="0.50")
    float_before, _ = await branch.standing()
    withdrawn = await branch.withdraw(consumer, account, 40 * DOLLAR)
    await branch.round()
    assert await branch.state(withdrawn) == "HELD"
    await branch.house.prove_clean()
    assert await branch.ended() == ["COMPLETED"]
    assert await branch.state(withdrawn) == "COMPLETED"
    assert await branch.balance(consumer) == (60 * DOLLAR - FEE, 0)
    assert await branch.standing() == (float_before - 40_500_000, 0)
    await branch.simulated.work(2)
    await branch.house.prove_clean()


@pytest.mark.parametrize(("micros", "reason"), [(6_370_000, "transaction_returned"), (6_530_000, "transaction_failed")])
async def test_a_payout_that_fails_is_given_back(branch: CircleBranch, ann: Customer, micros: int, reason: str) -> None:
    """Circle's own magic amounts."""
    consumer, account = ann
    withdrawn = await branch.withdraw(consumer, account, micros)
    await branch.round()
    assert await branch.ended() == ["FAILED"]
    assert await branch.state(withdrawn) == "FAILED"
    assert await branch.balance(consumer) == (100 * DOLLAR, 0)
    [payout] = await branch.payouts()
    assert payout.reason == reason
    await branch.house.prove_clean()


async def test_a_payout_that_comes_back_is_reversed(branch: CircleBranch, ann: Customer) -> None:
    """Days after it was complete, less what the bank kept, which is the operator's to bear."""
    consumer, account = ann
    withdrawn = await branch.withdraw(consumer, account, 40 * DOLLAR)
    await branch.round()
    assert await branch.ended() == ["COMPLETED"]
    await branch.round(seconds=timedelta(days=2).total_seconds())
    branch.circle.return_payout(branch.paid()[0]["id"], fee="25.00")
    await branch.round()
    assert await branch.state(withdrawn) == "COMPLETED", "announced is not back"
    assert await branch.ended() == ["RETURNED"]
    assert await branch.state(withdrawn) == "RETURNED"
    assert await branch.balance(consumer) == (100 * DOLLAR - FEE, 0)
    await branch.simulated.work(2)
    await branch.house.prove_clean()


@pytest.mark.parametrize("fault", ["silence", "reset", "error"])
async def test_rule_4_executed_but_not_answered_is_paid_once(branch: CircleBranch, ann: Customer, fault: str) -> None:
    """The request was carried out; then silence, a cut connection, or an error of the server's."""
    consumer, account = ann
    branch.circle.set_fault(fault, when="after", method="POST", path="businessAccount/payouts")
    withdrawn = await branch.withdraw(consumer, account, 40 * DOLLAR)
    await branch.round()
    assert [one.state for one in await branch.payouts()] == ["STARTED"]
    await branch.house.prove_clean()
    await branch.round(seconds=60)
    assert await branch.ended() == ["COMPLETED"]
    assert (len(branch.paid()), branch.posted()) == (1, 1), "it was found, and not ordered again"
    assert await branch.state(withdrawn) == "COMPLETED"
    await branch.house.prove_clean()


async def test_rule_4_an_order_that_never_arrived_is_sent_again_with_its_key(
    branch: CircleBranch, ann: Customer
) -> None:
    """An error before the effect looks the same from here."""
    consumer, account = ann
    branch.circle.set_fault("reset", when="before", method="POST", path="businessAccount/payouts")
    withdrawn = await branch.withdraw(consumer, account, 40 * DOLLAR)
    await branch.round()
    await branch.round(seconds=60)
    assert await branch.ended() == ["COMPLETED"]
    assert len(branch.paid()) == 1
    assert await branch.state(withdrawn) == "COMPLETED"
    await branch.house.prove_clean()


async def test_an_outage_of_circle_costs_time_and_nothing_else(branch: CircleBranch, ann: Customer) -> None:
    """An hour in which nothing is answered and no event is told: a wire comes in, a payout is asked for."""
    consumer, account = ann
    await branch.wire(consumer, "10.00")
    branch.circle.set_fault("error", when="before", times=None)
    withdrawn = await branch.withdraw(consumer, account, 40 * DOLLAR)
    await branch.round(seconds=3600)
    assert await branch.balance(consumer) == (60 * DOLLAR - FEE, 40 * DOLLAR + FEE)
    branch.circle.clear_faults()
    await branch.round(seconds=600)
    assert await branch.ended() == ["COMPLETED"]
    assert await branch.state(withdrawn) == "COMPLETED"
    assert await branch.balance(consumer) == (70 * DOLLAR - FEE, 0)
    await branch.house.prove_clean()
