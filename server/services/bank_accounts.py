"""Bank accounts: linked at once, checked by the provider afterwards.

Nothing moves, but a link is asked for under a request id and refused to frozen wallets, so it goes through the ledger's
door like a transfer: one commit holds the account, the request id and the job for the provider's worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from domain.bank_accounts import BankAccountState, BankDetails
from domain.clock import Clock, Entropy
from domain.commands import Command, NewRecord, RecordKind, Request
from domain.errors import RailUnsupported, WalletError
from domain.identity import ConsumerId, body_hash, request_key
from domain.ledger_state import Refused
from server.ledger_writer import LedgerWriter
from storage.bank_accounts import BankAccount, BankAccounts
from storage.database import Engine, reading

LINK_JOB = "bank_link"
RAILS = frozenset({"WIRE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOrder:
    """What a caller asks for."""

    consumer: ConsumerId
    details: BankDetails = field(repr=False)
    rail: str
    caller: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Linked:
    """The account, new or (`replayed`) since an earlier call with the same request id."""

    account: BankAccount
    replayed: bool


class BankAccountService:
    """Links bank accounts."""

    def __init__(
        self, *, engine: Engine, writer: LedgerWriter, accounts: BankAccounts, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._accounts = accounts
        self._clock = clock
        self._entropy = entropy

    async def link(self, order: LinkOrder, *, deadline: float) -> Linked:
        """Link the account, or raise why not."""
        key = request_key(caller=order.caller, request_id=order.request_id)
        account_id = self._entropy.uuid7()
        outcome = await self._writer.submit(self._command(order, account_id, key), deadline=deadline)
        if isinstance(outcome, Refused):
            raise outcome.error
        async with reading(self._engine) as tx:
            account = await self._accounts.linked_by(tx, order.consumer, key)
        return Linked(account, replayed=account.id != account_id)

    def _command(self, order: LinkOrder, account_id: UUID, key: UUID) -> Command:
        said = (self._accounts.fingerprint(order.details), order.rail)
        request = Request(order.consumer, key, body_hash("LinkBankAccount", *said), order.request_id)
        doom: WalletError | None = None if order.rail in RAILS else RailUnsupported(order.rail)
        now = self._clock.now()
        account = BankAccount(account_id, order.consumer, order.details, BankAccountState.PENDING, now)
        columns = self._accounts.sealed(account, request_key=key)
        job = {"kind": LINK_JOB, "key": str(account_id), "body": {"bank_account_id": str(account_id)}}
        return Command(
            request=request,
            sender=order.consumer,
            new_records=(
                NewRecord(kind=RecordKind.BANK_ACCOUNT, id=account_id, values=columns),
                NewRecord(
                    kind=RecordKind.PROVIDER_JOB,
                    id=self._entropy.uuid7(),
                    values={**job, "state": "waiting", "created_at": now},
                ),
            ),
            doom=doom,
        )
