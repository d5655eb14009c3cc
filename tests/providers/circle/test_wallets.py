"""Transfers and wallets at Circle, against the simulator: one effect for each key, whatever becomes of the answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.identity import OPERATOR
from domain.money import Asset, Money
from providers.base import Accepted, OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.circle import CircleRail
from providers.custodian import CustodyWallet, OrderState, TransferOrder, WalletTransfer, order_key
from tests.circle import CircleSandbox

from .conftest import CHAIN, CLOCK, ENTROPY, UNIT, Wire, consumer_wallet, order, ordered_again

TRANSFER = "/v1/w3s/developer/transactions/transfer"
ELSEWHERE = "0x" + "ab" * 20


async def complete(circle: CircleSandbox, rail: CircleRail, given: TransferOrder) -> None:
    assert isinstance(await rail.wallets.start(given), Accepted)
    circle.advance(60)
    assert (await rail.wallets.observe(given)).state is OrderState.COMPLETE


async def test_an_order_is_carried_out_and_observed_to_its_end(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    recipient = await consumer_wallet(rail)
    circle.freeze()
    given = order(operator_wallet, recipient.address, 1_234_567)
    accepted = await rail.wallets.start(given)
    assert isinstance(accepted, Accepted)
    assert (await rail.wallets.observe(given, accepted.reference)).state is OrderState.PENDING
    circle.advance(60)
    seen = await rail.wallets.observe(given, accepted.reference)
    assert (seen.state, seen.reference) == (OrderState.COMPLETE, accepted.reference)
    assert seen.transaction_hash
    assert (await rail.wallets.positions(recipient))[Asset.USDC] == 1_234_567


async def test_an_order_whose_answer_was_lost_is_found_by_its_item_and_key(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    """Money rule 4: executed, but no answer. Nothing but Circle's own records says that it happened."""
    recipient = await consumer_wallet(rail)
    circle.set_fault("silence", when="after", method="POST", path="transfer", seconds=4)
    given = order(operator_wallet, recipient.address)
    assert isinstance(await rail.wallets.start(given), OutcomeUnknown)
    found = await rail.wallets.observe(given)
    assert found.state is not OrderState.ABSENT
    again = await rail.wallets.start(given)
    assert again == Accepted(found.reference or ""), "the same key answers with what it did then"
    circle.advance(60)
    assert (await rail.wallets.positions(recipient))[Asset.USDC] == UNIT


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["error", "reset"])
async def test_an_error_or_a_cut_connection_leaves_the_outcome_unknown(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet, kind: str, when: str
) -> None:
    """Nobody can tell the two moments apart from here, so the answer is the same for both."""
    circle.set_fault(kind, when=when, method="POST", path="transfer")
    given = order(operator_wallet, ELSEWHERE)
    assert isinstance(await rail.wallets.start(given), OutcomeUnknown)
    expected = OrderState.ABSENT if when == "before" else OrderState.PENDING
    assert (await rail.wallets.observe(given)).state is expected


async def test_every_try_has_the_same_key_and_a_ciphertext_of_its_own(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet, wire: Wire
) -> None:
    """Circle refuses a ciphertext that it has seen, and executes a key once."""
    given = order(operator_wallet, ELSEWHERE)
    for _ in range(3):
        assert isinstance(await rail.wallets.start(given), Accepted)
    bodies = wire.bodies(TRANSFER)
    assert {body["idempotencyKey"] for body in bodies} == {str(given.key)}
    assert len({body["entitySecretCiphertext"] for body in bodies}) == 3
    assert {len(body["entitySecretCiphertext"]) for body in bodies} == {684}
    assert {body["amounts"][0] for body in bodies} == {"1"}


async def test_an_order_survives_a_restart_as_its_encoding(
    rail: CircleRail, operator_wallet: CustodyWallet, wire: Wire
) -> None:
    given = order(operator_wallet, ELSEWHERE)
    await rail.wallets.start(given)
    await rail.wallets.start(TransferOrder.decode(given.encode()))
    first, second = wire.bodies(TRANSFER)
    assert {**first, "entitySecretCiphertext": ""} == {**second, "entitySecretCiphertext": ""}


async def test_a_key_that_is_bound_to_another_order_is_no_verdict(
    rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    """Something was executed under it, and it is not known to be what is asked now."""
    given = order(operator_wallet, ELSEWHERE)
    await rail.wallets.start(given)
    other = order(operator_wallet, ELSEWHERE, 2 * UNIT)
    disguised = TransferOrder.decode(other.encode().replace(str(other.key).encode(), str(given.key).encode()))
    assert isinstance(await rail.wallets.start(disguised), OutcomeUnknown)


async def test_more_than_the_wallet_holds_is_refused(rail: CircleRail, operator_wallet: CustodyWallet) -> None:
    poor = await consumer_wallet(rail)
    outcome = await rail.wallets.start(order(poor, operator_wallet.address))
    assert isinstance(outcome, Rejected)
    assert not outcome.permanent


@pytest.mark.parametrize("end", ["FAILED", "DENIED"])
async def test_a_terminal_failure_is_final_and_the_item_can_be_ordered_again(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet, end: str
) -> None:
    """The second order is for the same item; each is found by its own key."""
    circle.set_outcome("transaction", end)
    given = order(operator_wallet, ELSEWHERE)
    await rail.wallets.start(given)
    circle.advance(60)
    seen = await rail.wallets.observe(given)
    assert (seen.state, seen.reason.split()[0]) == (OrderState.FAILED, end)
    again = ordered_again(given)
    assert (await rail.wallets.observe(again)).state is OrderState.ABSENT
    await complete(circle, rail, again)
    assert (await rail.wallets.observe(given)).state is OrderState.FAILED


async def test_a_stuck_transfer_is_pending_and_no_failure(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    circle.set_outcome("transaction", "STUCK")
    given = order(operator_wallet, ELSEWHERE)
    await rail.wallets.start(given)
    circle.advance(3_600)
    assert (await rail.wallets.observe(given)).state is OrderState.PENDING


async def test_a_transaction_that_does_not_say_what_was_ordered_is_never_booked(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    """A reference that was mixed up must not settle somebody else's item."""
    first, second = order(operator_wallet, ELSEWHERE), order(operator_wallet, ELSEWHERE, 2 * UNIT)
    accepted = await rail.wallets.start(first)
    assert isinstance(accepted, Accepted)
    circle.advance(60)
    assert (await rail.wallets.observe(second, accepted.reference)).state is OrderState.UNRECOGNISED


async def test_too_many_requests_are_to_be_made_again_when_circle_says(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    circle.set_fault("rate_limit", method="POST", path="transfer", retry_after=7)
    outcome = await rail.wallets.start(order(operator_wallet, ELSEWHERE))
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after.total_seconds() == 7


async def test_wallets_of_one_key_are_made_once(rail: CircleRail) -> None:
    """The answer may be lost; who asks again gets the same wallets."""
    key = order_key(ENTROPY)
    made = await rail.wallets.create_wallets(key=key, count=5, own=False)
    assert isinstance(made, list)
    assert len({wallet.address for wallet in made}) == 5
    assert await rail.wallets.create_wallets(key=key, count=5, own=False) == made


async def test_a_labelled_wallet_is_found_again(rail: CircleRail) -> None:
    """A restored database has forgotten whose wallet it was; Circle has not."""
    holder, wallet = ENTROPY.uuid7(), await consumer_wallet(rail)
    assert await rail.wallets.labelled(holder) is None
    await rail.wallets.label(wallet, holder)
    assert await rail.wallets.labelled(holder) == wallet


async def test_the_operators_wallet_is_the_one_that_people_made(
    rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    assert await rail.wallets.labelled(OPERATOR) == operator_wallet


async def incoming(rail: CircleRail) -> list[WalletTransfer]:
    """All that ever came in."""
    window = {"since": CLOCK.now() - timedelta(days=1), "until": CLOCK.now() + timedelta(days=1)}
    return [one for one in await rail.wallets.transfers(**window) if one.incoming]


async def test_what_came_from_outside_is_seen_with_its_amount(circle: CircleSandbox, rail: CircleRail) -> None:
    wallet = await consumer_wallet(rail)
    circle.send_tokens(wallet.address, "2.5", blockchain=CHAIN)
    circle.advance(60)
    [seen] = await incoming(rail)
    assert (seen.wallet_reference, seen.amount) == (wallet.reference, Money(Asset.USDC, 2_500_000))
    assert seen.item_id is None
    assert await rail.wallets.transfer(seen.reference) == seen


async def test_all_pages_of_a_list_are_read(circle: CircleSandbox, rail: CircleRail) -> None:
    """Circle shows fifty at a time and names the next page in a header."""
    wallet = await consumer_wallet(rail)
    for _ in range(60):
        circle.send_tokens(wallet.address, "1", blockchain=CHAIN)
    circle.advance(60)
    assert len({one.reference for one in await incoming(rail)}) == 60


async def test_a_wrong_key_is_an_alarm_and_no_verdict_on_the_order(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet
) -> None:
    circle.set_fault("error", method="POST", path="transfer", status=401, code=401)
    outcome = await rail.wallets.start(order(operator_wallet, ELSEWHERE))
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after.total_seconds() >= 60


async def test_reads_are_tried_again_and_then_say_nothing(circle: CircleSandbox, rail: CircleRail) -> None:
    wallet = await consumer_wallet(rail)
    circle.set_fault("error", method="GET", path="balances", times=2)
    assert await rail.wallets.positions(wallet) == {Asset.USDC: 0, Asset.EURC: 0}
    circle.set_fault("error", method="GET", path="balances", times=None)
    with pytest.raises(ProviderUnavailable):
        await rail.wallets.positions(wallet)


async def test_the_check_of_both_products_fails_with_either(circle: CircleSandbox, rail: CircleRail) -> None:
    assert not isinstance(await rail.check(), Retryable)
    for path in ("config/entity$", "configuration"):
        fault = circle.set_fault("error", method="GET", path=path, times=None)
        assert isinstance(await rail.check(), Retryable)
        circle.ask("DELETE", f"/faults/{fault}")
    assert not isinstance(await rail.check(), Retryable)
