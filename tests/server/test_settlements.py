"""Settlements as operators see them: what is not final, why, and another turn for what may have one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from sqlalchemy import insert

from domain.identity import OPERATOR, OUTSIDE
from domain.settlement import AttemptState, ItemState
from monay.wallet.v1 import operations_service_pb2 as operations
from monay.wallet.v1 import transaction_pb2
from sandbox.postgres import Postgres
from storage import provider_health
from storage.provider_health import ProviderHealthRow
from storage.schema import attempt_items, settlement_attempts
from tests.books import DOLLAR, ENTROPY

from .conftest import refused, service
from .operators import MAKER, actions_on, acts_on
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
    return await town.settle_in("bob")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def clean(town: Town) -> AsyncIterator[None]:
    """Whatever a test wrote into items by hand is gone before the books are audited."""
    yield
    await town.books.execute("DELETE FROM attempt_items")
    await town.books.execute("DELETE FROM settlement_attempts")
    await town.books.execute(
        "UPDATE settlement_items SET state = 'PENDING', attempt_id = NULL, failures = 0, not_before = NULL"
    )


async def item_of(town: Town, sender: Person, recipient: Person, **columns: Any) -> uuid.UUID:
    """A transfer's item, brought by hand to where the workers would have brought it."""
    paid = await town.pay(sender, recipient, DOLLAR)
    rows = await town.books.execute(
        "SELECT id FROM settlement_items WHERE transaction_id = :id", id=uuid.UUID(paid.transaction.id)
    )
    item_id: uuid.UUID = rows[0][0]
    for name, value in columns.items():
        await town.books.execute(f"UPDATE settlement_items SET {name} = :value WHERE id = :id", value=value, id=item_id)
    return item_id


async def attempt_for(town: Town, item_id: uuid.UUID, state: AttemptState, *, error: str = "") -> uuid.UUID:
    """A signed attempt of an item."""
    attempt_id = ENTROPY.uuid7()
    now = datetime.now(UTC)
    async with town.books.engine.begin() as tx:
        attempt = {"kind": "transfer", "rail": "tempo", "provider": "tempo", "payload": b"raw", "last_error": error}
        times = {"valid_before": now + timedelta(seconds=25), "signed_at": now, "broadcast_at": now}
        reference = f"0x{attempt_id.hex:0>64}"
        row = {"id": attempt_id, "reference": reference, "state": state, **attempt, **times}
        await tx.execute(insert(settlement_attempts).values(row))
        await tx.execute(insert(attempt_items).values(item_id=item_id, attempt_id=attempt_id, call_index=0))
    return attempt_id


async def unsettled(town: Town, **fields: Any) -> operations.ListUnsettledResponse:
    request = operations.ListUnsettledRequest(**fields)
    answer: operations.ListUnsettledResponse = await town.wallet.operations.ListUnsettled(request, metadata=MAKER)
    return answer


async def of_these(town: Town, *ids: uuid.UUID, **fields: Any) -> list[operations.UnsettledItem]:
    """What the list says of these items, in its order."""
    wanted = {str(item_id) for item_id in ids}
    answer = await unsettled(town, page_size=500, **fields)
    return [item for item in answer.items if item.settlement.item_id in wanted]


async def retry(town: Town, item_id: object) -> operations.UnsettledItem:
    request = operations.RetrySettlementRequest(item_id=str(item_id), reason="the policy was changed")
    answer = await town.wallet.operations.RetrySettlement(request, metadata=MAKER)
    item: operations.UnsettledItem = answer.item
    return item


async def row_of(town: Town, item_id: uuid.UUID) -> tuple[Any, ...]:
    rows = await town.books.execute(
        "SELECT state, failures, not_before, reason, attempt_id FROM settlement_items WHERE id = :id", id=item_id
    )
    return tuple(rows[0])


async def test_an_open_item_is_shown_with_its_ends_its_age_and_its_attempts(
    town: Town, ann: Person, bob: Person
) -> None:
    """An operator who is called at night sees in one answer what is stuck, since when, and what was tried."""
    reason = "no finalized block beyond its expiry yet"
    item_id = await item_of(town, ann, bob, state="INDETERMINATE", reason=reason)
    dead = await attempt_for(town, item_id, AttemptState.DEAD, error="expired unseen")
    live = await attempt_for(town, item_id, AttemptState.BROADCAST)
    await town.books.execute("UPDATE settlement_items SET attempt_id = :live WHERE id = :id", live=live, id=item_id)
    (shown,) = await of_these(town, item_id)
    assert shown.settlement.state == transaction_pb2.SETTLEMENT_STATE_INDETERMINATE
    assert shown.settlement.reason == reason
    assert (shown.settlement.amount.asset, shown.settlement.amount.micros) == ("USDC", DOLLAR)
    assert shown.settlement.attempts == 2
    assert (shown.from_holder_id, shown.to_holder_id) == (str(ann.id), str(bob.id))
    assert shown.sender_sequence == 2
    assert shown.age.ToTimedelta() < timedelta(minutes=1)
    assert [(attempt.id, attempt.state) for attempt in shown.attempts] == [
        (str(dead), operations.ATTEMPT_STATE_DEAD),
        (str(live), operations.ATTEMPT_STATE_BROADCAST),
    ]
    assert shown.attempts[0].reason == "expired unseen"
    assert shown.attempts[1].chain_transaction_hash.startswith("0x")
    assert shown.attempts[1].HasField("submit_time")


async def test_the_oldest_comes_first_and_pages_neither_repeat_nor_skip(town: Town, ann: Person, bob: Person) -> None:
    items = [await item_of(town, ann, bob) for _ in range(5)]
    old = await item_of(town, ann, bob, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    shown: list[str] = []
    token = ""
    while True:
        answer = await unsettled(town, page_size=2, page_token=token)
        shown += [item.settlement.item_id for item in answer.items]
        token = answer.next_page_token
        if not token:
            break
    assert shown[0] == str(old)
    assert [item for item in shown if item in {str(one) for one in items}] == [str(item) for item in items]
    assert len(shown) == len(set(shown)) == answer.total_count


async def test_filters_leave_what_was_asked_for(town: Town, ann: Person, bob: Person) -> None:
    await see_tempo(town)
    pending, blocked = await item_of(town, ann, bob), await item_of(town, ann, bob, state="BLOCKED")
    claimed = await item_of(town, ann, bob, state="CLAIMED")
    await attempt_for(town, blocked, AttemptState.FAILED)
    ids = (pending, blocked, claimed)
    for state, item_id in (("PENDING", pending), ("BLOCKED", blocked), ("CLAIMED", claimed)):
        wanted = transaction_pb2.SettlementState.Value(f"SETTLEMENT_STATE_{state}")
        (shown,) = await of_these(town, *ids, states=[wanted])
        assert (shown.settlement.item_id, shown.settlement.state) == (str(item_id), wanted)
    (there,) = await of_these(town, *ids, provider="tempo")
    assert there.settlement.item_id == str(blocked)
    assert not (await unsettled(town, states=[transaction_pb2.SETTLEMENT_STATE_CONFIRMED])).items
    assert (await refused(unsettled(town, provider="paypal"))).reason == "PROVIDER_NOT_FOUND"


async def see_tempo(town: Town) -> None:
    row = ProviderHealthRow("tempo", True, "closed", 12, 1_000_000, "", datetime.now(UTC))
    async with town.books.engine.begin() as tx:
        await provider_health.record(tx, row)


async def test_what_is_final_is_not_listed(town: Town, ann: Person, bob: Person) -> None:
    items = [await item_of(town, ann, bob, state=state) for state in ("CONFIRMED", "FAILED", "CANCELLED")]
    assert await of_these(town, *items) == []


async def test_a_bad_page_token_is_refused(town: Town) -> None:
    for token in ("nonsense", "WyJ4IiwieSJd"):
        assert (await refused(unsettled(town, page_token=token))).reason == "PAGE_TOKEN_INVALID"


async def test_a_blocked_item_gets_its_turn_again(town: Town, ann: Person, bob: Person) -> None:
    item_id = await item_of(town, ann, bob, state="BLOCKED", reason="PolicyForbids at block 7", failures=3)
    await attempt_for(town, item_id, AttemptState.FAILED)
    shown = await retry(town, item_id)
    assert shown.settlement.state == transaction_pb2.SETTLEMENT_STATE_PENDING
    assert (await row_of(town, item_id))[:4] == ("PENDING", 0, None, "")
    (act,) = await acts_on(town, item_id)
    assert (act.action, act.actor) == ("settlement.retry", "maria")
    assert act.facts == {"reason": "the policy was changed"}


async def test_a_waiting_item_need_not_wait_longer(town: Town, ann: Person, bob: Person) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    item_id = await item_of(town, ann, bob, failures=4, not_before=later, reason="paused")
    await retry(town, item_id)
    assert (await row_of(town, item_id))[:3] == ("PENDING", 0, None)


async def test_an_item_that_waits_for_nothing_but_its_turn_is_answered_as_it_is(
    town: Town, ann: Person, bob: Person
) -> None:
    item_id = await item_of(town, ann, bob)
    shown = await retry(town, item_id)
    assert shown.settlement.state == transaction_pb2.SETTLEMENT_STATE_PENDING
    assert await actions_on(town, item_id) == []


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        (ItemState.CLAIMED, "attempt_in_preparation"),
        (ItemState.SIGNED, "attempt_not_proven_dead"),
        (ItemState.BROADCAST, "attempt_not_proven_dead"),
        (ItemState.INDETERMINATE, "attempt_not_proven_dead"),
        (ItemState.CONFIRMED, "done"),
        (ItemState.FAILED, "done"),
        (ItemState.CANCELLED, "done"),
    ],
)
async def test_what_may_still_land_or_is_done_is_never_touched(
    town: Town, ann: Person, bob: Person, state: ItemState, cause: str
) -> None:
    """Money rule 1: a second attempt beside one that is not proven dead could pay twice."""
    item_id = await item_of(town, ann, bob, state=state, failures=2)
    before = await row_of(town, item_id)
    refusal = await refused(retry(town, item_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SETTLEMENT_NOT_RETRYABLE")
    assert refusal.metadata == {"state": state, "cause": cause}
    assert await row_of(town, item_id) == before
    assert await actions_on(town, item_id) == []


async def test_rule_1_an_attempt_that_is_not_proven_dead_forbids_a_retry_whatever_the_item_says(
    town: Town, ann: Person, bob: Person
) -> None:
    item_id = await item_of(town, ann, bob, state="BLOCKED")
    await attempt_for(town, item_id, AttemptState.DEAD)
    await attempt_for(town, item_id, AttemptState.BROADCAST)
    refusal = await refused(retry(town, item_id))
    assert refusal.metadata == {"state": "BLOCKED", "cause": "attempt_not_proven_dead"}
    assert (await row_of(town, item_id))[0] == "BLOCKED"


async def test_an_item_that_is_not_there_is_not_retried(town: Town) -> None:
    for nothing in (uuid.uuid4(), OPERATOR, OUTSIDE):
        assert (await refused(retry(town, nothing))).reason == "SETTLEMENT_NOT_FOUND"


async def test_operators_who_retry_at_once_do_it_once(town: Town, ann: Person, bob: Person) -> None:
    item_id = await item_of(town, ann, bob, state="BLOCKED")
    await asyncio.gather(*(retry(town, item_id) for _ in range(6)))
    assert await actions_on(town, item_id) == ["settlement.retry"]


async def test_the_list_is_for_operators(town: Town, ann: Person) -> None:
    for token in (ann.token, service()):
        call = town.wallet.operations.ListUnsettled(operations.ListUnsettledRequest(), metadata=token)
        assert (await refused(call)).reason == "CALLER_NOT_ALLOWED"
