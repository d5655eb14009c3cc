"""The bank rail's worker: links, deposits, payouts and the account they go through, one after the other, for ever.

It polls. An event from the custodian wakes it earlier and is a reason to look, never a fact, so an hour of lost events
costs minutes and no money. What consumers ask for is in our own database and is looked for once a second.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from domain.clock import Clock, Entropy
from domain.errors import Overloaded
from domain.money import Asset
from providers.base import ProviderUnavailable
from providers.custodian import BankRail
from server.ledger_writer import LedgerWriter
from server.workers.bank_books import BankBooks
from server.workers.bank_deposits import BankDeposits
from server.workers.bank_links import BankLinks
from server.workers.bank_payouts import BankPayouts
from storage import bank_payouts
from storage.bank_accounts import BankAccounts
from storage.database import Engine

log = structlog.get_logger()

LOOK_SECONDS = 1.0
# Who asked may have a clock that is behind ours.
CLOCKS_DIFFER = timedelta(seconds=3)


class BankRailWorker:
    """Does everything of the bank rail, in rounds. Any number may run."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        bank: BankRail,
        accounts: BankAccounts,
        clock: Clock,
        entropy: Entropy,
        poll_seconds: float = 10.0,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self.links = BankLinks(engine=engine, bank=bank, accounts=accounts, asset=Asset.USDC, clock=clock)
        self.books = BankBooks(engine=engine, writer=writer, bank=bank, clock=clock, entropy=entropy)
        self.deposits = BankDeposits(engine=engine, writer=writer, bank=bank, clock=clock, entropy=entropy)
        self.payouts = BankPayouts(engine=engine, writer=writer, bank=bank, clock=clock, entropy=entropy)

    def wake(self) -> None:
        """Something happened at the custodian: look at once."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Round after round until `stop` is set."""
        while not stop.is_set():
            woken, began_at = self._woken.is_set(), self._clock.now()
            self._woken.clear()
            await self.step(woken=woken)
            await self._pause(stop, since=began_at - CLOCKS_DIFFER)

    async def step(self, *, woken: bool = False) -> None:
        """One round. Where the custodian is away, the next one goes on."""
        try:
            opened_at = await self.books.opened_at()
            await self.links.step()
            await self.deposits.step(opened_at=opened_at)
            await self.payouts.step(woken=woken)
            await self.books.compare()
        except (ProviderUnavailable, Overloaded) as fault:
            log.info("bank.waiting", detail=str(fault)[:200])

    async def _pause(self, stop: asyncio.Event, *, since: datetime) -> None:
        """Until it is time for the next round, or there is a reason for it."""
        ends, look_at = self._clock.monotonic() + self._poll_seconds, self._clock.monotonic() + LOOK_SECONDS
        while self._clock.monotonic() < ends and not stop.is_set() and not self._woken.is_set():
            await self._clock.sleep(min(0.2, self._poll_seconds))
            if self._clock.monotonic() >= look_at:
                look_at = self._clock.monotonic() + LOOK_SECONDS
                async with self._engine.connect() as tx:
                    if await bank_payouts.asked_since(tx, since):
                        return
