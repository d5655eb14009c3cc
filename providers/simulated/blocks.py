"""One block being made: each transaction's calls all or none, its events numbered, its fee charged either way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.money import Asset
from providers.base import Block, FeeLog, Holding, Receipt, TransferLog
from providers.simulated.state import UNLIMITED, TokenState
from providers.simulated.transactions import SimulatedTransaction, TransferCall, decode, reference_of

FEE_MICROS: Final = 1_000
FEE_ASSET: Final = Asset.USDC
_GAS_PER_CALL: Final = 25_000


@dataclass(slots=True)
class BlockMaker:
    """Plays transactions onto the state and gathers what they leave behind."""

    state: TokenState
    number: int
    hash: str
    parent_hash: str
    time: datetime
    receipts: list[Receipt] = field(default_factory=list)
    _transfers: list[TransferLog] = field(default_factory=list)
    _fees: list[FeeLog] = field(default_factory=list)
    _next_index: int = 0

    def add(self, payload: bytes) -> None:
        """Play one transaction. One whose fee cannot be paid leaves nothing at all, as on Tempo."""
        transaction, reference = decode(payload), reference_of(payload)
        if transaction.fee_payer is not None and not can_pay(self.state, transaction.fee_payer):
            return
        succeeded = self.state.execute(transaction.transfers, transaction.sender, at_block=self.number)
        if succeeded:
            self._approve(transaction)
            self._log(transaction.transfers, reference)
        self.receipts.append(
            Receipt(
                reference=reference,
                succeeded=succeeded,
                block_number=self.number,
                block_hash=self.hash,
                gas_used=_GAS_PER_CALL * (len(transaction.transfers) + len(transaction.approvals)),
                fee=self._charge(transaction.fee_payer, reference),
            )
        )

    def finish(self) -> Block:
        return Block(self.number, self.hash, self.parent_hash, self.time, tuple(self._transfers), tuple(self._fees))

    def _approve(self, transaction: SimulatedTransaction) -> None:
        for asset in transaction.approvals:
            self.state.allowances.set(Holding(transaction.sender, asset), UNLIMITED, at_block=self.number)

    def _log(self, calls: Sequence[TransferCall], reference: str) -> None:
        for call in calls:
            self._transfers.append(
                TransferLog(
                    block_number=self.number,
                    block_hash=self.hash,
                    block_time=self.time,
                    transaction_hash=reference,
                    log_index=self._next_index,
                    asset=call.asset,
                    sender=call.source,
                    recipient=call.destination,
                    micros=call.micros,
                    memo=call.memo,
                )
            )
            # A transfer with a memo emits two events on Tempo, and is counted once, under the first one's index.
            self._next_index += 1 if call.memo is None else 2

    def _charge(self, fee_payer: str | None, reference: str) -> FeeLog | None:
        if fee_payer is None:
            return None
        purse = Holding(fee_payer, FEE_ASSET)
        self.state.balances.set(purse, self.state.balances.latest[purse] - FEE_MICROS, at_block=self.number)
        fee = FeeLog(self.number, reference, self._next_index, fee_payer, FEE_ASSET.value, FEE_ASSET, FEE_MICROS)
        self._fees.append(fee)
        self._next_index += 1
        return fee


def can_pay(state: TokenState, fee_payer: str) -> bool:
    """Whether an account has enough for the fee of one transaction."""
    return state.balances.latest.get(Holding(fee_payer, FEE_ASSET), 0) >= FEE_MICROS
