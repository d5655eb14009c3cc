"""Bank accounts: sealed as a whole, opened for their owner's list and for the worker that pays them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update

from domain.bank_accounts import BankAccountState, BankDetails
from domain.errors import BankAccountNotActive, BankAccountNotFound
from domain.identity import ConsumerId
from storage.database import Tx
from storage.schema import bank_accounts
from storage.sealing import KeyRing

_b = bank_accounts.c
_PLACE = {"table": "bank_accounts", "column": "details_sealed"}


@dataclass(frozen=True, slots=True)
class BankAccount:
    """A linked bank account."""

    id: UUID
    consumer_id: ConsumerId
    details: BankDetails
    state: BankAccountState
    created_at: datetime


class BankAccounts:
    """Reads and writes bank accounts, with the keys that they are sealed with."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def sealed(self, account: BankAccount, *, request_key: UUID) -> dict[str, Any]:
        """The columns of a new account besides its id, for the command that adds it."""
        return {
            "consumer_id": account.consumer_id,
            "details_sealed": self._ring.seal(json.dumps(asdict(account.details)), row=account.id, **_PLACE),
            "state": account.state,
            "request_key": request_key,
            "created_at": account.created_at,
        }

    def fingerprint(self, details: BankDetails) -> str:
        """The details, fit to be compared for ever: keyed, or a number could be guessed from all there are."""
        return self._ring.fingerprint("bank_account", json.dumps(asdict(details), sort_keys=True)).hex()

    async def linked_by(self, tx: Tx, consumer_id: UUID, request_key: UUID) -> BankAccount:
        """The account that the request with that key linked."""
        wanted = select(bank_accounts).where(_b.consumer_id == consumer_id, _b.request_key == request_key)
        return self._account((await tx.execute(wanted)).one())

    async def find(self, tx: Tx, account_id: UUID) -> BankAccount | None:
        row = (await tx.execute(select(bank_accounts).where(_b.id == account_id))).first()
        return self._account(row) if row else None

    async def active(self, tx: Tx, consumer_id: UUID, account_id: UUID) -> BankAccount:
        """The consumer's account, if money can go there; raises `BankAccountNotFound` or `BankAccountNotActive`."""
        account = await self.find(tx, account_id)
        if account is None or account.consumer_id != consumer_id:
            raise BankAccountNotFound()
        if account.state is not BankAccountState.ACTIVE:
            raise BankAccountNotActive(account.state)
        return account

    async def page(self, tx: Tx, consumer_id: UUID, *, before: UUID | None, limit: int) -> list[BankAccount]:
        """A consumer's accounts, newest first."""
        statement = select(bank_accounts).where(_b.consumer_id == consumer_id)
        if before is not None:
            statement = statement.where(_b.id < before)
        return [self._account(row) for row in await tx.execute(statement.order_by(_b.id.desc()).limit(limit))]

    def _account(self, row: Any) -> BankAccount:
        details = json.loads(self._ring.open(row.details_sealed, row=row.id, **_PLACE))
        return BankAccount(
            row.id, ConsumerId(row.consumer_id), BankDetails(**details), BankAccountState(row.state), row.created_at
        )


async def decide(tx: Tx, account_id: UUID, state: BankAccountState, *, reason: str, now: datetime) -> bool:
    """End the check of a pending account. False: it was ended before, and stays as it was."""
    pending = (_b.id == account_id) & (_b.state == BankAccountState.PENDING)
    ended = update(bank_accounts).where(pending).values(state=state, reason=reason, decided_at=now)
    return (await tx.execute(ended)).rowcount == 1


async def forget(tx: Tx, consumer_id: UUID) -> None:
    """Remove a consumer's accounts for good."""
    await tx.execute(delete(bank_accounts).where(_b.consumer_id == consumer_id))
