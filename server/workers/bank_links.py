"""Links of bank accounts: the job begins one, and this worker brings it to its end with the custodian.

The key of a link is kept before anything is asked for under it, so that a lost answer is asked for again and one
account is never linked twice. An account is active once the custodian says so and its wire instructions are kept,
because processes that answer calls can ask nobody for them.

In a sandbox without a custodian nobody is asked, and every ending can be tried.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from domain.bank_accounts import BankAccountState, BankInstructions
from domain.clock import Clock, Entropy
from domain.money import Asset
from providers.base import OutcomeUnknown, Rejected, Retryable
from providers.custodian import BankLinkOrder, BankRail, LinkedBank, LinkState, WireInstructions, order_key
from server.workers.jobs import Handler
from storage import bank_accounts, bank_links
from storage.bank_accounts import BankAccounts
from storage.bank_links import BankLink
from storage.database import Engine

log = structlog.get_logger()

REFUSED_ENDING = "0000"
LINKS_PER_STEP = 20
# A bank account is checked within minutes or within days.
PAUSE_SECONDS = (1, 5, 30, 300)


def sandbox_link_handler(*, engine: Engine, accounts: BankAccounts, clock: Clock) -> Handler:
    """Accepts every account but those whose number ends in 0000."""

    async def link(body: dict[str, Any]) -> dict[str, Any]:
        account_id = UUID(body["bank_account_id"])
        async with engine.begin() as tx:
            account = await accounts.find(tx, account_id)
            if account is None:
                return {"state": "gone"}
            refused = account.details.last_four == REFUSED_ENDING
            state = BankAccountState.FAILED if refused else BankAccountState.ACTIVE
            reason = "refused by the sandbox" if refused else ""
            await bank_accounts.decide(tx, account_id, state, reason=reason, now=clock.now())
        return {"state": state}

    return link


def link_handler(*, engine: Engine, accounts: BankAccounts, clock: Clock, entropy: Entropy) -> Handler:
    """Begins a link. The job ends here: what the custodian takes days for is no job's to wait for."""

    async def begin(body: dict[str, Any]) -> dict[str, Any]:
        account_id = UUID(body["bank_account_id"])
        async with engine.begin() as tx:
            account = await accounts.find(tx, account_id)
            if account is None:
                return {"state": "gone"}
            key, consumer = order_key(entropy), account.consumer_id
            await bank_links.begin(tx, bank_account_id=account_id, consumer_id=consumer, key=key, now=clock.now())
        return {"state": "begun"}

    return begin


class BankLinks:
    """Brings links forward."""

    def __init__(self, *, engine: Engine, bank: BankRail, accounts: BankAccounts, asset: Asset, clock: Clock) -> None:
        self._engine = engine
        self._bank = bank
        self._accounts = accounts
        self._asset = asset
        self._clock = clock

    async def step(self) -> None:
        """One look at every link that is due."""
        async with self._engine.connect() as tx:
            due = await bank_links.due(tx, now=self._clock.now(), limit=LINKS_PER_STEP)
        for link in due:
            await self._advance(link)

    async def _advance(self, link: BankLink) -> None:
        answer = await self._ask(link)
        match answer:
            case None:
                await self._end(link, BankAccountState.FAILED, reason="the account was forgotten")
            case Rejected(reason=reason):
                await self._end(link, BankAccountState.FAILED, reason=reason)
            case Retryable(reason=reason) | OutcomeUnknown(reason=reason):
                await self._postpone(link, reason)
            case LinkedBank():
                await self._follow(link, answer)

    async def _ask(self, link: BankLink) -> LinkedBank | Rejected | Retryable | OutcomeUnknown | None:
        """The link as the custodian has it; the first time, ask for it. None: there is nothing to link any more."""
        if link.provider_reference is not None:
            return await self._bank.linked_bank(link.provider_reference) or Retryable("the custodian knows none")
        async with self._engine.connect() as tx:
            account = await self._accounts.find(tx, link.bank_account_id)
        if account is None:
            return None
        return await self._bank.link(BankLinkOrder(key=link.key, details=account.details))

    async def _follow(self, link: BankLink, linked: LinkedBank) -> None:
        async with self._engine.begin() as tx:
            named = await bank_links.name(
                tx,
                link,
                provider_reference=linked.reference,
                tracking_reference=linked.tracking_reference,
            )
        if not named:
            await self._end(link, BankAccountState.FAILED, reason="the custodian knows it as another consumer's")
        elif linked.state is LinkState.ACTIVE:
            told = await self._bank.instructions(linked.reference, self._asset)
            await self._end(link, BankAccountState.ACTIVE, instructions=_kept(told))
        elif linked.state is LinkState.FAILED:
            await self._end(link, BankAccountState.FAILED, reason="refused by the custodian")
        else:
            await self._postpone(link, f"the custodian says {linked.state}")

    async def _end(
        self,
        link: BankLink,
        state: BankAccountState,
        *,
        instructions: BankInstructions | None = None,
        reason: str = "",
    ) -> None:
        now = self._clock.now()
        async with self._engine.begin() as tx:
            await bank_links.end(tx, link, state, instructions=instructions, reason=reason[:200], now=now)
            await bank_accounts.decide(tx, link.bank_account_id, state, reason=reason[:200], now=now)
        log.info("bank.link_ended", bank_account_id=str(link.bank_account_id), state=state, reason=reason[:200])

    async def _postpone(self, link: BankLink, reason: str) -> None:
        pause = timedelta(seconds=PAUSE_SECONDS[min(link.tries, len(PAUSE_SECONDS) - 1)])
        async with self._engine.begin() as tx:
            await bank_links.postpone(tx, link, until=self._clock.now() + pause, reason=reason[:200])


def _kept(told: WireInstructions) -> BankInstructions:
    return BankInstructions(
        beneficiary_name=told.beneficiary_name,
        bank_name=told.bank_name,
        account_number=told.account_number,
        routing_number=told.routing_number or told.swift_code,
        reference=told.tracking_reference,
    )
