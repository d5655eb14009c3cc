"""The operator's account with the custodian of the bank rail: how its books begin, and whether they are right.

The float is what stands in the account when the worker first looks, together with which deposits it is made of, so that
none of them is ever credited on top. Afterwards the account is compared with the books at every round: what the
custodian has ready is what our position says, less the payouts it has taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from domain.bank_deposits import CALLER
from domain.clock import Clock, Entropy
from domain.commands import Command, CustodyChange, Request
from domain.identity import OPERATOR, TransactionId, body_hash
from domain.ledger_state import Refused
from domain.money import Asset
from domain.postings import AccountKind, Posting, Transaction, TransactionKind, operator_account
from domain.settlement import Rail
from providers.base import ProviderUnavailable
from providers.custodian import BankDeposit, BankRail, OrderState
from server.ledger_writer import LedgerWriter
from server.workers.bank_deposits import AHEAD, arrived
from storage import bank_deposits, bank_payouts, custody, rail_comparisons
from storage.database import Engine, Tx
from storage.rail_comparisons import RailComparison

log = structlog.get_logger()

BEFORE_OPENING = timedelta(days=30)
"""How old a deposit may be that is still on its way when the books begin."""


class BankBooks:
    """Opens the books of the bank rail and compares them."""

    def __init__(self, *, engine: Engine, writer: LedgerWriter, bank: BankRail, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._writer = writer
        self._bank = bank
        self._clock = clock
        self._entropy = entropy

    async def opened_at(self) -> datetime:
        """When they began; they begin now if they have not."""
        async with self._engine.connect() as tx:
            opened = await bank_deposits.opened_at(tx)
        if opened is None:
            await self._open()
            async with self._engine.connect() as tx:
                opened = await bank_deposits.opened_at(tx)
        assert opened is not None, "opening leaves its request behind"
        return opened

    async def _open(self) -> None:
        before = await self._complete()
        floats = await self._bank.positions()
        after = await self._complete()
        if before.keys() != after.keys():
            raise ProviderUnavailable("money arrived while the account was being read")
        outcome = await self._writer.submit(self._opening(floats, after))
        if isinstance(outcome, Refused):
            raise outcome.error
        log.info("bank.opened", floats={str(asset): micros for asset, micros in floats.items()}, deposits=len(after))

    async def _complete(self) -> dict[str, BankDeposit]:
        now = self._clock.now()
        seen = await self._bank.deposits(since=now - BEFORE_OPENING, until=now + AHEAD)
        return {one.reference: one for one in seen if one.state is OrderState.COMPLETE}

    def _opening(self, floats: Mapping[Asset, int], deposits: Mapping[str, BankDeposit]) -> Command:
        held = {asset: micros for asset, micros in sorted(floats.items()) if micros}
        outside, treasury = operator_account(AccountKind.EXTERNAL_MINT), operator_account(AccountKind.TREASURY)
        now = self._clock.now()
        kept = [arrived(self._entropy, one) for one in deposits.values()]
        return Command(
            transactions=tuple(
                Transaction(
                    id=TransactionId(self._entropy.uuid7()),
                    kind=TransactionKind.FLOAT,
                    consumer_id=OPERATOR,
                    counterparty_id=None,
                    asset=asset,
                    micros=micros,
                    caller=CALLER,
                    reference=f"{Rail.MINT}:opening",
                )
                for asset, micros in held.items()
            ),
            postings=tuple((Posting(outside, treasury, asset, micros),) for asset, micros in held.items()),
            request=Request(OPERATOR, bank_deposits.OPENING_KEY, body_hash("OpenBankRail")),
            custody=tuple(CustodyChange(OPERATOR, Rail.MINT, asset, micros) for asset, micros in held.items()),
            new_records=tuple(bank_deposits.opening_record(one, now=now) for one in kept),
        )

    async def compare(self) -> None:
        """Keep what the custodian says beside what the books say."""
        found = await self._bank.positions()
        async with self._engine.begin() as tx:
            for asset in sorted(self._bank.assets):
                seen = await self._comparison(tx, asset, found.get(asset, 0))
                await rail_comparisons.record(tx, seen)
                if seen.expected_micros != seen.found_micros:
                    log.warning("bank.differs", asset=asset, expected=seen.expected_micros, found=seen.found_micros)

    async def _comparison(self, tx: Tx, asset: Asset, found: int) -> RailComparison:
        position = (await custody.positions(tx, Rail.MINT, [(OPERATOR, asset)])).get((OPERATOR, asset))
        taken, unknown = await bank_payouts.in_transit(tx, asset)
        most = (position.micros if position else 0) - taken
        # What is out and unknown may be gone or not. Anything between is no difference.
        expected = min(max(found, most - unknown), most)
        return RailComparison(Rail.MINT, asset, expected, found, self._clock.now())
