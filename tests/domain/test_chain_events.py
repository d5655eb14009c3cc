"""What a finalized transfer log means for the books."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from domain.chain_events import Expected, Meaning, Transfer, meaning
from domain.identity import FEE_PAYER, OPERATOR, OUTSIDE, ItemId
from domain.money import MAX_MICROS, Asset
from domain.settlement import FINAL, IN_FLIGHT, Candidate, ItemState

ANN, BOB, NOBODY_YET = UUID(int=1_001), UUID(int=1_002), UUID(int=1_003)
BOBS_ADDRESS, STRANGER = "0x" + "b0" * 20, "0x" + "5a" * 20
HASH = "0x" + "11" * 32

PAYMENT = Transfer(Asset.USDC, 5, HASH, ANN, BOB, BOBS_ADDRESS, recipient_assigned=True)
ITEM = Expected(Candidate(ItemId(UUID(int=7)), ANN, BOB, Asset.USDC, 5), ItemState.BROADCAST, frozenset({HASH}))


@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
def test_rule_12_a_log_that_matches_its_item_in_everything_settles_it(state: ItemState) -> None:
    """Also one that was INDETERMINATE: a late landing is a landing."""
    assert meaning(PAYMENT, replace(ITEM, state=state)) is Meaning.SETTLEMENT


@pytest.mark.parametrize(
    "transfer",
    [
        replace(PAYMENT, asset=Asset.USDT),
        replace(PAYMENT, micros=6),
        replace(PAYMENT, sender=BOB, recipient=ANN),
        replace(PAYMENT, recipient=NOBODY_YET),
        replace(PAYMENT, transaction_hash="0x" + "22" * 32),
    ],
)
def test_rule_12_a_log_that_differs_in_anything_settles_nothing(transfer: Transfer) -> None:
    """Token, amount, ends and hash: a memo alone can be written by anybody."""
    assert meaning(transfer, ITEM) is Meaning.BREAK


@pytest.mark.parametrize("state", sorted(set(ItemState) - IN_FLIGHT))
def test_rule_12_an_item_that_is_not_in_flight_is_not_settled(state: ItemState) -> None:
    """A confirmed item is not confirmed again, and one that was never signed cannot have landed."""
    assert meaning(PAYMENT, replace(ITEM, state=state)) is Meaning.BREAK
    assert state in FINAL or state in (ItemState.PENDING, ItemState.CLAIMED, ItemState.BLOCKED)


def test_rule_12_a_withdrawal_settles_at_its_very_address() -> None:
    """Outside there are no holders, only the address that was named."""
    candidate = Candidate(ItemId(UUID(int=7)), ANN, OUTSIDE, Asset.USDC, 5, destination=STRANGER)
    leaving = replace(PAYMENT, recipient=None, recipient_address=STRANGER, recipient_assigned=False)
    expected = replace(ITEM, candidate=candidate)
    assert meaning(leaving, expected) is Meaning.SETTLEMENT
    assert meaning(replace(leaving, recipient_address="0x" + "66" * 20), expected) is Meaning.BREAK


def test_rule_13_money_from_outside_is_a_deposit() -> None:
    """Announced or not."""
    assert meaning(replace(PAYMENT, sender=None), None) is Meaning.DEPOSIT


def test_rule_13_money_from_outside_with_the_memo_of_an_item_is_a_deposit_all_the_same() -> None:
    """Anybody can copy a memo from the chain; it must neither settle the item nor be lost."""
    assert meaning(replace(PAYMENT, sender=None), ITEM) is Meaning.DEPOSIT


def test_rule_13_money_for_an_address_nobody_has_yet_goes_to_suspense() -> None:
    """All derived addresses are watched."""
    unassigned = replace(PAYMENT, sender=None, recipient=NOBODY_YET, recipient_assigned=False)
    assert meaning(unassigned, None) is Meaning.SUSPENSE


def test_rule_13_money_that_moves_between_ours_without_an_item_is_a_break() -> None:
    """Calling it a deposit would make money."""
    assert meaning(PAYMENT, None) is Meaning.BREAK
    assert meaning(replace(PAYMENT, recipient=None, recipient_assigned=False), None) is Meaning.BREAK
    assert meaning(replace(PAYMENT, sender=OPERATOR), None) is Meaning.BREAK


@pytest.mark.parametrize("own", [OPERATOR, FEE_PAYER])
def test_rule_17_the_float_grows_and_shrinks_by_what_the_chain_shows(own: UUID) -> None:
    """Somebody with the operator's key may fill or empty it by hand; the books follow."""
    assert meaning(replace(PAYMENT, sender=None, recipient=own), None) is Meaning.FLOAT_IN
    assert meaning(replace(PAYMENT, sender=own, recipient=None), None) is Meaning.FLOAT_OUT
    assert meaning(replace(PAYMENT, sender=own, recipient=OPERATOR), None) is Meaning.FLOAT_OUT


def test_strangers_business_is_none_of_ours() -> None:
    """Nor is a transfer of nothing, with which anybody could fill the list of breaks."""
    assert meaning(replace(PAYMENT, sender=None, recipient=None), None) is Meaning.FOREIGN
    assert meaning(replace(PAYMENT, micros=0), None) is Meaning.FOREIGN
    assert meaning(replace(PAYMENT, micros=0, sender=None), None) is Meaning.FOREIGN


def test_an_amount_that_no_balance_can_hold_is_a_break() -> None:
    """Booked as a deposit it would be refused for ever, and the watcher would stand still."""
    assert meaning(replace(PAYMENT, sender=None, micros=MAX_MICROS), None) is Meaning.BREAK
