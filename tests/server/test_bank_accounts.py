"""Bank accounts: linked once for each request id, checked afterwards, and never shown again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.clock import SystemClock, SystemEntropy
from monay.wallet.v1 import consumer_pb2 as pb
from sandbox.postgres import Postgres
from server.services.bank_accounts import LINK_JOB
from server.workers.bank_links import sandbox_link_handler
from server.workers.jobs import JobWorker
from storage.bank_accounts import BankAccounts
from storage.sealing import KeyRing

from .conftest import refused, service
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
    return await town.settle_in("ann")


IBAN = "DE89370400440532013000"
HOME = pb.PostalAddress(line1="1 Main Street", city="Berlin", postal_code="10115", country="DE")


def link(iban: str = IBAN, request_id: str | None = None, **fields: Any) -> pb.LinkBankAccountRequest:
    number = {"us": fields.pop("us")} if "us" in fields else {"iban": iban}
    return pb.LinkBankAccountRequest(
        request_id=request_id or str(uuid.uuid4()),
        holder_name="Ann Example",
        bank_name="First Bank",
        holder_address=HOME,
        **number,
        **fields,
    )


async def send(town: Town, person: Person, request: pb.LinkBankAccountRequest) -> pb.LinkBankAccountResponse:
    answer: pb.LinkBankAccountResponse = await town.wallet.consumers.LinkBankAccount(request, metadata=person.token)
    return answer


async def accounts(town: Town, person: Person, **fields: Any) -> list[pb.BankAccount]:
    request = pb.ListBankAccountsRequest(**fields)
    answer = await town.wallet.consumers.ListBankAccounts(request, metadata=person.token)
    return list(answer.bank_accounts)


def job_worker(town: Town, *, with_bank: bool = True) -> JobWorker:
    """The worker of provider jobs, in a sandbox that has a bank or in a deployment that has none yet."""
    clock = SystemClock()
    ring = KeyRing.read(town.wallet.settings.sealing_keys(), entropy=SystemEntropy(clock))
    handler = sandbox_link_handler(engine=town.books.engine, accounts=BankAccounts(ring), clock=clock)
    handlers = {LINK_JOB: handler} if with_bank else {}
    return JobWorker(engine=town.books.engine, handlers=handlers, clock=clock, postponed={LINK_JOB} - handlers.keys())


async def test_a_link_answers_at_once_with_the_number_masked(town: Town, ann: Person) -> None:
    answer = await send(town, ann, link())
    account = answer.bank_account
    assert not answer.replayed
    assert account.state == pb.BANK_ACCOUNT_STATE_PENDING
    assert (account.holder_name, account.last_four, account.bank_name) == ("Ann Example", "3000", "First Bank")
    assert account.country == "DE"
    assert IBAN not in str(answer)
    assert await accounts(town, ann) == [account]


async def test_an_account_in_the_united_states_is_linked_by_its_two_numbers(town: Town, ann: Person) -> None:
    numbers = pb.UsBankNumber(account_number="000123456789", routing_number="021000021")
    account = (await send(town, ann, link(us=numbers))).bank_account
    assert (account.last_four, account.country) == ("6789", "US")


async def test_the_same_request_links_once_and_another_body_is_refused(town: Town, ann: Person) -> None:
    request = link()
    first = await send(town, ann, request)
    again = await send(town, ann, request)
    assert again.replayed
    assert again.bank_account == first.bank_account
    other = link("FR7630006000011234567890189", request_id=request.request_id)
    refusal = await refused(send(town, ann, other))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
    assert len(await accounts(town, ann)) == 1


async def test_the_same_request_from_many_tasks_links_once(town: Town, ann: Person) -> None:
    request = link()
    answers = await asyncio.gather(*(send(town, ann, request) for _ in range(10)))
    assert len({answer.bank_account.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert len(await accounts(town, ann)) == 1


async def test_ach_is_refused_by_name_and_the_request_id_stays_free(town: Town, ann: Person) -> None:
    request = link(rail=pb.BANK_RAIL_ACH)
    refusal = await refused(send(town, ann, request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RAIL_UNSUPPORTED")
    assert refusal.metadata == {"rail": "ACH"}
    assert await accounts(town, ann) == []
    assert not (await send(town, ann, link(request_id=request.request_id))).replayed


async def test_a_frozen_wallet_links_nothing_and_the_refusal_is_remembered(town: Town, ann: Person) -> None:
    await town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=ann.id)
    request = link()
    assert (await refused(send(town, ann, request))).reason == "CONSUMER_FROZEN"
    await town.books.execute("UPDATE wallets SET frozen = false WHERE consumer_id = :id", id=ann.id)
    assert (await refused(send(town, ann, request))).reason == "CONSUMER_FROZEN"
    assert await accounts(town, ann) == []


async def test_the_sandbox_accepts_an_account_and_refuses_one_that_ends_in_0000(town: Town, ann: Person) -> None:
    """Both endings of a check can be tried without a bank."""
    await send(town, ann, link())
    await send(town, ann, link("GB33BUKB20201555550000"))
    worker = job_worker(town)
    while await worker.step():
        pass
    states = {account.last_four: account.state for account in await accounts(town, ann)}
    assert states == {"3000": pb.BANK_ACCOUNT_STATE_ACTIVE, "0000": pb.BANK_ACCOUNT_STATE_FAILED}


async def test_where_no_provider_checks_bank_accounts_the_link_waits(town: Town, ann: Person) -> None:
    """The bank rail comes later than the wallet; nothing that was asked for before is lost."""
    await send(town, ann, link())
    worker = job_worker(town, with_bank=False)
    while await worker.step():
        pass
    assert [account.state for account in await accounts(town, ann)] == [pb.BANK_ACCOUNT_STATE_PENDING]
    while await job_worker(town).step():
        pass
    assert [account.state for account in await accounts(town, ann)] == [pb.BANK_ACCOUNT_STATE_ACTIVE]


async def test_accounts_are_listed_newest_first_in_pages(town: Town, ann: Person) -> None:
    linked = [(await send(town, ann, link())).bank_account.id for _ in range(5)]
    shown, token = [], ""
    while True:
        request = pb.ListBankAccountsRequest(page_size=2, page_token=token)
        answer = await town.wallet.consumers.ListBankAccounts(request, metadata=ann.token)
        shown += [account.id for account in answer.bank_accounts]
        token = answer.next_page_token
        if not token:
            break
    assert shown == linked[::-1]


async def test_bank_accounts_are_ones_own(town: Town, ann: Person) -> None:
    """A token of one list means nothing in another, and nobody sees or links for somebody else."""
    await send(town, ann, link())
    await send(town, ann, link())
    bob = await town.settle_in("bob")
    assert await accounts(town, bob) == []
    peek = pb.ListBankAccountsRequest(consumer_id=str(ann.id))
    assert (await refused(town.wallet.consumers.ListBankAccounts(peek, metadata=bob.token))).reason == "NOT_YOUR_WALLET"
    first = await town.wallet.consumers.ListBankAccounts(pb.ListBankAccountsRequest(page_size=1), metadata=ann.token)
    stolen = pb.ListBankAccountsRequest(page_token=first.next_page_token)
    refusal = await refused(town.wallet.consumers.ListBankAccounts(stolen, metadata=bob.token))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
    nobody = pb.ListBankAccountsRequest(consumer_id=str(uuid.uuid4()))
    refusal = await refused(town.wallet.consumers.ListBankAccounts(nobody, metadata=service()))
    assert refusal.reason == "CONSUMER_NOT_FOUND"


async def test_the_database_holds_neither_number_nor_name_in_clear(town: Town, ann: Person) -> None:
    await send(town, ann, link())
    for table in ("bank_accounts", "requests", "provider_jobs"):
        rows = await town.books.execute(f"SELECT whole::text FROM {table} AS whole")
        assert rows
        for planted in (IBAN, "Ann Example", "1 Main Street", IBAN.encode().hex(), b"Ann Example".hex()):
            assert not [row for row in rows if planted in row[0]], (table, planted)
