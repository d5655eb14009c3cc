"""What the rest of the house may know about a rail: the words of settlement, and three protocols.

A provider is a package that implements `SettlementProvider` (it moves money), `ChainReader` (it shows what moved) and
`Signer` (it holds keys), and passes the contract suite in `tests/providers`. Whatever a call was meant to do, it ends
in one of a closed set of outcomes; the important one is `OutcomeUnknown`, which is never turned into "no" by waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from domain.money import MAX_MICROS, Asset
from domain.settlement import AttemptKind

MEMO_BYTES = 32
ITEM_ID_BYTES = 16


# --- What is to be moved, and between whom ---------------------------------------------------------------------------


class PartyKind(StrEnum):
    """The three kinds of holder a movement can run between."""

    CONSUMER = "consumer"
    OPERATOR = "operator"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a movement. `index` is the derivation index of a consumer's key, and None for everybody else.

    The signer derives the address of a consumer from the index again, and refuses when `address` is another: a plan
    read from a database is a request, not an authority (money rule 27).
    """

    kind: PartyKind
    address: str
    index: int | None = None

    def __post_init__(self) -> None:
        assert (self.index is not None) == (self.kind is PartyKind.CONSUMER), "exactly consumers have an index"
        assert self.address == self.address.lower(), "addresses are kept in lower case, so that equal ones are equal"

    @classmethod
    def consumer(cls, *, address: str, index: int) -> Party:
        return cls(PartyKind.CONSUMER, address, index)

    @classmethod
    def operator(cls, address: str) -> Party:
        return cls(PartyKind.OPERATOR, address)

    @classmethod
    def outside(cls, address: str) -> Party:
        return cls(PartyKind.OUTSIDE, address)


@dataclass(frozen=True, slots=True)
class Movement:
    """One settlement item as a provider sees it: an amount from one party to another, named by the item's id."""

    item_id: UUID
    asset: Asset
    micros: int
    source: Party
    destination: Party
    group_id: UUID | None = None
    """Movements of one group are made together or not at all."""

    def __post_init__(self) -> None:
        assert 0 < self.micros <= MAX_MICROS, "a movement moves something, and no more than a ledger can hold"
        assert self.source.kind is not PartyKind.OUTSIDE, "only holders of ours are moved from"
        assert self.source.address != self.destination.address, "a movement has two ends"


def memo_of(item_id: UUID) -> bytes:
    """The memo that names an item on a chain: its sixteen bytes, right-aligned in thirty-two (money rule 12)."""
    return item_id.bytes.rjust(MEMO_BYTES, b"\0")


def item_of(memo: bytes) -> UUID | None:
    """The item a memo names, or None when the memo is somebody else's text."""
    padding, identifier = memo[:-ITEM_ID_BYTES], memo[-ITEM_ID_BYTES:]
    if len(memo) != MEMO_BYTES or any(padding) or not any(identifier):
        return None
    return UUID(bytes=identifier)


# --- Outcomes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it. This says nothing yet about what will stand on the rail; only the reader's events do."""

    reference: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Definite: it did not happen and will not."""

    reason: str
    permanent: bool
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retryable:
    """Definite: nothing was applied, and the same thing may be asked again."""

    reason: str
    retry_after: timedelta = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """It may have happened. Only what the rail itself shows later decides (money rules 1 and 3)."""

    reason: str


Outcome = Accepted | Rejected | Retryable | OutcomeUnknown


class ProviderUnavailable(Exception):
    """A read got no answer, or not from an endpoint that has reached what was asked for. It proves nothing."""


class ChainChanged(Exception):
    """Blocks do not join: an endpoint shows another history than the one already read (money rule 14)."""


class SigningRefused(Exception):
    """The signer's own derivation or limits disagree with what it was asked to sign (money rule 27)."""


class SignerUnavailable(Exception):
    """The signer gave no signature now, for no fault of what it was asked to sign.

    One that was made and lost on the way is harmless: what is not persisted is never sent (money rule 2).
    """

    def __init__(self, reason: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


# --- Attempts --------------------------------------------------------------------------------------------------------


class RefusalReason(StrEnum):
    """Why one movement cannot be made now. The first three are the closed list of permanent ones (money rule 10)."""

    POLICY_FORBIDS = "PolicyForbids"
    INVALID_RECIPIENT = "InvalidRecipient"
    VIRTUAL_ADDRESS_UNREGISTERED = "VirtualAddressUnregistered"
    INSUFFICIENT_BALANCE = "InsufficientBalance"
    INSUFFICIENT_ALLOWANCE = "InsufficientAllowance"
    CONTRACT_PAUSED = "ContractPaused"
    SUPPLY_CAP_EXCEEDED = "SupplyCapExceeded"
    OTHER = "Other"

    @property
    def permanent(self) -> bool:
        return self in PERMANENT_REASONS


PERMANENT_REASONS = frozenset(
    {
        RefusalReason.POLICY_FORBIDS,
        RefusalReason.INVALID_RECIPIENT,
        RefusalReason.VIRTUAL_ADDRESS_UNREGISTERED,
    }
)

Blocked = Literal["source", "destination", "both"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A movement that would revert, seen by simulating at a finalized block; nothing was signed for it.

    `blocked` says whose end a permanent reason lies with, because rule 10 treats the two ends differently. A refusal
    with such a reason waits like any other when the provider could not tell whose.
    """

    item_id: UUID
    reason: RefusalReason
    at_block: int
    blocked: Blocked | None = None
    detail: str = ""

    @property
    def permanent(self) -> bool:
        return self.reason.permanent and self.blocked is not None


@dataclass(frozen=True, slots=True)
class PreparedAttempt:
    """Something signed and not yet sent. It must be persisted before `submit` is called (money rules 1 and 2).

    `payload` is all that `submit` needs, also after a restart. An activation carries the consumer and the assets in
    place of movements; its death is judged by its effect, the allowance, and not by its reference (money rule 6).
    """

    kind: AttemptKind
    payload: bytes
    reference: str
    valid_before: datetime
    signed_at_block: int
    movements: tuple[Movement, ...] = ()
    activates: Party | None = None
    assets: tuple[Asset, ...] = ()


@dataclass(frozen=True, slots=True)
class Preparation:
    """The answer to `prepare`: one attempt over what can move, the offenders, and what has to wait behind them.

    `deferred` names movements that are not at fault themselves: a later one of the same consumer would overtake the
    offender (money rule 7), and one of the offender's group goes only with it (money rule 18). Together the three
    parts name every movement asked for exactly once.
    """

    attempt: PreparedAttempt | None
    refusals: tuple[Refusal, ...] = ()
    deferred: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What one attempt may carry, and for how long a signed one can still take effect."""

    max_movements: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Probe:
    """One successful look at a provider: how long the read took, and the finalized head it showed."""

    latency: timedelta
    head: Head


class SettlementProvider(Protocol):
    """A rail that settles items. Only `submit` has effects."""

    @property
    def name(self) -> str: ...

    @property
    def rail(self) -> str: ...

    @property
    def assets(self) -> frozenset[Asset]: ...

    @property
    def limits(self) -> ProviderLimits: ...

    async def prepare(self, movements: Sequence[Movement]) -> Preparation | Retryable:
        """Simulate the movements in their order, leave offenders out, sign the rest as one atomic attempt.

        Call it outside any database transaction. Asking for more than `limits` allow is a programmer's error.
        """
        ...

    async def prepare_activation(self, consumer: Party, assets: Sequence[Asset]) -> Preparation | Retryable:
        """Sign the operator's allowance over the consumer's assets, with the consumer's own key."""
        ...

    async def submit(self, payload: bytes) -> Outcome:
        """Hand over a persisted payload. Handing it over again is harmless, however the first time ended."""
        ...

    async def probe(self) -> Probe | Retryable:
        """A read that shows whether the provider answers and moves on. Never an item (money rule 5)."""
        ...


# --- What a rail shows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """A finalized block, as one endpoint shows it."""

    endpoint: str
    number: int
    hash: str
    time: datetime


@dataclass(frozen=True, slots=True)
class TransferLog:
    """One token transfer. A transfer with a memo emits two events; this is both, under the first one's index.

    `memo` is the raw memo when there is one, and `item_id` the item it names when it has an item's form.
    """

    block_number: int
    block_hash: str
    block_time: datetime
    transaction_hash: str
    log_index: int
    asset: Asset
    sender: str
    recipient: str
    micros: int
    memo: bytes | None = None

    @property
    def item_id(self) -> UUID | None:
        return item_of(self.memo) if self.memo is not None else None


@dataclass(frozen=True, slots=True)
class FeeLog:
    """The network fee of one chain transaction. `asset` is None when it was paid in a token that is none of ours."""

    block_number: int
    transaction_hash: str
    log_index: int
    payer: str
    token: str
    asset: Asset | None
    micros: int


@dataclass(frozen=True, slots=True)
class Block:
    """A finalized block with everything in it that concerns our tokens, in log order."""

    number: int
    hash: str
    parent_hash: str
    time: datetime
    transfers: tuple[TransferLog, ...]
    fees: tuple[FeeLog, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a chain transaction ended. `succeeded` false is final, too: nothing moved, and the fee was paid."""

    reference: str
    succeeded: bool
    block_number: int
    block_hash: str
    gas_used: int
    fee: FeeLog | None


@dataclass(frozen=True, slots=True)
class Holding:
    """Whose balance, of what."""

    address: str
    asset: Asset


@dataclass(frozen=True, slots=True)
class DeathEvidence:
    """What ONE endpoint shows about a signed reference that should have expired (money rule 3).

    `block` is the block judged at, `finalized` the endpoint's own head, read no later than `receipt`. The caller still
    has to compare `block` with the watcher's cursor and `balances` with custody.
    """

    finalized: Head
    block: Head
    receipt: Receipt | None
    balances: Mapping[Holding, int]

    def shows_expiry(self, valid_before: datetime) -> bool:
        """Whether this endpoint has finalized a block that no longer admits the attempt, and never saw it mined."""
        reached = self.finalized.number >= self.block.number
        return reached and self.block.time >= valid_before and self.receipt is None


class ChainReader(Protocol):
    """Reads of finalized history. Every read raises `ProviderUnavailable` rather than answer from too short a chain."""

    async def chain_id(self) -> int: ...

    async def finalized(self, *, endpoint: str | None = None) -> Head:
        """The finalized head, from the named endpoint or from the healthiest."""
        ...

    async def blocks(self, first: int, last: int, *, endpoint: str | None = None) -> list[Block]:
        """All blocks of the range from one endpoint, parent-linked. Raises `ChainChanged` where they do not join."""
        ...

    async def receipts(self, references: Sequence[str]) -> dict[str, Receipt]:
        """The receipts there are. A missing one proves nothing."""
        ...

    async def balances(self, holders: Sequence[str], asset: Asset, *, at_block: int) -> dict[str, int]:
        """Balances at exactly that block."""
        ...

    async def allowances(self, holders: Sequence[str], asset: Asset, *, at_block: int | None = None) -> dict[str, int]:
        """What the operator may move of each holder's, at that block or at the finalized head."""
        ...

    async def may_receive(self, addresses: Sequence[str], asset: Asset) -> dict[str, bool]:
        """Whether the token's policy lets each address receive, at the finalized head."""
        ...

    async def evidence_of_death(
        self, reference: str, *, holdings: Sequence[Holding], at_block: int | None = None
    ) -> DeathEvidence:
        """What one endpoint shows of the reference at that block, or at its finalized head."""
        ...


# --- Keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed chain transaction: what to send, and the hash that names it."""

    payload: bytes
    reference: str


class Signer(Protocol):
    """Where keys are held. It builds what it signs from movements, so a caller cannot slip a call of its own in."""

    @property
    def operator_address(self) -> str: ...

    @property
    def fee_payer_address(self) -> str: ...

    async def derive_addresses(self, first: int, count: int) -> list[str]:
        """The addresses of consumers `first` to `first + count - 1`, for the pool."""
        ...

    async def sign_transfers(self, movements: Sequence[Movement], *, valid_before: datetime) -> Signed:
        """Sign one atomic batch with the operator's key, sponsored by the fee payer's."""
        ...

    async def sign_activation(self, consumer: Party, assets: Sequence[Asset], *, valid_before: datetime) -> Signed:
        """Sign the operator's allowance with the consumer's key, sponsored by the fee payer's (money rule 6)."""
        ...


class Faucet(Protocol):
    """Development only: money from an account outside the books."""

    async def fund(self, address: str, asset: Asset, micros: int) -> str:
        """Pay the address and return the reference of the payment."""
        ...
