"""Keys without cryptography: addresses are hashes of a seed and an index, and what is signed is only encoded.

The checks are the real signer's: a party whose address is not the one derived here is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from domain.money import Asset
from providers.base import Movement, Party, PartyKind, Signed, SigningRefused
from providers.simulated.transactions import SimulatedTransaction, reference_of, transfer_calls


class SimulatedSigner:
    """A signer over one seed."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._operator, self._fee_payer = self._address("operator"), self._address("fee payer")

    @property
    def operator_address(self) -> str:
        return self._operator

    @property
    def fee_payer_address(self) -> str:
        return self._fee_payer

    async def derive_addresses(self, first: int, count: int) -> list[str]:
        return [self._address(str(index)) for index in range(first, first + count)]

    async def sign_transfers(self, movements: Sequence[Movement], *, valid_before: datetime) -> Signed:
        for movement in movements:
            self._verify(movement.source)
            self._verify(movement.destination)
        calls = transfer_calls(movements)
        return _signed(SimulatedTransaction(self._operator, self._fee_payer, valid_before, transfers=calls))

    async def sign_activation(self, consumer: Party, assets: Sequence[Asset], *, valid_before: datetime) -> Signed:
        self._verify(consumer)
        if consumer.kind is not PartyKind.CONSUMER:
            raise SigningRefused("only a consumer's key grants an allowance")
        approvals = tuple(assets)
        return _signed(SimulatedTransaction(consumer.address, self._fee_payer, valid_before, approvals=approvals))

    def _verify(self, party: Party) -> None:
        if party.kind is PartyKind.CONSUMER:
            genuine = party.address == self._address(str(party.index))
        elif party.kind is PartyKind.OPERATOR:
            genuine = party.address == self._operator
        else:
            genuine = party.address not in (self._operator, self._fee_payer)
        if not genuine:
            raise SigningRefused(f"{party.address} is not the address of {party.kind} {party.index}")

    def _address(self, name: str) -> str:
        return "0x" + sha256(self._seed + name.encode()).hexdigest()[:40]


def _signed(transaction: SimulatedTransaction) -> Signed:
    payload = transaction.encode()
    return Signed(payload, reference_of(payload))
