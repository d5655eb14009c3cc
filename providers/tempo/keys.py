"""Keys on Tempo: the operator's, the fee payer's, and one for each consumer, derived from a seed.

Consumers' keys are hardened children of m/44'/60'/0'/0, so that one leaked child tells nothing about the others. With
the parent kept, a child costs one HMAC (7 µs) and its address one curve multiplication (26 µs); deriving each from the
root would cost forty times as much.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

import coincurve
from eth_account.hdaccount.deterministic import HardNode, SoftNode, derive_child_key
from eth_utils.crypto import keccak

from domain.money import Asset
from providers.base import Movement, Party, PartyKind, Signed, SigningRefused
from providers.market import Sale
from providers.tempo.transactions import (
    ChainTerms,
    approval_call,
    build,
    movement_call,
    sale_calls,
    sign,
    sign_sale,
)

_PARENT_PATH: Final = (HardNode(44), HardNode(60), HardNode(0), SoftNode(0))
_REMEMBERED_ADDRESSES: Final = 200_000


class ConsumerKeys:
    """The keys below one seed."""

    def __init__(self, seed: bytes) -> None:
        assert len(seed) >= 16, "BIP-32 wants a seed of at least 128 bits"
        root = hmac.digest(b"Bitcoin seed", seed, "sha512")
        key, chain_code = root[:32], root[32:]
        for node in _PARENT_PATH:
            key, chain_code = derive_child_key(key, chain_code, node)
        self._parent = (key, chain_code)
        self.address = lru_cache(maxsize=_REMEMBERED_ADDRESSES)(self._derive_address)

    def key(self, index: int) -> bytes:
        """The private key of consumer `index`. It is made for one signature and not kept."""
        child, _ = derive_child_key(*self._parent, HardNode(index))
        return child

    def _derive_address(self, index: int) -> str:
        return address_of(self.key(index))


def address_of(key: bytes) -> str:
    """The address of a private key, in lower case."""
    public = coincurve.PublicKey.from_secret(key).format(compressed=False)[1:]
    return "0x" + keccak(public)[12:].hex()


class LocalSigner:
    """A signer that holds its keys in this process. Only workers build one."""

    def __init__(self, *, operator_key: bytes, fee_payer_key: bytes, seed: bytes, terms: ChainTerms) -> None:
        assert operator_key != fee_payer_key, "the fee payer's gas reservations must not touch the float (rule 19)"
        self._operator_key, self._fee_payer_key = operator_key.hex(), fee_payer_key.hex()
        self._consumers = ConsumerKeys(seed)
        self._terms = terms
        self._operator, self._fee_payer = address_of(operator_key), address_of(fee_payer_key)

    @property
    def operator_address(self) -> str:
        return self._operator

    @property
    def fee_payer_address(self) -> str:
        return self._fee_payer

    async def derive_addresses(self, first: int, count: int) -> list[str]:
        # A thousand take 30 ms, and the event loop has streams to serve meanwhile.
        indexes = range(first, first + count)
        return await asyncio.to_thread(lambda: [self._consumers.address(index) for index in indexes])

    async def sign_transfers(self, movements: Sequence[Movement], *, valid_before: datetime) -> Signed:
        for movement in movements:
            self._verify(movement.source)
            self._verify(movement.destination)
        transaction = build([movement_call(m, self._terms) for m in movements], self._terms, valid_before=valid_before)
        return sign(transaction, self._terms, sender_key=self._operator_key, fee_payer_key=self._fee_payer_key)

    async def sign_activation(self, consumer: Party, assets: Sequence[Asset], *, valid_before: datetime) -> Signed:
        self._verify(consumer)
        if consumer.index is None:
            raise SigningRefused("only a consumer's key grants an allowance")
        calls = [approval_call(self._terms.tokens.address(asset), self._operator) for asset in assets]
        transaction = build(calls, self._terms, valid_before=valid_before)
        sender_key = self._consumers.key(consumer.index).hex()
        return sign(transaction, self._terms, sender_key=sender_key, fee_payer_key=self._fee_payer_key)

    async def sign_sale(self, sale: Sale, *, least_micros: int, valid_before: datetime) -> Signed:
        """Sign a sale of the operator's own tokens. It goes to the exchange and to nobody else, so there is no plan."""
        if not (sale.sell_asset.is_usd and sale.buy_asset.is_usd and least_micros > 0):
            raise SigningRefused("the exchange trades dollars, and never for nothing")
        keys = (self._operator_key, self._fee_payer_key)
        calls = sale_calls(sale, least_micros, self._terms)
        return sign_sale(calls, self._terms, valid_before=valid_before, keys=keys)

    def _verify(self, party: Party) -> None:
        """Compare a party with our own derivation; whoever can write to the database must not redirect money."""
        if party.kind is PartyKind.CONSUMER:
            assert party.index is not None
            genuine = party.address == self._consumers.address(party.index)
        elif party.kind is PartyKind.OPERATOR:
            genuine = party.address == self._operator
        else:
            genuine = party.address not in (self._operator, self._fee_payer)
        if not genuine:
            raise SigningRefused(f"{party.address} is not the address of {party.kind} {party.index}")
