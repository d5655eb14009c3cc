"""The bank rail at Circle Mint, against the simulator."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.bank_accounts import BankDetails
from domain.money import Asset, Money
from providers.base import Accepted, OutcomeUnknown, Rejected
from providers.circle import CircleRail
from providers.circle.mint import CircleMint
from providers.custodian import BankLinkOrder, LinkedBank, LinkState, OrderState, PayoutOrder, order_key
from tests.circle import CircleSandbox

from .conftest import CLOCK, ENTROPY, UNIT, Wire

AMERICAN = BankDetails(
    holder_name="Ada Lovelace",
    bank_name="A Bank With a Name That Is Longer Than Circle Keeps",
    line1="1 Main Street",
    line2="",
    city="Boston",
    district="MA",
    postal_code="01234",
    country="US",
    account_number="12340010",
    routing_number="121000248",
)
EUROPEAN = BankDetails(
    holder_name="Ada Lovelace",
    bank_name="Eine Bank",
    line1="Hauptstraße 1",
    line2="Hinterhaus",
    city="Berlin",
    district="",
    postal_code="10115",
    country="DE",
    iban="DE89370400440532013000",
)


@pytest.fixture
def mint(rail: CircleRail) -> CircleMint:
    assert rail.mint is not None
    return rail.mint


async def linked(mint: CircleMint, circle: CircleSandbox, details: BankDetails = AMERICAN) -> LinkedBank:
    made = await mint.link(BankLinkOrder(key=order_key(ENTROPY), details=details))
    assert isinstance(made, LinkedBank), made
    circle.advance(60)
    found = await mint.linked_bank(made.reference)
    assert found is not None
    return found


def payout(bank: LinkedBank, micros: int = 10 * UNIT) -> PayoutOrder:
    return PayoutOrder(
        key=order_key(ENTROPY),
        amount=Money(Asset.USDC, micros),
        bank_reference=bank.reference,
        ordered_at=CLOCK.now(),
    )


@pytest.mark.parametrize("details", [AMERICAN, EUROPEAN], ids=["by number", "by IBAN"])
async def test_a_bank_account_is_linked_and_says_how_wires_reach_us(
    circle: CircleSandbox, mint: CircleMint, details: BankDetails
) -> None:
    bank = await linked(mint, circle, details)
    assert bank.state is LinkState.ACTIVE
    told = await mint.instructions(bank.reference, Asset.USDC)
    assert told.tracking_reference == bank.tracking_reference != ""
    assert told.account_number


async def test_a_link_asked_for_twice_is_one_account(mint: CircleMint) -> None:
    given = BankLinkOrder(key=order_key(ENTROPY), details=AMERICAN)
    first, second = await mint.link(given), await mint.link(given)
    assert isinstance(first, LinkedBank) and isinstance(second, LinkedBank)
    assert first.reference == second.reference


async def test_a_wire_becomes_a_deposit_with_the_reference_of_its_bank(circle: CircleSandbox, mint: CircleMint) -> None:
    bank = await linked(mint, circle)
    before = (await mint.positions())[Asset.USDC]
    circle.send_wire(bank.reference, "25.50")
    circle.advance(3_600)
    window = {"since": CLOCK.now() - timedelta(hours=1), "until": CLOCK.now() + timedelta(days=1)}
    [deposit] = await mint.deposits(**window)
    assert (deposit.state, deposit.amount) == (OrderState.COMPLETE, Money(Asset.USDC, 25_500_000))
    assert deposit.tracking_reference == bank.tracking_reference
    assert await mint.deposit(deposit.reference) == deposit
    assert (await mint.positions())[Asset.USDC] == before + 25_500_000


async def test_a_mock_wire_arrives_like_another(circle: CircleSandbox, rail: CircleRail, mint: CircleMint) -> None:
    bank = await linked(mint, circle)
    told = await mint.instructions(bank.reference, Asset.USDC)
    assert rail.mock_wires is not None
    await rail.mock_wires.send(
        Money(Asset.USDC, 5 * UNIT),
        tracking_reference=told.tracking_reference,
        account_number=told.account_number,
    )
    circle.advance(3_600)
    window = {"since": CLOCK.now() - timedelta(hours=1), "until": CLOCK.now() + timedelta(days=1)}
    assert [one.amount.micros for one in await mint.deposits(**window)] == [5 * UNIT]


async def test_a_payout_is_made_once_for_its_key_and_followed_to_its_end(
    circle: CircleSandbox, mint: CircleMint
) -> None:
    bank = await linked(mint, circle)
    before = (await mint.positions())[Asset.USDC]
    given = payout(bank)
    first, second = await mint.start_payout(given), await mint.start_payout(PayoutOrder.decode(given.encode()))
    assert isinstance(first, Accepted) and first == second
    circle.advance(60)
    found = await mint.payout(first.reference)
    assert found is not None
    assert (found.state, found.bank_reference, found.amount) == (OrderState.COMPLETE, bank.reference, given.amount)
    assert (await mint.positions())[Asset.USDC] == before - 10 * UNIT


async def test_a_payout_whose_answer_was_lost_is_in_the_list(circle: CircleSandbox, mint: CircleMint) -> None:
    """Payouts carry no reference of ours; bank, amount and time are all there is to recognise one by."""
    bank = await linked(mint, circle)
    circle.set_fault("reset", when="after", method="POST", path="payouts")
    given = payout(bank)
    assert isinstance(await mint.start_payout(given), OutcomeUnknown)
    window = {"since": CLOCK.now() - timedelta(hours=1), "until": CLOCK.now() + timedelta(days=1)}
    [found] = await mint.payouts(**window)
    assert (found.bank_reference, found.amount) == (bank.reference, given.amount)
    assert await mint.start_payout(given) == Accepted(found.reference)


async def test_a_complete_payout_can_come_back(circle: CircleSandbox, mint: CircleMint) -> None:
    bank = await linked(mint, circle)
    accepted = await mint.start_payout(payout(bank))
    assert isinstance(accepted, Accepted)
    circle.advance(60)
    circle.return_payout(accepted.reference, fee="1.00")
    circle.advance(60)
    found = await mint.payout(accepted.reference)
    assert found is not None and found.returned is not None
    assert found.returned.state is OrderState.COMPLETE
    assert found.returned.fee == Money(Asset.USDC, UNIT)
    assert found.returned.reference != found.reference


async def test_a_failed_payout_says_why(circle: CircleSandbox, mint: CircleMint) -> None:
    """6.53 fails in Circle's own sandbox, too."""
    bank = await linked(mint, circle)
    accepted = await mint.start_payout(payout(bank, 6_530_000))
    assert isinstance(accepted, Accepted)
    circle.advance(60)
    found = await mint.payout(accepted.reference)
    assert found is not None
    assert (found.state, found.reason) == (OrderState.FAILED, "transaction_failed")


async def test_a_part_of_a_cent_is_refused_before_anything_is_sent(
    circle: CircleSandbox, mint: CircleMint, wire: Wire
) -> None:
    """Banks know cents; rounding would leave a difference that nobody owns."""
    bank = await linked(mint, circle)
    outcome = await mint.start_payout(payout(bank, UNIT + 1))
    assert isinstance(outcome, Rejected) and outcome.permanent
    assert wire.bodies("/v1/businessAccount/payouts") == []


async def test_what_does_not_exist_is_none(mint: CircleMint) -> None:
    unknown = str(ENTROPY.uuid7())
    assert await mint.payout(unknown) is None
    assert await mint.deposit(unknown) is None
    assert await mint.linked_bank(unknown) is None
