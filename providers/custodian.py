"""What the rest of the house may know about a custodian: a company that keeps positions for us and moves them by order.

A chain executes what we signed; a custodian executes what we *ordered*, and signs for itself. So there is no hash to
know beforehand and no expiry to prove: what makes an order single is its key, which the custodian executes at most once
(money rule 4). `TransferRail` moves stablecoins between wallets that it keeps, `BankRail` moves money between a bank
and the operator's account. Both are implemented by `providers.circle`, and by simulated stand-ins.

How an order is carried out, by whoever uses these protocols:

1. *Persist.* Make the order, its key from `order_key`, in the commit that decides for it (float reserved, item routed).
   `order.encode()` is the attempt's payload and `str(order.key)` its reference. Nothing is sent before that commit.
2. *Start.* Note in a commit of its own that a try begins, then `start(order)`: one request, never repeated inside.
   `Accepted` brings the custodian's own id, worth noting and never needed: `observe` finds the order without it.
   `Retryable`: this try did nothing; the same order again, not before `retry_after`.
   `OutcomeUnknown`: the same order again, at any time; a key that was executed answers with what it did then.
   `Rejected`: this try did nothing and the next would not either. It ends the order only if this was the first try
   ever begun; a try before it may still be on its way, so otherwise the order stays open (INDETERMINATE).
3. *Observe* until the state is final. Only `COMPLETE` is booked and only `FAILED` frees the item for another attempt.
   `CONFIRMED` is not final, `ABSENT` proves nothing, `UNRECOGNISED` waits for a person or for better times.
   A webhook is a reason to observe at once, never a fact (money rules 4, 9, 22).

Reads raise `ProviderUnavailable` rather than guess. No call belongs inside a database transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID

from domain.bank_accounts import BankDetails
from domain.clock import Entropy
from domain.money import MAX_MICROS, Asset, Money
from providers.base import Accepted, Outcome, OutcomeUnknown, Rejected, Retryable


def order_key(entropy: Entropy) -> UUID:
    """A new idempotency key. Custodians ask for version 4, which is all chance and no time."""
    return UUID(bytes=entropy.token_bytes(16), version=4)


def only_key(subject: UUID) -> UUID:
    """The idempotency key of what is ordered once at most for an item or a withdrawal.

    It is made from the subject's id, so that whoever decides anew after a restore that forgot the order asks for the
    same thing, and the custodian answers with what it has done (money rule 15).
    """
    return UUID(bytes=sha256(b"monay order " + subject.bytes).digest()[:16], version=4)


# --- Transfers between wallets ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustodyWallet:
    """A wallet that the custodian keeps for a holder of ours: its name there, and its address on the chain."""

    reference: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOrder:
    """One settlement item, ordered from a custodian: as it is persisted, and all that `start` needs after a restart."""

    key: UUID
    item_id: UUID
    amount: Money
    source: CustodyWallet
    destination_address: str
    ordered_at: datetime
    """When it was persisted; look-ups begin a little before."""

    def __post_init__(self) -> None:
        assert self.key.version == 4, "custodians take no other keys"
        assert 0 < self.amount.micros <= MAX_MICROS, "an order moves something"
        assert self.destination_address == self.destination_address.lower(), "addresses are kept in lower case"
        assert self.source.address != self.destination_address, "an order has two ends"

    def encode(self) -> bytes:
        """The order as an attempt's payload."""
        facts = {
            "key": str(self.key),
            "item_id": str(self.item_id),
            "asset": str(self.amount.asset),
            "micros": self.amount.micros,
            "source": self.source.reference,
            "source_address": self.source.address,
            "destination_address": self.destination_address,
            "ordered_at": self.ordered_at.isoformat(),
        }
        return json.dumps(facts, sort_keys=True).encode()

    @classmethod
    def decode(cls, payload: bytes) -> TransferOrder:
        facts: dict[str, Any] = json.loads(payload)
        return cls(
            key=UUID(facts["key"]),
            item_id=UUID(facts["item_id"]),
            amount=Money(Asset(facts["asset"]), facts["micros"]),
            source=CustodyWallet(facts["source"], facts["source_address"]),
            destination_address=facts["destination_address"],
            ordered_at=datetime.fromisoformat(facts["ordered_at"]),
        )


class OrderState(StrEnum):
    """What was last seen of an order. Everything but COMPLETE and FAILED is a reason to look again."""

    ABSENT = "absent"
    """Nothing is known under it, now. It may be on its way still: start it again, never another in its place."""
    PENDING = "pending"
    CONFIRMED = "confirmed"
    """On the chain, and not final there."""
    COMPLETE = "complete"
    FAILED = "failed"
    """Definite: it ended without moving anything."""
    UNRECOGNISED = "unrecognised"
    """A state that we do not know, or an order whose facts are not the ones we gave. Waits, visibly."""

    @property
    def final(self) -> bool:
        return self in (OrderState.COMPLETE, OrderState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A transfer order as the custodian shows it."""

    state: OrderState
    reference: str | None = None
    transaction_hash: str | None = None
    reason: str = ""
    network_fee: Money | None = None
    """What the source wallet paid besides the amount, where the chain's fees are paid in an asset of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletTransfer:
    """Something that arrived in a wallet of ours or left it, whoever ordered it. `item_id` is set if it was us."""

    reference: str
    state: OrderState
    incoming: bool
    wallet_reference: str
    amount: Money | None
    """None where it is no asset of ours, or not a whole number of micros."""
    source_address: str
    destination_address: str
    transaction_hash: str | None
    item_id: UUID | None
    created_at: datetime


class Availability(Protocol):
    """Whether a provider answers."""

    @property
    def name(self) -> str: ...

    async def check(self) -> timedelta | Retryable:
        """A read with our credentials: how long it took, or why it was not answered."""
        ...


class TransferRail(Availability, Protocol):
    """Stablecoins between wallets that the custodian keeps for us, and from them to any address of its chain."""

    @property
    def rail(self) -> str: ...

    @property
    def chain(self) -> str:
        """The chain that the wallets are on; a holder has one wallet on each."""
        ...

    @property
    def assets(self) -> frozenset[Asset]: ...

    async def create_wallets(self, *, key: UUID, count: int, own: bool) -> Sequence[CustodyWallet] | Outcome:
        """New wallets, at most 200. The same key answers with the same wallets.

        `own` wallets are the operator's: they pay their network fees themselves and may have many transfers under way.
        A consumer's has one at a time, and its fees are sponsored.
        """
        ...

    async def label(self, wallet: CustodyWallet, holder: UUID) -> None:
        """Write down at the custodian whose wallet it is, so that a restored database can learn it again."""
        ...

    async def labelled(self, holder: UUID) -> CustodyWallet | None:
        """The wallet that was labelled so, if any."""
        ...

    async def start(self, order: TransferOrder) -> Outcome: ...

    async def observe(self, order: TransferOrder, reference: str | None = None) -> Observation:
        """How the order stands, by the custodian's id for it or else found by item id."""
        ...

    async def transfer(self, reference: str) -> WalletTransfer | None:
        """A transfer by the custodian's id, whoever ordered it. None: there is none."""
        ...

    async def transfers(self, *, since: datetime, until: datetime) -> Sequence[WalletTransfer]:
        """All transfers created in that time, in and out, the oldest first."""
        ...

    async def positions(self, wallet: CustodyWallet) -> Mapping[Asset, int]:
        """What stands in a wallet, in micros, of each asset that the rail carries."""
        ...


# --- Banks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BankLinkOrder:
    """A bank account to be linked. Its details are personal: keep them sealed, and persist the key alone."""

    key: UUID
    details: BankDetails


class LinkState(StrEnum):
    """Whether a linked bank account can be used."""

    PENDING = "pending"
    ACTIVE = "active"
    FAILED = "failed"
    UNRECOGNISED = "unrecognised"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedBank:
    """A bank account as the custodian keeps it. `tracking_reference` names it in wires that come from it."""

    reference: str
    state: LinkState
    tracking_reference: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireInstructions:
    """Where a wire is to be sent, and the reference that says whose it is."""

    tracking_reference: str
    beneficiary_name: str
    beneficiary_address: tuple[str, ...]
    bank_name: str
    bank_address: tuple[str, ...]
    account_number: str
    routing_number: str
    swift_code: str
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDeposit:
    """Money that came from a bank. It counts once it is COMPLETE, and once for each `reference`."""

    reference: str
    state: OrderState
    amount: Money
    fee: Money
    bank_reference: str | None
    tracking_reference: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutOrder:
    """Money to be paid out to a linked bank, as it is persisted.

    Payouts carry no reference of ours. At most one of unknown outcome may be open for each (bank, amount); one that is
    unknown for a day is a person's to decide (money rule 4).
    """

    key: UUID
    amount: Money
    bank_reference: str
    ordered_at: datetime

    def __post_init__(self) -> None:
        assert self.key.version == 4, "custodians take no other keys"
        assert 0 < self.amount.micros <= MAX_MICROS, "an order moves something"

    def encode(self) -> bytes:
        """The order as an attempt's payload."""
        facts = {
            "key": str(self.key),
            "asset": str(self.amount.asset),
            "micros": self.amount.micros,
            "bank_reference": self.bank_reference,
            "ordered_at": self.ordered_at.isoformat(),
        }
        return json.dumps(facts, sort_keys=True).encode()

    @classmethod
    def decode(cls, payload: bytes) -> PayoutOrder:
        facts: dict[str, Any] = json.loads(payload)
        return cls(
            key=UUID(facts["key"]),
            amount=Money(Asset(facts["asset"]), facts["micros"]),
            bank_reference=facts["bank_reference"],
            ordered_at=datetime.fromisoformat(facts["ordered_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutReturn:
    """A payout that the bank sent back, perhaps long after it was complete. Counts once it is COMPLETE itself."""

    reference: str
    state: OrderState
    amount: Money
    fee: Money
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """A payout as the custodian shows it. A COMPLETE one can be returned later."""

    reference: str
    state: OrderState
    amount: Money
    fee: Money
    bank_reference: str
    reason: str = ""
    returned: PayoutReturn | None = None
    created_at: datetime


class BankRail(Availability, Protocol):
    """Money between banks and the operator's account with the custodian."""

    @property
    def rail(self) -> str: ...

    @property
    def assets(self) -> frozenset[Asset]: ...

    async def link(self, order: BankLinkOrder) -> LinkedBank | Rejected | Retryable | OutcomeUnknown:
        """Link a bank account. The same key answers with the same account."""
        ...

    async def linked_bank(self, reference: str) -> LinkedBank | None:
        """A linked bank account. None: there is none."""
        ...

    async def instructions(self, bank_reference: str, asset: Asset) -> WireInstructions:
        """Where a wire from this bank is to go, to become that asset."""
        ...

    async def deposit(self, reference: str) -> BankDeposit | None: ...

    async def deposits(self, *, since: datetime, until: datetime) -> Sequence[BankDeposit]:
        """All deposits created in that time, the oldest first."""
        ...

    async def start_payout(self, order: PayoutOrder) -> Accepted | Rejected | Retryable | OutcomeUnknown:
        """One request to pay out; `Accepted` brings the payout's id, which must be noted."""
        ...

    async def payout(self, reference: str) -> Payout | None:
        """A payout by its id, with its return if it has one. None: there is none."""
        ...

    async def payouts(self, *, since: datetime, until: datetime) -> Sequence[Payout]:
        """All payouts created in that time, the oldest first; the only way to look for one whose answer was lost."""
        ...

    async def positions(self) -> Mapping[Asset, int]:
        """What stands in the operator's account, in micros, ready to be used."""
        ...
