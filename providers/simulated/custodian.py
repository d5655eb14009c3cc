"""A custodian in memory: keeps wallets, takes orders, and moves them along when the caller says so.

It executes a key at most once, whatever becomes of its answers. An order reserves at once, moves money only when it is
complete, and may end at any time before that: even after it was seen on the chain, as a reorganisation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from domain.clock import Clock, Entropy
from domain.money import Asset, Money
from domain.settlement import Rail
from providers.base import Accepted, Holding, Outcome, OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.custodian import CustodyWallet, Observation, OrderState, TransferOrder, WalletTransfer

CHAIN: Final = "SIMULATED"
NETWORK_FEE: Final = Money(Asset.USDC, 500)
"""What an order from a wallet of the operator's costs. Consumers' are sponsored."""


@dataclass(slots=True)
class CustodianFaults:
    """Switches and counters, as those of the simulated chain.

    `drop_orders`: so many orders never arrive, and nobody says so. `lose_answers`: so many are executed without an
    answer. `throttle`: so many are put off. `unlisted`: what was ordered is not found by item id for now. `stuck`:
    orders do not move. `unreachable`: no answers at all.
    """

    drop_orders: int = 0
    lose_answers: int = 0
    throttle: int = 0
    unlisted: bool = False
    stuck: bool = False
    unreachable: bool = False


@dataclass(slots=True)
class ExecutedOrder:
    """An order as the custodian has it."""

    order: TransferOrder
    reference: str
    created_at: datetime
    state: OrderState = OrderState.PENDING
    reason: str = ""
    network_fee: Money | None = None

    @property
    def transaction_hash(self) -> str | None:
        seen = (OrderState.CONFIRMED, OrderState.COMPLETE)
        return "0x" + sha256(self.reference.encode()).hexdigest() if self.state in seen else None


@dataclass(slots=True)
class Hint:
    """A webhook that is due: something happened to this transfer."""

    reference: str


class SimulatedCustodian:
    """Implements `TransferRail` over memory."""

    name = "circle"
    rail = str(Rail.CIRCLE)
    chain = CHAIN
    assets = frozenset({Asset.USDC, Asset.EURC})

    def __init__(self, *, clock: Clock, entropy: Entropy) -> None:
        self._clock, self._entropy = clock, entropy
        self.faults = CustodianFaults()
        self.wallets: dict[str, CustodyWallet] = {}
        self.own: set[str] = set()
        self.standing: dict[Holding, int] = {}
        """What stands in each wallet for good."""
        self.executed: dict[UUID, ExecutedOrder] = {}
        """By key: each at most once."""
        self.incoming: list[WalletTransfer] = []
        self.hints: list[Hint] = []
        self._made: dict[UUID, list[CustodyWallet]] = {}
        self._labels: dict[UUID, CustodyWallet] = {}

    # --- what the world does to it ------------------------------------------------------------------------------------

    def fund(self, wallet: CustodyWallet, amount: Money) -> str:
        """Money from outside, complete at once."""
        self._move(wallet.address, amount)
        reference = str(self._entropy.uuid7())
        self.incoming.append(
            WalletTransfer(
                reference=reference,
                state=OrderState.COMPLETE,
                wallet_reference=wallet.reference,
                amount=amount,
                incoming=True,
                source_address="0x" + "0f" * 20,
                destination_address=wallet.address,
                transaction_hash=None,
                item_id=None,
                created_at=self._clock.now(),
            )
        )
        self.hints.append(Hint(reference))
        return reference

    def under_way(self) -> list[ExecutedOrder]:
        return [order for order in self.executed.values() if not order.state.final]

    def advance(self, order: ExecutedOrder, state: OrderState, *, reason: str = "") -> None:
        """Move one order along. Money moves when it is complete."""
        assert not order.state.final, "what has ended stays so"
        order.state, order.reason = state, reason
        if state is OrderState.COMPLETE:
            amount, source = order.order.amount, order.order.source
            self._move(source.address, Money(amount.asset, -amount.micros))
            self._move(order.order.destination_address, amount)
            if source.reference in self.own:
                order.network_fee = NETWORK_FEE
                self._move(source.address, Money(NETWORK_FEE.asset, -NETWORK_FEE.micros))
        self.hints.append(Hint(order.reference))

    def complete_all(self) -> None:
        """Everything under way is complete now, unless orders are stuck."""
        for order in [] if self.faults.stuck else self.under_way():
            self.advance(order, OrderState.COMPLETE)

    def _move(self, address: str, amount: Money) -> None:
        holding = Holding(address, amount.asset)
        self.standing[holding] = self.standing.get(holding, 0) + amount.micros
        assert self.standing[holding] >= 0, f"{address} has no {amount.asset} left"

    # --- the protocol -------------------------------------------------------------------------------------------------

    async def check(self) -> timedelta | Retryable:
        return Retryable("the simulated custodian is unreachable") if self.faults.unreachable else timedelta()

    async def create_wallets(self, *, key: UUID, count: int, own: bool) -> Sequence[CustodyWallet] | Outcome:
        if self.faults.unreachable:
            return OutcomeUnknown("the simulated custodian is unreachable")
        if key not in self._made:
            self._made[key] = [self._new_wallet() for _ in range(count)]
            self.own |= {wallet.reference for wallet in self._made[key]} if own else set()
        return self._made[key]

    def _new_wallet(self) -> CustodyWallet:
        number = len(self.wallets)
        wallet = CustodyWallet(f"wallet-{number}", "0x" + sha256(f"{CHAIN} {number}".encode()).hexdigest()[:40])
        self.wallets[wallet.address] = wallet
        return wallet

    async def label(self, wallet: CustodyWallet, holder: UUID) -> None:
        self._expect_answer()
        self._labels[holder] = wallet

    async def labelled(self, holder: UUID) -> CustodyWallet | None:
        self._expect_answer()
        return self._labels.get(holder)

    async def start(self, order: TransferOrder) -> Outcome:
        faults = self.faults
        if faults.unreachable:
            return OutcomeUnknown("the simulated custodian is unreachable")
        if faults.throttle > 0:
            faults.throttle -= 1
            return Retryable("too many requests", retry_after=timedelta(seconds=2))
        if faults.drop_orders > 0:
            faults.drop_orders -= 1
            return OutcomeUnknown("the order was lost")
        refusal = self._refusal(order)
        if refusal is not None:
            return refusal
        executed = self.executed.setdefault(
            order.key, ExecutedOrder(order, str(self._entropy.uuid7()), self._clock.now())
        )
        if faults.lose_answers > 0:
            faults.lose_answers -= 1
            return OutcomeUnknown("the answer was lost")
        return Accepted(executed.reference)

    def _refusal(self, order: TransferOrder) -> Rejected | Retryable | None:
        known = self.executed.get(order.key)
        if known is not None:
            return None if known.order == order else Rejected("the key belongs to another order", permanent=True)
        waiting = [other for other in self.under_way() if other.order.source == order.source]
        if waiting and order.source.reference not in self.own:
            return Retryable("the wallet has a transfer under way")
        asset = order.amount.asset
        reserved = sum(other.order.amount.micros for other in waiting if other.order.amount.asset is asset)
        if self.standing.get(Holding(order.source.address, asset), 0) - reserved < order.amount.micros:
            return Rejected("insufficient funds", permanent=False)
        return None

    async def observe(self, order: TransferOrder, reference: str | None = None) -> Observation:
        self._expect_answer()
        known = self.executed.get(order.key)
        if known is None or (reference is None and self.faults.unlisted):
            return Observation(state=OrderState.ABSENT)
        return Observation(
            state=known.state,
            reference=known.reference,
            transaction_hash=known.transaction_hash,
            reason=known.reason,
            network_fee=known.network_fee,
        )

    async def transfer(self, reference: str) -> WalletTransfer | None:
        self._expect_answer()
        return next((one for one in self._transfers() if one.reference == reference), None)

    async def transfers(self, *, since: datetime, until: datetime) -> Sequence[WalletTransfer]:
        self._expect_answer()
        return sorted(
            (one for one in self._transfers() if since <= one.created_at <= until),
            key=lambda one: (one.created_at, one.reference),
        )

    async def positions(self, wallet: CustodyWallet) -> Mapping[Asset, int]:
        self._expect_answer()
        return {asset: self.standing.get(Holding(wallet.address, asset), 0) for asset in sorted(self.assets)}

    def _transfers(self) -> Iterator[WalletTransfer]:
        yield from self.incoming
        for one in self.executed.values():
            yield WalletTransfer(
                reference=one.reference,
                state=one.state,
                wallet_reference=one.order.source.reference,
                amount=one.order.amount,
                incoming=False,
                source_address=one.order.source.address,
                destination_address=one.order.destination_address,
                transaction_hash=one.transaction_hash,
                item_id=one.order.item_id,
                created_at=one.created_at,
            )

    def _expect_answer(self) -> None:
        if self.faults.unreachable:
            raise ProviderUnavailable("the simulated custodian is unreachable")
