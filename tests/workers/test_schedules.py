"""Scheduled transfers as they run: each occurrence pays once, whoever runs it and whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.commands import Command, Request
from domain.identity import ConsumerId, body_hash, request_key
from domain.money import Asset, Money
from domain.pricing import FeeSchedule
from domain.scheduled_transfers import Run, ScheduledTransfer, ScheduleState
from server.services.rates import ReferenceRates
from server.workers.schedules import ScheduleWorker
from storage import scheduled_transfers
from storage.database import reading, writing
from tests.books import DOLLAR, ENTROPY, FEE, Books, audit, books_of, deposit
from tests.providers.worlds import ManualClock

START = datetime(2027, 1, 31, 9, 30, tzinfo=UTC)
LEASE = timedelta(seconds=30)


@dataclass
class Office:
    """Two people, a calendar that a test turns, and as many workers as it wants."""

    books: Books
    clock: ManualClock
    payer: ConsumerId
    payee: ConsumerId

    def worker(self, **options: Any) -> ScheduleWorker:
        return ScheduleWorker(
            engine=self.books.engine,
            writer=self.books.writer,
            rates=ReferenceRates(engine=self.books.engine, clock=self.clock, max_age=timedelta(days=1)),
            fees=FeeSchedule(),
            clock=self.clock,
            entropy=ENTROPY,
            lease=LEASE,
            **options,
        )

    async def schedule(self, recurrence: str = "", *, micros: int = DOLLAR, asset: Asset = Asset.USDC) -> UUID:
        """What the service puts on the schedule."""
        scheduled = ScheduledTransfer(
            id=ENTROPY.uuid7(),
            consumer=self.payer,
            recipient=self.payee,
            amount=Money(asset, micros),
            memo="rent",
            start_at=START,
            recurrence=recurrence,
            created_at=self.clock.now(),
            next_run_at=START,
        )
        key = request_key(caller="consumer", request_id=str(scheduled.id))
        record = scheduled_transfers.new_record(scheduled, request_key=key)
        request = Request(self.payer, key, body_hash("ScheduleTransfer", str(scheduled.id)))
        await self.books.apply(Command(request=request, sender=self.payer, new_records=(record,)))
        return scheduled.id

    async def settle(self, *workers: ScheduleWorker) -> None:
        """Let the workers go on until none of them finds anything to do."""
        while any([await worker.begin() + await worker.work() for worker in workers or (self.worker(),)]):
            pass

    async def found(self, id: UUID) -> ScheduledTransfer:
        async with reading(self.books.engine) as tx:
            found = await scheduled_transfers.find(tx, id)
        assert found is not None
        return found

    async def paid(self) -> list[datetime]:
        """When each payment of the payer's schedules was recorded, in order."""
        rows = await self.books.execute(
            "SELECT created_at FROM transactions WHERE reference LIKE 'scheduled_transfer/%' ORDER BY created_at, id"
        )
        return [row.created_at for row in rows]

    async def take(self) -> list[Run]:
        """Take runs, as a worker does that dies before it pays them."""
        async with writing(self.books.engine) as tx:
            return await scheduled_transfers.take(tx, now=self.clock.now(), lease=LEASE, limit=100)

    async def cancel(self, id: UUID) -> bool:
        async with writing(self.books.engine) as tx:
            return await scheduled_transfers.cancel(tx, id)


@pytest.fixture
async def office(database: str) -> AsyncIterator[Office]:
    clock = ManualClock()
    clock.advance((START - clock.now()).total_seconds() - 60)
    async with books_of(database, batch_time=clock.now, committers=2) as books:
        payer, payee = await books.open(2, kyc_level=1)
        await books.apply(deposit(payer, 1_000 * DOLLAR))
        yield Office(books, clock, payer, payee)
        await audit(books.engine)


async def test_a_transfer_that_is_scheduled_once_runs_once_at_its_time(office: Office) -> None:
    """Not before, not again; and the payment says what it goes back to."""
    id = await office.schedule()
    await office.settle()
    assert await office.paid() == []
    office.clock.advance(60)
    await office.settle()
    assert await office.paid() == [START]
    office.clock.advance(86_400 * 365)
    await office.settle()
    assert len(await office.paid()) == 1
    found = await office.found(id)
    assert (found.state, found.next_run_at, found.run_count) == (ScheduleState.COMPLETED, None, 1)
    assert (found.last_run_at, found.last_reason) == (START, "")
    (row,) = await office.books.execute("SELECT * FROM transactions WHERE id = :id", id=found.last_transaction_id)
    assert (row.reference, row.memo, row.fee_micros) == (f"scheduled_transfer/{id}", "rent", FEE)
    assert await office.books.available(office.payer, office.payee) == [999 * DOLLAR - FEE, DOLLAR]
    assert len(await office.books.execute("SELECT 1 FROM settlement_items WHERE sender = :id", id=office.payer)) == 1


@pytest.mark.parametrize(
    ("recurrence", "days"),
    [
        ("FREQ=MONTHLY;COUNT=5", ["01-31", "03-31", "05-31", "07-31", "08-31"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=5", ["01-31", "02-28", "03-31", "04-30", "05-31"]),
        ("FREQ=MONTHLY;INTERVAL=3;COUNT=3", ["01-31", "07-31", "10-31"]),
        ("FREQ=WEEKLY;BYDAY=SU,WE;UNTIL=20270210T235959Z", ["01-31", "02-03", "02-07", "02-10"]),
        ("FREQ=DAILY;INTERVAL=2;COUNT=3", ["01-31", "02-02", "02-04"]),
    ],
)
async def test_what_recurs_runs_on_the_days_of_its_rule(office: Office, recurrence: str, days: list[str]) -> None:
    """A month without a 31st is left out, as the standard says; the last day of each month is -1."""
    id = await office.schedule(recurrence)
    worker = office.worker()
    office.clock.advance(60)
    for _ in range(300):
        await office.settle(worker)
        office.clock.advance(86_400)
    assert [time.strftime("%m-%d") for time in await office.paid()] == days
    assert {time.strftime("%H:%M") for time in await office.paid()} == {"09:30"}
    assert (await office.found(id)).state is ScheduleState.COMPLETED


async def test_runs_that_were_missed_are_made_late_and_not_twice(office: Office) -> None:
    """The service was away for a week: each day's payment is made, in order, and then it goes on as before."""
    id = await office.schedule("FREQ=DAILY")
    office.clock.advance(60 + 7 * 86_400)
    await office.settle()
    assert len(await office.paid()) == 8
    rows = await office.books.execute(
        "SELECT occurrence_at FROM scheduled_runs JOIN transactions ON transactions.id = transaction_id"
        " JOIN entries ON entries.transaction_id = transactions.id AND entries.consumer_id = :payer ORDER BY version",
        payer=office.payer,
    )
    assert [row.occurrence_at for row in rows] == [START + timedelta(days=n) for n in range(8)]
    assert (await office.found(id)).next_run_at == START + timedelta(days=8)


# --- once -------------------------------------------------------------------------------------------------------------


async def test_many_workers_run_every_occurrence_once(office: Office) -> None:
    """Five processes look at the same schedules at the same moment."""
    ids = [await office.schedule("FREQ=DAILY;COUNT=4") for _ in range(15)]
    office.clock.advance(60 + 10 * 86_400)
    workers = [office.worker(at_once=4) for _ in range(5)]

    async def toil(worker: ScheduleWorker) -> None:
        while await worker.begin() + await worker.work():
            pass

    await asyncio.gather(*(toil(worker) for worker in workers))
    await office.settle()
    assert len(await office.paid()) == 60
    assert [(await office.found(id)).run_count for id in ids] == [4] * 15
    assert (await office.books.available(office.payee)) == [60 * DOLLAR]


async def test_a_run_is_made_though_its_worker_died_between_beginning_and_taking(office: Office) -> None:
    """What was taken off the schedule is in the runs, so a restart finds it there."""
    await office.schedule()
    office.clock.advance(60)
    await office.worker().begin()
    await office.settle()
    assert len(await office.paid()) == 1


async def test_a_run_is_made_though_its_worker_died_between_claim_and_submit(office: Office) -> None:
    """Nobody else touches it while the lease lasts; after that somebody does, once."""
    await office.schedule()
    office.clock.advance(60)
    await office.worker().begin()
    assert len(await office.take()) == 1
    await office.settle()
    assert await office.paid() == []
    office.clock.advance(LEASE.total_seconds())
    await office.settle(office.worker(), office.worker())
    assert len(await office.paid()) == 1


async def test_a_worker_that_was_slower_than_its_lease_does_not_pay_again(office: Office) -> None:
    """It comes back with a run that another one took over and paid: the payment's name is used up."""
    await office.schedule()
    office.clock.advance(60)
    await office.worker().begin()
    runs = await office.take()
    office.clock.advance(LEASE.total_seconds())
    await office.settle()
    await office.worker().pay(runs)
    assert len(await office.paid()) == 1
    assert await office.books.available(office.payee) == [DOLLAR]


async def test_two_workers_with_the_same_run_pay_once(office: Office) -> None:
    """Both believe that it is theirs, at the same moment, with different transactions in hand."""
    id = await office.schedule()
    office.clock.advance(60)
    await office.worker().begin()
    runs = await office.take()
    await asyncio.gather(*(office.worker().pay(runs) for _ in range(6)))
    assert len(await office.paid()) == 1
    assert (await office.found(id)).last_transaction_id is not None


async def test_rule_21_a_payment_is_named_by_schedule_and_occurrence(office: Office) -> None:
    """Even a run whose end was forgotten, as by a clumsy restore, is not paid twice: the name is used up for ever."""
    await office.schedule()
    office.clock.advance(60)
    await office.settle()
    await office.books.execute(
        "UPDATE scheduled_runs SET state = 'BEGUN', transaction_id = NULL, finished_at = NULL, lease_until = begun_at"
    )
    await office.worker().work()
    assert len(await office.paid()) == 1


async def test_a_run_that_was_refused_is_not_paid_by_a_slow_worker(office: Office) -> None:
    """It is written down as refused, and so it stays: whoever comes later finds the run ended."""
    id = await office.schedule()
    office.clock.advance(60)
    await office.worker().begin()
    runs = await office.take()
    await office.books.execute("UPDATE wallets SET erased_at = now() WHERE consumer_id = :id", id=office.payee)
    await office.worker().pay(runs)
    assert (await office.found(id)).last_reason == "RECIPIENT_NOT_FOUND"
    await office.books.execute("UPDATE wallets SET erased_at = NULL")
    await office.worker().pay(runs)
    assert await office.paid() == []
    assert (await office.found(id)).last_reason == "RECIPIENT_NOT_FOUND"


async def test_a_worker_runs_until_it_is_told_to_stop(office: Office) -> None:
    """The loop itself, as the process starts it, and again after a restart."""
    await office.schedule("FREQ=DAILY;COUNT=3")
    office.clock.advance(60)
    for _ in range(2):
        stop = asyncio.Event()
        running = asyncio.create_task(office.worker(poll_seconds=3_600).run(stop))
        await asyncio.sleep(0.5)
        stop.set()
        await running
    assert len(await office.paid()) == 3


# --- refused, postponed -----------------------------------------------------------------------------------------------


async def test_a_refused_run_is_told_and_not_repeated_and_the_next_one_follows(office: Office) -> None:
    """Too little money on Monday: Monday's payment is not made up for on Tuesday, and Tuesday's is made."""
    id = await office.schedule("FREQ=DAILY", micros=600 * DOLLAR)
    office.clock.advance(60)
    await office.settle()
    office.clock.advance(86_400)
    await office.settle()
    found = await office.found(id)
    assert (found.last_reason, found.run_count) == ("INSUFFICIENT_FUNDS", 2)
    assert found.last_transaction_id is not None, "the first run's payment is still told"
    assert found.last_run_at == START + timedelta(days=1)
    await office.books.apply(deposit(office.payer, 1_000 * DOLLAR))
    await office.settle()
    assert len(await office.paid()) == 1
    office.clock.advance(86_400)
    await office.settle()
    assert await office.paid() == [START, START + timedelta(days=2)]
    found = await office.found(id)
    assert (found.last_reason, found.run_count, found.state) == ("", 3, ScheduleState.ACTIVE)


async def test_the_limit_is_that_of_the_day_on_which_it_runs(office: Office) -> None:
    """A schedule is no way around the limit, and each run counts towards its own day."""
    await office.books.apply(deposit(office.payer, 2_000 * DOLLAR))
    ids = [await office.schedule("FREQ=DAILY;COUNT=2", micros=600 * DOLLAR) for _ in range(2)]
    office.clock.advance(60)
    await office.settle()
    assert sorted([(await office.found(id)).last_reason for id in ids]) == ["", "LIMIT_EXCEEDED"]
    office.clock.advance(86_400)
    await office.settle()
    assert len(await office.paid()) == 2


async def test_flags_are_judged_when_it_runs(office: Office) -> None:
    """Frozen today, the run is refused today; unfrozen tomorrow, the next one is made."""
    id = await office.schedule("FREQ=DAILY;COUNT=2")
    await office.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=office.payer)
    office.clock.advance(60)
    await office.settle()
    assert (await office.found(id)).last_reason == "CONSUMER_FROZEN"
    await office.books.execute("UPDATE wallets SET frozen = false")
    office.clock.advance(86_400)
    await office.settle()
    found = await office.found(id)
    assert (found.last_reason, found.state) == ("", ScheduleState.COMPLETED)
    assert await office.paid() == [START + timedelta(days=1)]


async def test_a_run_that_nothing_could_be_decided_about_is_made_later(office: Office) -> None:
    """Without a fresh rate euros cannot be judged: that is no refusal, so the run waits until it can be."""
    await office.books.apply(deposit(office.payer, 100 * DOLLAR, asset=Asset.EURC))
    id = await office.schedule(asset=Asset.EURC)
    worker = office.worker()
    office.clock.advance(60)
    await office.settle(worker)
    assert (await office.found(id)).last_run_at is None
    await office.books.execute("INSERT INTO reference_rates VALUES ('EUR/USD', 1100000, 'test', :at)", at=START)
    office.clock.advance(LEASE.total_seconds())
    await office.settle(worker)
    found = await office.found(id)
    assert (found.last_reason, found.last_run_at) == ("", START + LEASE)
    assert len(await office.paid()) == 1


# --- cancelled --------------------------------------------------------------------------------------------------------


async def test_a_run_that_has_begun_is_finished_and_none_follows_a_cancellation(office: Office) -> None:
    """The line is drawn where the occurrence leaves the schedule."""
    id = await office.schedule("FREQ=DAILY")
    office.clock.advance(60)
    await office.worker().begin()
    assert await office.cancel(id)
    office.clock.advance(5 * 86_400)
    await office.settle()
    assert len(await office.paid()) == 1
    found = await office.found(id)
    assert (found.state, found.next_run_at, found.run_count) == (ScheduleState.CANCELLED, None, 1)


async def test_a_schedule_that_is_cancelled_before_its_time_never_runs(office: Office) -> None:
    """Also when it is due at the moment at which it is cancelled."""
    id = await office.schedule("FREQ=DAILY")
    office.clock.advance(60)
    assert await office.cancel(id)
    assert not await office.cancel(id)
    await office.settle()
    assert await office.paid() == []


async def test_cancelling_and_running_at_once_leaves_no_run_without_its_payment(office: Office) -> None:
    """Whoever comes first: what began is paid, what did not begin is not, and the count tells which."""
    ids = [await office.schedule("FREQ=DAILY") for _ in range(20)]
    office.clock.advance(60)
    workers = [office.worker(at_once=3) for _ in range(2)]
    cancels = [office.cancel(id) for id in ids]
    await asyncio.gather(*cancels, *(office.settle(worker) for worker in workers))
    await office.settle()
    runs = [(await office.found(id)).run_count for id in ids]
    assert {(await office.found(id)).state for id in ids} == {ScheduleState.CANCELLED}
    assert set(runs) <= {0, 1}
    assert sum(runs) == len(await office.paid())


async def test_the_database_lets_no_occurrence_begin_twice(office: Office) -> None:
    """Should a worker ever compute an occurrence again, the row of the first one stands in the way."""
    id = await office.schedule("FREQ=DAILY")
    office.clock.advance(60)
    await office.worker().begin()
    scheduled = replace(await office.found(id), next_run_at=START)
    with pytest.raises(Exception, match="scheduled_runs_scheduled_transfer_id_occurrence_at_key"):
        async with writing(office.books.engine) as tx:
            await scheduled_transfers.begin(tx, [(ENTROPY.uuid7(), scheduled, None)], now=office.clock.now())
