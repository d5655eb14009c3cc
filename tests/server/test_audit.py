"""The audit log: every movement of money and every act of an operator, and proof that it is what was written."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from domain.clock import SystemClock
from monay.wallet.v1 import access_pb2
from monay.wallet.v1 import operations_service_pb2 as operations
from sandbox.postgres import Postgres
from server.workers.audit_chain import AuditChain
from storage import audit, audit_chain
from storage.audit import LATENESS
from storage.schema import audit_log
from tests.books import DOLLAR, deposit

from .conftest import operator, refused, service
from .operators import MAKER
from .people import Person, Town, new_town, transfer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=1_000 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob")


async def chain(town: Town) -> None:
    """What the worker does within seconds."""
    worker = AuditChain(engine=town.books.engine, clock=SystemClock())
    while await worker.extend():
        pass


async def listed(town: Town, **fields: Any) -> list[operations.AuditRecord]:
    """Every page of the list."""
    records: list[operations.AuditRecord] = []
    token = ""
    while True:
        request = operations.ListAuditRequest(page_token=token, **fields)
        answer = await town.wallet.operations.ListAudit(request, metadata=MAKER)
        records += answer.records
        token = answer.next_page_token
        if not token:
            return records


async def verified(town: Town, first: int = 0, last: int = 0) -> operations.VerifyAuditResponse:
    request = operations.VerifyAuditRequest(first_sequence=first, last_sequence=last)
    answer: operations.VerifyAuditResponse = await town.wallet.operations.VerifyAudit(request, metadata=MAKER)
    return answer


async def freeze(town: Town, person: Person, *, reason: str = "looked odd", by: Any = MAKER) -> None:
    request = operations.FreezeConsumerRequest(consumer_id=str(person.id), reason=reason)
    await town.wallet.operations.FreezeConsumer(request, metadata=by)


async def unfreeze(town: Town, person: Person) -> None:
    request = operations.UnfreezeConsumerRequest(consumer_id=str(person.id), reason="fine")
    await town.wallet.operations.UnfreezeConsumer(request, metadata=MAKER)


def times(records: Sequence[operations.AuditRecord]) -> list[datetime]:
    return [record.create_time.ToDatetime(UTC) for record in records]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_money_and_acts_are_one_log_newest_first(town: Town, ann: Person, bob: Person) -> None:
    """What happened to a wallet reads like a story, whoever did it."""
    await town.pay(ann, bob, DOLLAR)
    await freeze(town, ann)
    await unfreeze(town, ann)
    records = await listed(town, consumer_id=str(ann.id))
    assert [record.action for record in records] == ["consumer.unfreeze", "consumer.freeze", "transfer", "deposit"]
    assert times(records) == sorted(times(records), reverse=True)


async def test_a_movement_says_who_what_and_by_which_request(town: Town, ann: Person, bob: Person) -> None:
    request = transfer(bob.id, DOLLAR, memo="for nobody else to read")
    paid = await town.wallet.consumers.Transfer(request, metadata=ann.token)
    (record,) = await listed(town, subject_id=paid.transaction.id)
    assert (record.actor, record.token_use) == (str(ann.id), access_pb2.TOKEN_USE_CONSUMER)
    assert record.request_id == request.request_id
    assert record.consumer_id == str(ann.id)
    assert record.facts == {
        "asset": "USDC",
        "micros": str(DOLLAR),
        "fee_micros": "100",
        "counterparty_id": str(bob.id),
    }


async def test_services_and_workers_go_by_their_names(town: Town, ann: Person, bob: Person) -> None:
    by_service = transfer(bob.id, DOLLAR, consumer_id=str(ann.id))
    paid = await town.wallet.consumers.Transfer(by_service, metadata=service("payroll"))
    (record,) = await listed(town, subject_id=paid.transaction.id)
    assert (record.actor, record.token_use) == ("payroll", access_pb2.TOKEN_USE_SERVICE)
    deposits = [one for one in await listed(town, consumer_id=str(ann.id)) if one.action == "deposit"]
    assert [(one.actor, one.token_use) for one in deposits] == [("worker", access_pb2.TOKEN_USE_UNSPECIFIED)]


async def test_an_act_says_who_from_where_by_which_call_and_why(town: Town, ann: Person) -> None:
    request = operations.FreezeConsumerRequest(consumer_id=str(ann.id), reason="looked odd")
    await town.wallet.operations.FreezeConsumer(request, metadata=(*MAKER, ("x-request-id", "case-7")))
    (record,) = await listed(town, subject_id=str(ann.id))
    assert (record.actor, record.token_use) == ("maria", access_pb2.TOKEN_USE_OPERATOR)
    assert record.peer.startswith("ipv4:127.0.0.1:")
    assert (record.request_id, dict(record.facts)) == ("case-7", {"reason": "looked odd"})


async def test_filters_find_by_actor_action_and_time(town: Town, ann: Person, bob: Person) -> None:
    await town.pay(ann, bob, DOLLAR)
    await freeze(town, ann, by=operator("olga"))
    await unfreeze(town, ann)
    by_olga = await listed(town, actor="olga")
    assert [(record.action, record.subject_id) for record in by_olga] == [("consumer.freeze", str(ann.id))]
    by_ann = await listed(town, actor=str(ann.id))
    assert [record.action for record in by_ann] == ["transfer"]
    assert await listed(town, consumer_id=str(ann.id), action="deposit", actor="worker")
    assert {record.action for record in await listed(town, action="transfer")} == {"transfer"}

    all_of_ann = await listed(town, consumer_id=str(ann.id))
    start, end = Timestamp(), Timestamp()
    start.FromDatetime(times(all_of_ann)[-2])
    end.FromDatetime(times(all_of_ann)[0])
    between = await listed(town, consumer_id=str(ann.id), start_time=start, end_time=end)
    assert between == all_of_ann[1:-1]
    assert await listed(town, actor="nobody") == []
    assert await listed(town, subject_id="no/such/thing") == []


async def test_pages_neither_repeat_nor_skip(town: Town, ann: Person, bob: Person) -> None:
    for _ in range(6):
        await town.pay(ann, bob, 1_000)
        await freeze(town, bob)
        await unfreeze(town, bob)
    whole = await listed(town, page_size=500)
    assert await listed(town, page_size=7) == whole
    assert len({record.subject_id + record.action + str(record.create_time) for record in whole}) == len(whole)
    of_ann = await listed(town, consumer_id=str(ann.id), page_size=2)
    assert [record.action for record in of_ann] == [*["transfer"] * 6, "deposit"]


async def test_a_rare_act_in_a_long_journal_gives_short_pages_and_is_found(
    town: Town, ann: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks back a bounded way, so that no filter can make it slow; the token leads on from there."""
    monkeypatch.setattr(audit, "LOOK_BACK", 3)
    monkeypatch.setattr(audit, "MOST_LOOKS", 2)
    await town.wallet.consumers.Transfer(transfer(bob.id, DOLLAR, consumer_id=str(ann.id)), metadata=service("rarely"))
    for _ in range(20):
        await town.pay(ann, bob, 1_000)
    found = await listed(town, actor="rarely", page_size=5)
    assert [record.action for record in found] == ["transfer"]
    first = await town.wallet.operations.ListAudit(operations.ListAuditRequest(actor="rarely"), metadata=MAKER)
    assert not first.records
    assert first.next_page_token


async def test_chained_or_not_the_log_reads_the_same(town: Town, ann: Person, bob: Person) -> None:
    await town.pay(ann, bob, DOLLAR)
    await freeze(town, bob)
    await unfreeze(town, bob)
    before = await listed(town, consumer_id=str(ann.id))
    assert [(record.sequence, record.hash) for record in before] == [(0, "")] * 2
    await chain(town)
    after = await listed(town, consumer_id=str(ann.id))
    assert all(record.sequence and len(record.hash) == 64 for record in after)
    for record in after:
        record.ClearField("sequence")
        record.ClearField("hash")
    assert after == before


async def test_bad_page_tokens_and_times_are_refused(town: Town) -> None:
    for token in ("nonsense", "WyJ4IiwieSJd"):
        call = town.wallet.operations.ListAudit(operations.ListAuditRequest(page_token=token), metadata=MAKER)
        assert (await refused(call)).reason == "PAGE_TOKEN_INVALID"
    for seconds in (-1, 253_402_300_799, 2**62):
        request = operations.ListAuditRequest(start_time=Timestamp(seconds=seconds))
        assert (await refused(town.wallet.operations.ListAudit(request, metadata=MAKER))).reason == "VALIDATION_FAILED"


async def test_the_log_is_for_operators(town: Town, ann: Person) -> None:
    for token in (ann.token, service()):
        for call in (
            town.wallet.operations.ListAudit(operations.ListAuditRequest(), metadata=token),
            town.wallet.operations.VerifyAudit(operations.VerifyAuditRequest(), metadata=token),
        ):
            assert (await refused(call)).reason == "CALLER_NOT_ALLOWED"


# --- the chain --------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def chained(town: Town, ann: Person, bob: Person) -> AsyncIterator[operations.VerifyAuditResponse]:
    """A chain of its own for each test that tampers with it, with acts and movements in it."""
    await town.books.execute("DELETE FROM audit_chain_heads")
    await town.books.execute("DELETE FROM audit_chain")
    for _ in range(4):
        await town.pay(ann, bob, DOLLAR)
        await freeze(town, bob)
        await unfreeze(town, bob)
    await chain(town)
    whole = await verified(town)
    assert whole.intact
    yield whole
    await town.books.execute("DELETE FROM audit_chain_heads")
    await town.books.execute("DELETE FROM audit_chain")


async def record_at(town: Town, sequence: int) -> tuple[str, uuid.UUID]:
    rows = await town.books.execute("SELECT origin, record_id FROM audit_chain WHERE sequence = :n", n=sequence)
    return tuple(rows[0])


async def last_of(town: Town, origin: str) -> tuple[int, uuid.UUID]:
    rows = await town.books.execute(
        "SELECT sequence, record_id FROM audit_chain WHERE origin = :origin ORDER BY sequence DESC LIMIT 1",
        origin=origin,
    )
    return tuple(rows[0])


async def faults(town: Town, first: int = 0, last: int = 0) -> list[tuple[int, str]]:
    answer = await verified(town, first, last)
    assert answer.intact == (not answer.faults)
    prefix = "AUDIT_FAULT_KIND_"
    return [(one.sequence, operations.AuditFaultKind.Name(one.kind).removeprefix(prefix)) for one in answer.faults]


async def test_an_intact_chain_says_how_far_it_reaches(
    town: Town, chained: operations.VerifyAuditResponse, ann: Person, bob: Person
) -> None:
    rows = await town.books.execute("SELECT (SELECT count(*) FROM transactions) + (SELECT count(*) FROM audit_log)")
    assert chained.chained_sequence == chained.records_checked == rows[0][0]
    assert len(chained.head_hash) == 64
    await town.pay(ann, bob, DOLLAR)
    assert await verified(town) == chained
    await chain(town)
    longer = await verified(town)
    assert longer.chained_sequence == chained.chained_sequence + 1
    assert longer.head_hash != chained.head_hash


async def test_a_part_of_the_chain_can_be_verified(town: Town, chained: operations.VerifyAuditResponse) -> None:
    part = await verified(town, 3, 7)
    assert (part.intact, part.records_checked) == (True, 5)
    assert part.chained_sequence == chained.chained_sequence


@pytest.mark.parametrize(
    "tampering",
    [
        'UPDATE audit_log SET facts = \'{"reason": "never mind"}\' WHERE id = :id',
        "UPDATE audit_log SET actor = 'somebody' WHERE id = :id",
        "UPDATE audit_log SET created_at = created_at - interval '1 hour' WHERE id = :id",
    ],
)
async def test_an_altered_act_is_found(town: Town, chained: operations.VerifyAuditResponse, tampering: str) -> None:
    sequence, record_id = await last_of(town, "audit_log")
    await town.books.execute(tampering, id=record_id)
    assert await faults(town) == [(sequence, "ALTERED")]


@pytest.mark.parametrize(
    ("tampering", "mending"),
    [
        (
            "UPDATE transactions SET micros = micros + 1 WHERE id = :id",
            "UPDATE transactions SET micros = micros - 1 WHERE id = :id",
        ),
        (
            "UPDATE postings SET micros = micros + 1 WHERE transaction_id = :id AND position = 0",
            "UPDATE postings SET micros = micros - 1 WHERE transaction_id = :id AND position = 0",
        ),
    ],
)
async def test_an_altered_movement_is_found_down_to_its_postings(
    town: Town, chained: operations.VerifyAuditResponse, tampering: str, mending: str
) -> None:
    sequence, record_id = await last_of(town, "transactions")
    await town.books.execute(tampering, id=record_id)
    assert await faults(town) == [(sequence, "ALTERED")]
    await town.books.execute(mending, id=record_id)
    assert await faults(town) == []


async def test_a_missing_record_is_found(town: Town, chained: operations.VerifyAuditResponse) -> None:
    """Whether the act was deleted, or its place in the chain, or both."""
    sequence, record_id = await last_of(town, "audit_log")
    await town.books.execute("DELETE FROM audit_log WHERE id = :id", id=record_id)
    assert await faults(town) == [(sequence, "MISSING")]
    await town.books.execute("DELETE FROM audit_chain WHERE record_id = :id", id=record_id)
    assert await faults(town) == [(sequence, "MISSING")]


async def test_a_chain_that_was_cut_short_is_found(town: Town, chained: operations.VerifyAuditResponse) -> None:
    """The head remembers how far it reached; and a head that was moved back, too, no longer fits what was kept."""
    last = chained.chained_sequence
    await town.books.execute("DELETE FROM audit_chain WHERE sequence > :n", n=last - 2)
    assert await faults(town) == [(last - 1, "MISSING"), (last, "MISSING")]
    await town.books.execute(
        "UPDATE audit_chain_heads SET sequence = :n, hash = (SELECT hash FROM audit_chain WHERE sequence = :n)",
        n=last - 2,
    )
    assert await faults(town) == []
    assert (await verified(town)).head_hash != chained.head_hash
    assert await faults(town, last=last) == [(last - 1, "MISSING"), (last, "MISSING")]


async def test_records_that_changed_places_are_found(town: Town, chained: operations.VerifyAuditResponse) -> None:
    await town.books.execute(
        "UPDATE audit_chain SET sequence = CASE sequence WHEN 4 THEN -5 ELSE -4 END WHERE sequence IN (4, 5)"
    )
    await town.books.execute("UPDATE audit_chain SET sequence = -sequence WHERE sequence < 0")
    found = await faults(town)
    assert (4, "REORDERED") in found
    assert (5, "REORDERED") in found
    assert {kind for _, kind in found} == {"REORDERED"}


async def test_a_record_hashed_anew_after_it_was_altered_does_not_fit_its_place(
    town: Town, chained: operations.VerifyAuditResponse
) -> None:
    """Who alters a record and its hash has to rewrite every later one, and the head that was kept elsewhere."""
    sequence, record_id = await last_of(town, "audit_log")
    await town.books.execute("UPDATE audit_log SET actor = 'somebody' WHERE id = :id", id=record_id)
    async with town.books.engine.begin() as tx:
        (now_says,) = await audit_contents(tx, record_id)
    await town.books.execute(
        "UPDATE audit_chain SET content_hash = :hash WHERE record_id = :id", hash=now_says, id=record_id
    )
    assert await faults(town) == [(sequence, "REORDERED")]


async def audit_contents(tx: Any, record_id: uuid.UUID) -> list[bytes]:
    return [content.content_hash for content in await audit_chain.contents(tx, audit_log, [record_id])]


async def test_a_forged_head_is_found(town: Town, chained: operations.VerifyAuditResponse) -> None:
    await town.books.execute("UPDATE audit_chain_heads SET hash = '\\x00'::bytea")
    assert await faults(town) == [(chained.chained_sequence, "REORDERED")]


async def test_a_hole_of_millions_is_told_by_its_first_thousand(
    town: Town, chained: operations.VerifyAuditResponse
) -> None:
    found = await faults(town, last=10**15)
    assert len(found) == 1_000
    assert found[0] == (chained.chained_sequence + 1, "MISSING")


async def test_workers_that_chain_at_once_give_each_record_one_number(
    town: Town, chained: operations.VerifyAuditResponse, ann: Person, bob: Person
) -> None:
    for _ in range(10):
        await town.pay(ann, bob, 1_000)
    await asyncio.gather(*(chain(town) for _ in range(4)))
    after = await verified(town)
    assert after.intact
    assert after.chained_sequence == chained.chained_sequence + 10


async def test_a_record_that_comes_late_is_chained_by_the_sweep(
    town: Town, chained: operations.VerifyAuditResponse, ann: Person
) -> None:
    """Its id is older than what was chained before it was committed: the quick look does not reach it any more."""
    late = deposit(ann.id, DOLLAR)
    old = uuid.UUID(int=late.transactions[0].id.int - ((10 * 60 * 1000) << 80))
    late = renamed(late, old)
    await town.books.apply(late)
    worker = AuditChain(engine=town.books.engine, clock=SystemClock())
    await worker.extend()
    assert (await verified(town)).chained_sequence == chained.chained_sequence
    await worker.extend(LATENESS)
    assert (await verified(town)).chained_sequence == chained.chained_sequence + 1
    assert await record_at(town, chained.chained_sequence + 1) == ("transactions", old)
    assert (await verified(town)).intact


def renamed(command: Any, transaction_id: uuid.UUID) -> Any:
    (transaction,) = command.transactions
    return replace(command, transactions=(transaction._replace(id=transaction_id),))


async def test_the_worker_chains_within_seconds_and_leaves_when_told(town: Town, ann: Person, bob: Person) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(AuditChain(engine=town.books.engine, clock=SystemClock()).run(stop))
    paid = await town.pay(ann, bob, DOLLAR)
    try:
        async with asyncio.timeout(10):
            while not (await listed(town, subject_id=paid.transaction.id))[0].sequence:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        stop.set()
        await asyncio.wait_for(running, timeout=timedelta(seconds=5).total_seconds())
