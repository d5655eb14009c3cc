"""What operators do to a person or a figure: it holds from the next decision on, and it is written down."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from domain.commands import Command, CustodyChange, ItemTransition
from domain.identity import OPERATOR, ItemId
from domain.money import Asset
from domain.settlement import ItemState, Rail
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1 import operations_service_pb2 as operations
from monay.wallet.v1 import provider_pb2
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.provider_pb2 import GetProviderStatusRequest
from monay.wallet.v1.transaction_pb2 import ListTransactionsRequest
from monay.wallet.v1.transfer_pb2 import Recipient
from sandbox.postgres import Postgres
from storage import provider_health
from storage.provider_health import ProviderHealthRow
from tests.books import DOLLAR, FEE, deposit

from .conftest import refused, service
from .operators import CHECKER, MAKER, actions_on, acts_on
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
    return await town.settle_in("ann", usdc=100 * DOLLAR)


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob", usdc=10 * DOLLAR)


async def freeze(town: Town, person_id: object, *, by: Any = MAKER, reason: str = "court order") -> pb.Consumer:
    request = operations.FreezeConsumerRequest(consumer_id=str(person_id), reason=reason)
    answer = await town.wallet.operations.FreezeConsumer(request, metadata=by)
    consumer: pb.Consumer = answer.consumer
    return consumer


async def unfreeze(town: Town, person_id: object) -> pb.Consumer:
    request = operations.UnfreezeConsumerRequest(consumer_id=str(person_id), reason="lifted")
    answer = await town.wallet.operations.UnfreezeConsumer(request, metadata=MAKER)
    consumer: pb.Consumer = answer.consumer
    return consumer


async def erase(town: Town, person_id: object) -> operations.ErasePersonalDataResponse:
    request = operations.ErasePersonalDataRequest(consumer_id=str(person_id), reason="asked for it")
    answer: operations.ErasePersonalDataResponse = await town.wallet.operations.ErasePersonalData(
        request, metadata=MAKER
    )
    return answer


async def who_is(town: Town, person: Person) -> pb.Consumer:
    answer = await town.wallet.consumers.GetConsumer(pb.GetConsumerRequest(), metadata=person.token)
    consumer: pb.Consumer = answer.consumer
    return consumer


# --- freezing ---------------------------------------------------------------------------------------------------------


async def test_a_frozen_wallet_neither_sends_nor_receives_and_both_are_told(
    town: Town, ann: Person, bob: Person
) -> None:
    frozen = await freeze(town, ann.id)
    assert (frozen.id, frozen.state) == (str(ann.id), pb.CONSUMER_STATE_FROZEN)
    assert (await refused(town.pay(ann, bob, DOLLAR))).reason == "CONSUMER_FROZEN"
    assert (await refused(town.pay(bob, ann, DOLLAR))).reason == "RECIPIENT_FROZEN"
    assert (await town.balance(ann)).available_micros == 100 * DOLLAR
    assert (await town.balance(bob)).available_micros == 10 * DOLLAR


async def test_a_frozen_wallet_still_reads_and_is_still_credited(town: Town, ann: Person) -> None:
    """Money that arrives on chain has arrived, whatever a court says about the wallet."""
    await freeze(town, ann.id)
    await town.books.apply(deposit(ann.id, 5 * DOLLAR))
    assert (await town.balance(ann)).available_micros == 105 * DOLLAR
    assert (await who_is(town, ann)).state == pb.CONSUMER_STATE_FROZEN


async def test_after_the_freeze_has_answered_no_transfer_gets_through(town: Town, ann: Person, bob: Person) -> None:
    """The freeze takes the lock under which transfers are decided, so there is no window behind it."""

    async def keep_paying() -> list[bool]:
        after_freeze: list[bool] = []
        while len(after_freeze) < 5:
            was_frozen = frozen.is_set()
            try:
                await town.pay(ann, bob, 1_000)
            except grpc.aio.AioRpcError:
                went_through = False
            else:
                went_through = True
            if was_frozen:
                after_freeze.append(went_through)
        return after_freeze

    frozen = asyncio.Event()
    payers = [asyncio.create_task(keep_paying()) for _ in range(8)]
    await asyncio.sleep(0.2)
    await freeze(town, ann.id)
    frozen.set()
    outcomes = await asyncio.gather(*payers)
    assert not [through for after_freeze in outcomes for through in after_freeze if through]


async def test_unfreezing_lets_money_move_again(town: Town, ann: Person, bob: Person) -> None:
    await freeze(town, ann.id)
    assert (await unfreeze(town, ann.id)).state == pb.CONSUMER_STATE_ACTIVE
    await town.pay(ann, bob, DOLLAR)


async def test_freezing_twice_is_one_act(town: Town, ann: Person) -> None:
    """The log tells what was done, and the second call did nothing."""
    first = await freeze(town, ann.id)
    assert await freeze(town, ann.id, by=CHECKER) == first
    await unfreeze(town, ann.id)
    await unfreeze(town, ann.id)
    assert await actions_on(town, ann.id) == ["consumer.freeze", "consumer.unfreeze"]
    act = (await acts_on(town, ann.id))[0]
    assert (act.actor, act.role, act.consumer_id) == ("maria", "operator", ann.id)
    assert act.facts == {"reason": "court order"}


@pytest.mark.parametrize("nobody", [uuid.uuid4(), OPERATOR])
async def test_who_is_no_consumer_is_neither_frozen_nor_erased(town: Town, nobody: uuid.UUID) -> None:
    for call in (freeze(town, nobody), unfreeze(town, nobody), erase(town, nobody)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONSUMER_NOT_FOUND")
    assert await acts_on(town, nobody) == []


async def test_consumers_and_services_are_no_operators(town: Town, ann: Person) -> None:
    for token in (ann.token, service()):
        assert (await refused(freeze(town, ann.id, by=token))).reason == "CALLER_NOT_ALLOWED"
    assert (await who_is(town, ann)).state == pb.CONSUMER_STATE_ACTIVE


# --- erasing ----------------------------------------------------------------------------------------------------------


async def settle_everything(town: Town) -> None:
    """What the watcher books once every open item is final on its rail."""
    rows = await town.books.execute(
        "SELECT id, sender, recipient, asset, micros FROM settlement_items WHERE state = 'PENDING'"
    )
    for item_id, sender, recipient, asset, micros in rows:
        done = ItemTransition(
            item_id=ItemId(item_id), expected=frozenset({ItemState.PENDING}), state=ItemState.CONFIRMED
        )
        moved = (
            CustodyChange(sender, Rail.TEMPO, Asset(asset), -micros),
            CustodyChange(recipient, Rail.TEMPO, Asset(asset), micros),
        )
        await town.books.apply(Command(transitions=(done,), custody=moved))


async def empty(town: Town, person: Person, heir: Person) -> None:
    """Pay everything out, and let it settle."""
    left = (await town.balance(person)).available_micros
    await town.pay(person, heir, left - FEE)
    await settle_everything(town)


async def test_an_empty_wallet_is_erased_and_its_books_stay(town: Town, ann: Person, bob: Person) -> None:
    """What was known about the person is gone from every table; what happened to the money is not."""
    await town.wallet.consumers.SetHandle(pb.SetHandleRequest(handle=ann.handle), metadata=ann.token)
    await empty(town, ann, bob)
    before = await town.wallet.consumers.ListTransactions(ListTransactionsRequest(), metadata=ann.token)

    answer = await erase(town, ann.id)
    left = answer.consumer
    assert left.state == pb.CONSUMER_STATE_ERASED
    assert (left.id, left.email, left.phone, left.full_name, left.handle) == (str(ann.id), "", "", "", "")
    assert await who_is(town, ann) == left
    after = await town.wallet.consumers.ListTransactions(ListTransactionsRequest(), metadata=ann.token)
    assert [line.id for line in after.transactions] == [line.id for line in before.transactions]
    rows = await town.books.execute(
        "SELECT email_sealed, email_index, phone_sealed, phone_index, name_sealed, handle, onboard_hash FROM consumers"
        " WHERE id = :id",
        id=ann.id,
    )
    assert rows == [(None,) * 7]
    assert await actions_on(town, ann.id) == ["consumer.erase"]


async def test_erasing_again_answers_the_same(town: Town) -> None:
    person = await town.settle_in("gone")
    first = await erase(town, person.id)
    assert await erase(town, person.id) == first
    assert await actions_on(town, person.id) == ["consumer.erase"]


async def test_email_and_phone_are_free_for_others_and_the_handle_is_not_yet(town: Town, bob: Person) -> None:
    person = await town.settle_in("free")
    await town.wallet.consumers.SetHandle(pb.SetHandleRequest(handle=person.handle), metadata=person.token)
    await erase(town, person.id)
    again = OnboardRequest(email=person.email, phone=person.phone, full_name="Somebody Else")
    answer = await town.wallet.consumers.Onboard(again, metadata=service())
    assert answer.consumer.id != str(person.id)
    wish = pb.SetHandleRequest(handle=person.handle)
    assert (await refused(town.wallet.consumers.SetHandle(wish, metadata=bob.token))).reason == "HANDLE_TAKEN"
    found = transfer(Recipient(email=person.email), DOLLAR)
    await town.wallet.consumers.Transfer(found, metadata=bob.token)
    assert (await town.balance(person)).available_micros == 0


async def test_an_erased_wallet_is_closed_for_good(town: Town, bob: Person) -> None:
    """Nothing goes out, nothing comes in, and nothing about it changes any more."""
    person = await town.settle_in("closed")
    await erase(town, person.id)
    papers = [pb.KYC_EVIDENCE_KIND_IDENTITY_DOCUMENT, pb.KYC_EVIDENCE_KIND_SELFIE]
    evidence = [pb.KycEvidence(kind=kind, reference="doc") for kind in papers]
    bank = pb.LinkBankAccountRequest(
        request_id=str(uuid.uuid4()),
        holder_name="Nobody",
        iban="DE89370400440532013000",
        holder_address=pb.PostalAddress(line1="1", city="B", postal_code="1", country="DE"),
    )
    wallet, own = town.wallet.consumers, {"metadata": person.token}
    for call in (
        town.pay(person, bob, DOLLAR),
        wallet.SetHandle(pb.SetHandleRequest(handle="phoenix"), **own),
        wallet.UpgradeKyc(pb.UpgradeKycRequest(kyc_level=2, evidence=evidence), **own),
        wallet.LinkBankAccount(bank, **own),
        freeze(town, person.id),
        unfreeze(town, person.id),
    ):
        assert (await refused(call)).reason == "CONSUMER_ERASED"
    assert (await refused(town.pay(bob, person, DOLLAR))).reason == "RECIPIENT_NOT_FOUND"


async def test_a_wallet_with_money_is_not_erased(town: Town, ann: Person) -> None:
    refusal = await refused(erase(town, ann.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WALLET_NOT_EMPTY")
    assert refusal.metadata == {"asset": "USDC", "micros": str(100 * DOLLAR)}
    assert (await who_is(town, ann)).email == ann.email
    assert await acts_on(town, ann.id) == []


async def test_a_wallet_whose_last_payment_has_not_settled_is_not_erased(town: Town, ann: Person, bob: Person) -> None:
    """Until the rail agrees, something may still have to be done for this person."""
    await town.pay(ann, bob, 100 * DOLLAR - FEE)
    assert (await town.balance(ann)).available_micros == 0
    refusal = await refused(erase(town, ann.id))
    assert refusal.reason == "WALLET_NOT_EMPTY"
    assert refusal.metadata == {"asset": "USDC", "micros": str(100 * DOLLAR - FEE)}
    await settle_everything(town)
    assert (await erase(town, ann.id)).consumer.state == pb.CONSUMER_STATE_ERASED


async def test_money_that_arrives_while_somebody_is_erased_is_paid_or_refused_and_never_lost(
    town: Town, bob: Person
) -> None:
    """The erasure and a payment to the wallet take the same lock: one of them comes first."""
    for _ in range(5):
        person = await town.settle_in("racer")
        answers = await asyncio.gather(erase(town, person.id), town.pay(bob, person, 1_000), return_exceptions=True)
        erased, paid = (not isinstance(answer, BaseException) for answer in answers)
        assert erased != paid
        assert (await town.balance(person)).available_micros == (1_000 if paid else 0)


async def test_evidence_and_bank_accounts_go_with_the_person(town: Town) -> None:
    person = await town.settle_in("papers")
    evidence = [
        pb.KycEvidence(kind=pb.KYC_EVIDENCE_KIND_IDENTITY_DOCUMENT, reference="manual-passport"),
        pb.KycEvidence(kind=pb.KYC_EVIDENCE_KIND_SELFIE, reference="manual-selfie"),
    ]
    await town.wallet.consumers.UpgradeKyc(pb.UpgradeKycRequest(kyc_level=2, evidence=evidence), metadata=person.token)
    bank = pb.LinkBankAccountRequest(
        request_id=str(uuid.uuid4()),
        holder_name="Papers",
        iban="DE89370400440532013000",
        holder_address=pb.PostalAddress(line1="1", city="B", postal_code="1", country="DE"),
    )
    await town.wallet.consumers.LinkBankAccount(bank, metadata=person.token)
    await erase(town, person.id)
    cases = await town.books.execute("SELECT state, evidence FROM kyc_cases WHERE consumer_id = :id", id=person.id)
    assert cases == [("REJECTED", [])]
    request = pb.ListBankAccountsRequest()
    assert not (await town.wallet.consumers.ListBankAccounts(request, metadata=person.token)).bank_accounts


# --- the reference rate -----------------------------------------------------------------------------------------------


async def set_rate(town: Town, micros: int, at: datetime | None = None) -> operations.ReferenceRate:
    effective = Timestamp()
    if at is not None:
        effective.FromDatetime(at)
    request = operations.SetReferenceRateRequest(
        base_currency="EUR",
        quote_currency="USD",
        rate_micros=micros,
        source="ecb",
        effective_time=effective if at is not None else None,
    )
    answer = await town.wallet.operations.SetReferenceRate(request, metadata=MAKER)
    rate: operations.ReferenceRate = answer.reference_rate
    return rate


async def test_a_rate_decides_what_euros_count(town: Town, bob: Person) -> None:
    cleo = await town.settle_in("cleo", EURC=900 * DOLLAR)
    shown = await set_rate(town, 1_250_000)
    assert (shown.rate_micros, shown.source) == (1_250_000, "ecb")
    assert shown.effective_time == shown.create_time
    refusal = await refused(town.pay(cleo, bob, 801 * DOLLAR, asset="EURC"))
    assert refusal.metadata["requested_usd_micros"] == str(801 * 1_250_000)
    await town.pay(cleo, bob, 800 * DOLLAR, asset="EURC")


async def test_each_rate_is_written_down_with_its_source(town: Town) -> None:
    await set_rate(town, 1_111_111)
    act = (await acts_on(town, "EUR/USD"))[-1]
    assert act.action == "rate.set"
    assert act.facts["rate_micros"] == "1111111"
    assert act.facts["source"] == "ecb"


async def test_a_rate_of_an_earlier_time_does_not_replace_a_later_one(town: Town) -> None:
    """Two feeds, one of them late: the figure that held last stays."""
    now = datetime.now(UTC)
    await set_rate(town, 1_200_000, now)
    refusal = await refused(set_rate(town, 1_000_000, now - timedelta(minutes=1)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STATE_CONFLICT")
    rows = await town.books.execute("SELECT rate_micros FROM reference_rates")
    assert rows == [(1_200_000,)]


@pytest.mark.parametrize(("micros", "ahead"), [(99_999, 0), (10_000_001, 0), (1_000_000, 600)])
async def test_a_slip_of_the_finger_is_no_rate(town: Town, micros: int, ahead: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=ahead) if ahead else None
    before = await town.books.execute("SELECT rate_micros, quoted_at FROM reference_rates")
    assert (await refused(set_rate(town, micros, at))).reason == "VALIDATION_FAILED"
    assert await town.books.execute("SELECT rate_micros, quoted_at FROM reference_rates") == before


# --- pausing providers ------------------------------------------------------------------------------------------------


async def probe(town: Town) -> None:
    """What the worker writes after each look at the provider."""
    row = ProviderHealthRow("tempo", True, "closed", 12, 1_000_000, "", datetime.now(UTC))
    async with town.books.engine.begin() as tx:
        await provider_health.record(tx, row)


async def pause(town: Town, provider: str, *, paused: bool = True) -> provider_pb2.ProviderStatus:
    if paused:
        request = operations.PauseProviderRequest(provider=provider, reason="halted")
        answer = await town.wallet.operations.PauseProvider(request, metadata=MAKER)
    else:
        resume = operations.ResumeProviderRequest(provider=provider, reason="back")
        answer = await town.wallet.operations.ResumeProvider(resume, metadata=MAKER)
    status: provider_pb2.ProviderStatus = answer.status
    return status


async def test_a_pause_is_shown_and_outlives_the_next_probe(town: Town) -> None:
    """The worker writes what it sees; what an operator decided is not the worker's to change."""
    await probe(town)
    assert (await pause(town, "tempo")).paused
    await probe(town)
    async with asyncio.timeout(10):
        while not (await shown_status(town)).paused:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    resumed = await pause(town, "tempo", paused=False)
    assert (resumed.provider, resumed.paused, resumed.healthy) == ("tempo", False, True)


async def shown_status(town: Town) -> provider_pb2.ProviderStatus:
    answer = await town.wallet.consumers.GetProviderStatus(GetProviderStatusRequest(), metadata=service())
    found = [status for status in answer.providers if status.provider == "tempo"]
    return found[0] if found else provider_pb2.ProviderStatus()


async def test_pausing_twice_is_one_act(town: Town) -> None:
    await probe(town)
    before = len(await acts_on(town, "tempo"))
    for _ in range(2):
        await pause(town, "tempo")
    for _ in range(2):
        await pause(town, "tempo", paused=False)
    assert (await actions_on(town, "tempo"))[before:] == ["provider.pause", "provider.resume"]


async def test_a_provider_that_is_not_there_is_not_paused(town: Town) -> None:
    for paused in (True, False):
        refusal = await refused(pause(town, "paypal", paused=paused))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "PROVIDER_NOT_FOUND")
        assert refusal.metadata == {"provider": "paypal"}
