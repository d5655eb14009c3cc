"""The simulated chain's transactions: a list of calls, who pays for it, and until when it may be mined.

A payload is the transaction as canonical JSON and its reference is the payload's hash, so that equal intentions are
equal bytes, as on a real chain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from domain.money import Asset
from providers.base import Movement, memo_of


@dataclass(frozen=True, slots=True)
class TransferCall:
    """Tokens from one address to another, by their owner or by the operator's allowance."""

    asset: Asset
    source: str
    destination: str
    micros: int
    memo: bytes | None = None


@dataclass(frozen=True, slots=True)
class SimulatedTransaction:
    """One atomic list of calls. `approvals` are the assets over which the sender grants the operator its allowance."""

    sender: str
    fee_payer: str | None
    valid_before: datetime
    transfers: tuple[TransferCall, ...] = ()
    approvals: tuple[Asset, ...] = ()
    salt: str = ""

    def encode(self) -> bytes:
        document = {
            "sender": self.sender,
            "fee_payer": self.fee_payer,
            "valid_before": int(self.valid_before.timestamp()),
            "transfers": [_transfer_fields(call) for call in self.transfers],
            "approvals": [asset.value for asset in self.approvals],
            "salt": self.salt,
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def decode(payload: bytes) -> SimulatedTransaction:
    document: dict[str, Any] = json.loads(payload)
    return SimulatedTransaction(
        sender=document["sender"],
        fee_payer=document["fee_payer"],
        valid_before=datetime.fromtimestamp(document["valid_before"], UTC),
        transfers=tuple(_transfer_call(fields) for fields in document["transfers"]),
        approvals=tuple(Asset(asset) for asset in document["approvals"]),
        salt=document["salt"],
    )


def reference_of(payload: bytes) -> str:
    return "0x" + sha256(payload).hexdigest()


def transfer_calls(movements: Sequence[Movement]) -> tuple[TransferCall, ...]:
    return tuple(
        TransferCall(m.asset, m.source.address, m.destination.address, m.micros, memo_of(m.item_id)) for m in movements
    )


def _transfer_fields(call: TransferCall) -> list[Any]:
    return [call.asset.value, call.source, call.destination, call.micros, call.memo.hex() if call.memo else None]


def _transfer_call(fields: list[Any]) -> TransferCall:
    asset, source, destination, micros, memo = fields
    return TransferCall(Asset(asset), source, destination, micros, bytes.fromhex(memo) if memo else None)
