"""Adjustments: nothing moves before a second operator agrees, and then it moves once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.adjustments import LASTS
from domain.identity import OPERATOR, OUTSIDE
from monay.wallet.v1 import operations_service_pb2 as operations
from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1.money_pb2 import Money
from sandbox.postgres import Postgres
from tests.books import DOLLAR

from .conftest import operator, refused, service
from .operators import CHECKER, MAKER, actions_on, acts_on
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob", usdc=10 * DOLLAR)


def of(who: Person | str) -> operations.Account:
    return operations.Account(system=who) if isinstance(who, str) else operations.Account(consumer_id=str(who.id))


def proposal(
    source: Person | str, target: Person | str, micros: int = DOLLAR, **fields: Any
) -> operations.ProposeAdjustmentRequest:
    request = operations.ProposeAdjustmentRequest(
        to=of(target),
        amount=Money(asset="USDC", micros=micros),
        **{"request_id": str(uuid.uuid4()), "reason": "lost in the mail", **fields},
    )
    getattr(request, "from").CopyFrom(of(source))
    return request


async def propose(
    town: Town, request: operations.ProposeAdjustmentRequest, *, by: Any = MAKER
) -> operations.ProposeAdjustmentResponse:
    answer: operations.ProposeAdjustmentResponse = await town.wallet.operations.ProposeAdjustment(request, metadata=by)
    return answer


def approval(adjustment: operations.Adjustment, **fields: Any) -> operations.ApproveAdjustmentRequest:
    return operations.ApproveAdjustmentRequest(
        adjustment_id=adjustment.id, **{"request_id": str(uuid.uuid4()), **fields}
    )


async def approve(
    town: Town, request: operations.ApproveAdjustmentRequest, *, by: Any = CHECKER
) -> operations.ApproveAdjustmentResponse:
    answer: operations.ApproveAdjustmentResponse = await town.wallet.operations.ApproveAdjustment(request, metadata=by)
    return answer


async def available(town: Town, person: Person) -> int:
    micros: int = (await town.balance(person)).available_micros
    return micros


async def booked(town: Town, adjustment: operations.Adjustment) -> int:
    """How many transactions stand for it."""
    rows = await town.books.execute("SELECT id FROM transactions WHERE reference = :id", id=adjustment.id)
    return len(rows)


async def items_of(town: Town, transaction_id: str) -> list[Any]:
    return await town.books.execute(
        "SELECT sender, recipient, asset, micros, state FROM settlement_items WHERE transaction_id = :id",
        id=uuid.UUID(transaction_id),
    )


async def test_a_proposal_moves_nothing(town: Town, ann: Person) -> None:
    answer = await propose(town, proposal("losses", ann))
    adjustment = answer.adjustment
    assert adjustment.state == operations.ADJUSTMENT_STATE_PROPOSED
    assert (adjustment.proposed_by, adjustment.approved_by, adjustment.transaction_id) == ("maria", "", "")
    assert adjustment.expire_time.ToDatetime() - adjustment.create_time.ToDatetime() == LASTS
    assert await available(town, ann) == 100 * DOLLAR
    assert await booked(town, adjustment) == 0


async def test_a_second_operator_books_it_and_the_rail_will_follow(town: Town, ann: Person) -> None:
    """What the operator owes a consumer now has to stand in the consumer's name on chain, so an item moves it there."""
    adjustment = (await propose(town, proposal("losses", ann, 3 * DOLLAR))).adjustment
    approved = (await approve(town, approval(adjustment))).adjustment
    assert approved.state == operations.ADJUSTMENT_STATE_APPROVED
    assert (approved.proposed_by, approved.approved_by) == ("maria", "chris")
    assert approved.HasField("approve_time")
    assert await available(town, ann) == 103 * DOLLAR
    assert await items_of(town, approved.transaction_id) == [(OPERATOR, ann.id, "USDC", 3 * DOLLAR, "PENDING")]
    assert await actions_on(town, adjustment.id) == ["adjustment.propose", "adjustment.approve"]
    propose_act, approve_act = await acts_on(town, adjustment.id)
    assert (propose_act.actor, approve_act.actor) == ("maria", "chris")
    assert approve_act.facts == {
        "from": "losses",
        "to": str(ann.id),
        "amount": "3.000000 USDC",
        "reason": "lost in the mail",
    }


async def test_the_consumer_sees_it_as_money_that_came_in(town: Town, ann: Person) -> None:
    adjustment = (await propose(town, proposal("losses", ann, 3 * DOLLAR))).adjustment
    transaction_id = (await approve(town, approval(adjustment))).adjustment.transaction_id
    request = transaction_pb2.GetTransactionRequest(transaction_id=transaction_id)
    shown = (await town.wallet.consumers.GetTransaction(request, metadata=ann.token)).transaction
    assert shown.kind == transaction_pb2.TRANSACTION_KIND_ADJUSTMENT
    assert shown.direction == transaction_pb2.DIRECTION_IN
    assert shown.amount.micros == 3 * DOLLAR


@pytest.mark.parametrize("source", ["losses", "treasury", "suspense", "escrow"])
async def test_from_a_consumer_to_the_operator_and_back_leaves_everything_as_it_was(
    town: Town, ann: Person, source: str
) -> None:
    for one, other in ((ann, source), (source, ann)):
        adjustment = (await propose(town, proposal(one, other))).adjustment
        await approve(town, approval(adjustment))
    assert await available(town, ann) == 100 * DOLLAR


async def test_between_consumers_it_settles_like_a_transfer(town: Town, ann: Person, bob: Person) -> None:
    """No limit and no fee: it is the operators' decision, not the consumer's."""
    adjustment = (await propose(town, proposal(ann, bob, 50 * DOLLAR))).adjustment
    approved = (await approve(town, approval(adjustment))).adjustment
    assert (await available(town, ann), await available(town, bob)) == (50 * DOLLAR, 60 * DOLLAR)
    assert await items_of(town, approved.transaction_id) == [(ann.id, bob.id, "USDC", 50 * DOLLAR, "PENDING")]


async def test_a_fee_taken_afterwards_waits_in_the_consumers_position_like_any_other(town: Town, ann: Person) -> None:
    adjustment = (await propose(town, proposal(ann, "fees", 100))).adjustment
    approved = (await approve(town, approval(adjustment))).adjustment
    assert await items_of(town, approved.transaction_id) == []
    rows = await town.books.execute(
        "SELECT unswept_fee_micros FROM stablecoin_balances WHERE consumer_id = :id AND asset = 'USDC'", id=ann.id
    )
    assert rows == [(100,)]


async def test_who_proposed_cannot_approve(town: Town, ann: Person) -> None:
    """It takes two, and a name in other letters is no other person."""
    adjustment = (await propose(town, proposal("losses", ann))).adjustment
    for same in (MAKER, operator("Maria")):
        refusal = await refused(approve(town, approval(adjustment), by=same))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SAME_OPERATOR")
    assert await available(town, ann) == 100 * DOLLAR
    assert await booked(town, adjustment) == 0
    assert await actions_on(town, adjustment.id) == ["adjustment.propose"]


async def test_the_database_does_not_take_one_name_twice_either(town: Town, ann: Person) -> None:
    adjustment = (await propose(town, proposal("losses", ann))).adjustment
    with pytest.raises(Exception, match="adjustments_two_operators_check"):
        await town.books.execute(
            "UPDATE adjustments SET approved_by = proposed_by WHERE id = :id", id=uuid.UUID(adjustment.id)
        )


async def test_it_is_booked_once_however_many_approve(town: Town, ann: Person) -> None:
    adjustment = (await propose(town, proposal("losses", ann))).adjustment
    names = [operator(f"checker{number}") for number in range(6)]
    answers = await asyncio.gather(
        *(approve(town, approval(adjustment), by=name) for name in names), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert await booked(town, adjustment) == 1
    assert await available(town, ann) == 101 * DOLLAR
    refusal = await refused(approve(town, approval(adjustment)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ADJUSTMENT_CLOSED")
    assert refusal.metadata == {"state": "APPROVED"}


async def test_the_same_request_ids_answer_the_same(town: Town, ann: Person) -> None:
    request = proposal("losses", ann)
    first = await propose(town, request)
    again = await propose(town, request)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.adjustment == first.adjustment
    yes = approval(first.adjustment)
    done, repeated = await approve(town, yes), await approve(town, yes)
    assert (done.replayed, repeated.replayed) == (False, True)
    assert repeated.adjustment == done.adjustment
    assert await available(town, ann) == 101 * DOLLAR


async def test_a_request_id_used_for_something_else_is_refused(town: Town, ann: Person) -> None:
    request = proposal("losses", ann)
    adjustment = (await propose(town, request)).adjustment
    other = proposal("losses", ann, 2 * DOLLAR, request_id=request.request_id)
    assert (await refused(propose(town, other))).reason == "IDEMPOTENCY_KEY_REUSED"
    mixed = approval(adjustment, request_id=request.request_id)
    assert (await refused(approve(town, mixed, by=MAKER))).reason == "IDEMPOTENCY_KEY_REUSED"
    # Somebody else's ids are somebody else's.
    assert not (await approve(town, mixed, by=CHECKER)).replayed


async def test_a_proposal_expires_after_seven_days(town: Town, ann: Person) -> None:
    adjustment = (await propose(town, proposal("losses", ann))).adjustment
    await town.books.execute(
        "UPDATE adjustments SET created_at = created_at - :lasts, expires_at = expires_at - :lasts WHERE id = :id",
        lasts=LASTS,
        id=uuid.UUID(adjustment.id),
    )
    refusal = await refused(approve(town, approval(adjustment)))
    assert (refusal.reason, refusal.metadata) == ("ADJUSTMENT_CLOSED", {"state": "EXPIRED"})
    assert await available(town, ann) == 100 * DOLLAR


async def test_funds_are_judged_when_it_is_proposed_and_again_when_it_is_booked(
    town: Town, ann: Person, bob: Person
) -> None:
    refusal = await refused(propose(town, proposal(ann, "treasury", 101 * DOLLAR)))
    assert refusal.reason == "INSUFFICIENT_FUNDS"
    assert refusal.metadata["available_micros"] == str(100 * DOLLAR)
    adjustment = (await propose(town, proposal(ann, "treasury", 100 * DOLLAR))).adjustment
    await town.pay(ann, bob, 50 * DOLLAR)
    left = await available(town, ann)
    assert (await refused(approve(town, approval(adjustment)))).reason == "INSUFFICIENT_FUNDS"
    assert await available(town, ann) == left
    assert await booked(town, adjustment) == 0


async def test_an_adjustment_that_is_not_there_is_not_approved(town: Town) -> None:
    nothing = operations.Adjustment(id=str(uuid.uuid4()))
    assert (await refused(approve(town, approval(nothing)))).reason == "ADJUSTMENT_NOT_FOUND"


async def test_who_is_no_consumer_has_no_account(town: Town) -> None:
    for nobody in (uuid.uuid4(), OPERATOR):
        request = proposal("losses", "treasury")
        request.to.CopyFrom(operations.Account(consumer_id=str(nobody)))
        assert (await refused(propose(town, request))).reason == "CONSUMER_NOT_FOUND"


async def test_from_an_account_to_itself_is_no_posting(town: Town, ann: Person) -> None:
    for account in (ann, "treasury"):
        assert (await refused(propose(town, proposal(account, account)))).reason == "VALIDATION_FAILED"


async def test_validate_only_answers_what_the_call_would_and_writes_nothing(town: Town, ann: Person) -> None:
    request = proposal("losses", ann, validate_only=True)
    assert (await propose(town, request)).adjustment.state == operations.ADJUSTMENT_STATE_PROPOSED
    assert await town.books.execute("SELECT id FROM adjustments WHERE target_owner = :id", id=ann.id) == []
    too_much = proposal(ann, "losses", 1_000 * DOLLAR, validate_only=True)
    assert (await refused(propose(town, too_much))).reason == "INSUFFICIENT_FUNDS"

    adjustment = (await propose(town, proposal("losses", ann))).adjustment
    would = await approve(town, approval(adjustment, validate_only=True))
    assert would.adjustment.state == operations.ADJUSTMENT_STATE_APPROVED
    same = approval(adjustment, validate_only=True)
    assert (await refused(approve(town, same, by=MAKER))).reason == "SAME_OPERATOR"
    assert await booked(town, adjustment) == 0
    assert await available(town, ann) == 100 * DOLLAR


# --- in place of an item ----------------------------------------------------------------------------------------------


async def item_between(town: Town, sender: Person, recipient: Person, state: str = "BLOCKED") -> uuid.UUID:
    paid = await town.pay(sender, recipient, DOLLAR)
    rows = await town.books.execute(
        "UPDATE settlement_items SET state = :state WHERE transaction_id = :id RETURNING id",
        state=state,
        id=uuid.UUID(paid.transaction.id),
    )
    item_id: uuid.UUID = rows[0][0]
    return item_id


async def state_of(town: Town, item_id: uuid.UUID) -> str:
    rows = await town.books.execute("SELECT state FROM settlement_items WHERE id = :id", id=item_id)
    state: str = rows[0][0]
    return state


async def test_an_adjustment_takes_the_place_of_an_item_that_cannot_go_on(town: Town, ann: Person, bob: Person) -> None:
    """The refund and the end of the item are one commit: the money is never both given back and still on its way."""
    item_id = await item_between(town, ann, bob)
    before = await available(town, ann)
    adjustment = (await propose(town, proposal(bob, ann, cancel_item_id=str(item_id)))).adjustment
    assert await state_of(town, item_id) == "BLOCKED"
    approved = (await approve(town, approval(adjustment))).adjustment
    assert await state_of(town, item_id) == "CANCELLED"
    assert await available(town, ann) == before + DOLLAR
    assert await items_of(town, approved.transaction_id) == []


async def test_the_other_direction_or_another_amount_would_undo_nothing(town: Town, ann: Person, bob: Person) -> None:
    item_id = await item_between(town, ann, bob)
    for wrong in (proposal(ann, bob), proposal(bob, ann, 2 * DOLLAR), proposal("losses", ann)):
        wrong.cancel_item_id = str(item_id)
        assert (await refused(propose(town, wrong))).reason == "VALIDATION_FAILED"
    assert await state_of(town, item_id) == "BLOCKED"


@pytest.mark.parametrize("state", ["SIGNED", "BROADCAST", "INDETERMINATE", "CLAIMED", "CONFIRMED"])
async def test_rule_1_an_item_that_may_still_land_cannot_be_replaced(
    town: Town, ann: Person, bob: Person, state: str
) -> None:
    """Neither when it is proposed nor, if it went on meanwhile, when it is approved."""
    rested = await item_between(town, ann, bob)
    adjustment = (await propose(town, proposal(bob, ann, cancel_item_id=str(rested)))).adjustment
    await town.books.execute("UPDATE settlement_items SET state = :state WHERE id = :id", state=state, id=rested)
    balance = await available(town, ann)
    for call in (
        approve(town, approval(adjustment)),
        propose(town, proposal(bob, ann, cancel_item_id=str(rested))),
    ):
        refusal = await refused(call)
        assert refusal.reason == "SETTLEMENT_NOT_RETRYABLE"
        assert refusal.metadata["state"] == state
    assert await state_of(town, rested) == state
    assert await available(town, ann) == balance
    await town.books.execute("UPDATE settlement_items SET state = 'PENDING' WHERE id = :id", id=rested)


async def test_a_withdrawals_item_is_ended_by_its_withdrawal(town: Town, ann: Person, bob: Person) -> None:
    item_id = await item_between(town, ann, bob)
    await town.books.execute("UPDATE settlement_items SET recipient = :out WHERE id = :id", out=OUTSIDE, id=item_id)
    refusal = await refused(propose(town, proposal("treasury", ann, cancel_item_id=str(item_id))))
    assert refusal.metadata == {"state": "BLOCKED", "cause": "part_of_withdrawal"}
    await town.books.execute("UPDATE settlement_items SET recipient = :bob WHERE id = :id", bob=bob.id, id=item_id)


async def test_an_item_that_is_not_there_cannot_be_replaced(town: Town, ann: Person) -> None:
    request = proposal("losses", ann, cancel_item_id=str(uuid.uuid4()))
    assert (await refused(propose(town, request))).reason == "SETTLEMENT_NOT_FOUND"


async def test_adjustments_are_for_operators(town: Town, ann: Person) -> None:
    for token in (ann.token, service(), operator("reader", scope="operations:read")):
        refusal = await refused(propose(town, proposal("losses", ann), by=token))
        assert refusal.reason in {"CALLER_NOT_ALLOWED", "SCOPE_MISSING"}
