"""What a custodian's wallets hold, beside what the books say stands in them: the rail's part of reconciliation.

A round reads some of the wallets, and the next one goes on behind them. What orders under way may have moved already is
no difference, whichever way they end. The totals go where every proof finds them; a wallet that differs on its own,
round after round, is a break with its holder's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from domain.clock import Clock, Entropy
from domain.commands import Break, Command
from domain.identity import OPERATOR, HolderId
from domain.money import Asset, Money
from domain.settlement import QueueKey, Rail
from providers.base import ProviderUnavailable
from providers.custodian import CustodyWallet, TransferRail
from server.ledger_writer import LedgerWriter
from storage import circle_wallets, custody, orders, rail_comparisons
from storage.circle_wallets import CircleWallet
from storage.database import Engine
from storage.rail_comparisons import RailComparison

log = structlog.get_logger()

WALLETS_AT_ONCE = 40
INTERVAL_SECONDS = 20.0
ROUNDS_TO_A_BREAK = 4
FEE_SLACK = Money(Asset.USDC, 50_000)
"""What the network fee of one order that is complete and not booked may have taken."""


@dataclass(frozen=True, slots=True)
class _Slack:
    """How far a wallet may be from the books because of orders under way."""

    out: int = 0
    into: int = 0


class CustodianComparison:
    """Compares one custodian's wallets with the books."""

    def __init__(
        self, *, engine: Engine, writer: LedgerWriter, rail: TransferRail, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._custodian = rail
        self._clock = clock
        self._entropy = entropy
        self._rail = Rail(rail.rail)
        self._after = UUID(int=0)
        self._differs: dict[QueueKey, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Compare every interval until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                try:
                    await self.step()
                except ProviderUnavailable as fault:
                    log.info("custodian_comparison.waiting", detail=str(fault)[:200])
                due = self._clock.monotonic() + INTERVAL_SECONDS
            await self._clock.sleep(0.2)

    async def step(self) -> int:
        """One round; how many positions differ beyond what is under way."""
        async with self._engine.connect() as tx:
            wallets = await self._wallets(await custody.holders_on(tx, self._rail, self._after, WALLETS_AT_ONCE))
            slack = _slack(await orders.movements_under_way(tx, self._rail))
            keys = sorted((holder, asset) for holder in wallets for asset in self._custodian.assets)
            books = await custody.positions(tx, self._rail, keys)
        self._after = max(wallets, default=UUID(int=0)) if len(wallets) >= WALLETS_AT_ONCE else UUID(int=0)
        found = {holder: await self._custodian.positions(_named(wallet)) for holder, wallet in wallets.items()}
        seen = {
            key: (books[key].micros if key in books else 0, found[key[0]].get(key[1], 0), slack.get(key, _Slack()))
            for key in keys
        }
        await self._record(seen)
        return await self._report(seen)

    async def _wallets(self, holders: Sequence[HolderId]) -> Mapping[HolderId, CircleWallet]:
        async with self._engine.connect() as tx:
            return await circle_wallets.of_holders(tx, {OPERATOR, *holders}, chain=self._custodian.chain)

    async def _record(self, seen: Mapping[QueueKey, tuple[int, int, _Slack]]) -> None:
        now = self._clock.now()
        async with self._engine.begin() as tx:
            for asset in sorted(self._custodian.assets):
                rows = [figures for (_, of), figures in seen.items() if of is asset]
                expected = sum(_expected(*row) for row in rows)
                total = RailComparison(self._rail, asset, expected, sum(row[1] for row in rows), now)
                await rail_comparisons.record(tx, total)

    async def _report(self, seen: Mapping[QueueKey, tuple[int, int, _Slack]]) -> int:
        differing = {key for key, figures in seen.items() if _expected(*figures) != figures[1]}
        for key in seen:
            self._differs[key] = self._differs.get(key, 0) + 1 if key in differing else 0
        lasting = sorted(key for key in differing if self._differs[key] == ROUNDS_TO_A_BREAK)
        found = [self._break(key, *seen[key]) for key in lasting]
        if found:
            await self._writer.submit(Command(breaks=tuple(found)))
            log.error("custodian_comparison.breaks", count=len(found), first=str(found[0].facts))
        return len(differing)

    def _break(self, key: QueueKey, books: int, found: int, _slack: _Slack) -> Break:
        facts = {"expected": str(books), "found": str(found)}
        return Break(self._entropy.uuid7(), "position_on_rail", f"{key[0]}:{key[1]}:{self._rail}", facts)


def _named(wallet: CircleWallet) -> CustodyWallet:
    return CustodyWallet(wallet.reference, wallet.address)


def _expected(books: int, found: int, slack: _Slack) -> int:
    """What the books expect. Anything that orders under way explain is as expected."""
    return min(max(found, books - slack.out), books + slack.into)


def _slack(movements: Sequence[tuple[HolderId, HolderId, Money]]) -> dict[QueueKey, _Slack]:
    slack: dict[QueueKey, _Slack] = {}
    for sender, recipient, amount in movements:
        left, right = (sender, amount.asset), (recipient, amount.asset)
        slack[left] = _Slack(slack.get(left, _Slack()).out + amount.micros, slack.get(left, _Slack()).into)
        slack[right] = _Slack(slack.get(right, _Slack()).out, slack.get(right, _Slack()).into + amount.micros)
        fees = (sender, FEE_SLACK.asset)
        slack[fees] = _Slack(slack.get(fees, _Slack()).out + FEE_SLACK.micros, slack.get(fees, _Slack()).into)
    return slack
