"""Tempo transactions (type 0x76) as we use them, and the rules the real network has and the dev chain lacks.

Every transaction we sign has an expiring nonce: no nonce state, no gaps, several in flight, and a moment after which it
is provably dead. The fee payer signs apart from the sender, so that the gas reserved up front comes out of an account
that settles nothing (money rule 19).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from eth_utils.crypto import keccak
from pytempo import Call, TempoTransaction

from providers.base import Movement, PartyKind, Signed, SigningRefused, memo_of
from providers.market import Sale
from providers.tempo import contracts
from providers.tempo.contracts import Tokens, address_bytes

MAX_CALLS: Final = 32
MAX_GAS: Final = 30_000_000
EXPIRING_NONCE_KEY: Final = 2**256 - 1

# The network admits 30 s from its own head to `valid_before`; we never ask for the last of them.
MAX_WINDOW: Final = timedelta(seconds=28)

# A payment call to a holder who is new to the token costs up to 300,000 gas, 250,000 of them for the new slot. Gas that
# is not used is given back, so a bound that always fits beats an estimate that needs another round trip.
_GAS_BASE: Final = 100_000
_GAS_PER_CALL: Final = 320_000


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """What every transaction of ours has in common on one chain."""

    chain_id: int
    tokens: Tokens
    fee_token: str
    max_fee_per_gas: int = 24_000_000_000
    max_priority_fee_per_gas: int = 600_000_000

    def gas_limit(self, calls: int) -> int:
        return min(MAX_GAS, _GAS_BASE + _GAS_PER_CALL * calls)

    def fee_reservation_micros(self, calls: int) -> int:
        """What the fee payer must have for the transaction to be admitted, rounded up (gas prices are in 10⁻¹⁸)."""
        return -(-self.gas_limit(calls) * self.max_fee_per_gas // 10**12)


def movement_call(movement: Movement, terms: ChainTerms) -> Call:
    """The payment call of one movement. A consumer's money moves by the allowance, the operator's own directly."""
    memo, destination = memo_of(movement.item_id), movement.destination.address
    if movement.source.kind is PartyKind.OPERATOR:
        data = contracts.transfer_with_memo(destination, movement.micros, memo)
    else:
        data = contracts.transfer_from_with_memo(movement.source.address, destination, movement.micros, memo)
    return Call(to=address_bytes(terms.tokens.address(movement.asset)), value=0, data=data)


def approval_call(token: str, operator: str) -> Call:
    """The allowance that lets the operator settle a consumer's items in one token."""
    return Call(to=address_bytes(token), value=0, data=contracts.approve(operator, contracts.UNLIMITED))


def build(
    calls: Sequence[Call],
    terms: ChainTerms,
    *,
    valid_before: datetime,
    sponsored: bool = True,
    gas_limit: int | None = None,
) -> TempoTransaction:
    """An unsigned transaction over the calls, whose fee somebody else will pay if it is sponsored."""
    return TempoTransaction.create(
        chain_id=terms.chain_id,
        gas_limit=gas_limit or terms.gas_limit(len(calls)),
        max_fee_per_gas=terms.max_fee_per_gas,
        max_priority_fee_per_gas=terms.max_priority_fee_per_gas,
        nonce=0,
        nonce_key=EXPIRING_NONCE_KEY,
        valid_before=int(valid_before.timestamp()),
        fee_token=terms.fee_token,
        awaiting_fee_payer=sponsored,
        calls=tuple(calls),
    )


# Two hops and a first approval cost 735,000 gas.
SALE_GAS: Final = 2_000_000


def sale_calls(sale: Sale, least_micros: int, terms: ChainTerms) -> list[Call]:
    """The exchange takes what it was allowed to, and gives at least so much or reverts."""
    sold, bought = terms.tokens.address(sale.sell_asset), terms.tokens.address(sale.buy_asset)
    allowance = contracts.approve(contracts.STABLECOIN_DEX, sale.sell_micros)
    swap = contracts.pack(contracts.SWAP_EXACT_IN, sold, bought, sale.sell_micros, least_micros)
    return [
        Call(to=address_bytes(sold), value=0, data=allowance),
        Call(to=address_bytes(contracts.STABLECOIN_DEX), value=0, data=swap),
    ]


def sign_sale(calls: Sequence[Call], terms: ChainTerms, *, valid_before: datetime, keys: tuple[str, str]) -> Signed:
    """Sign a sale for the operator and the fee payer. It is the one thing we sign that is not in the payment lane."""
    transaction = build(calls, terms, valid_before=valid_before, gas_limit=SALE_GAS)
    sender_key, fee_payer_key = keys
    payload: bytes = transaction.sign(sender_key).sign(fee_payer_key, for_fee_payer=True).encode()
    return Signed(payload=payload, reference=reference_of(payload))


def sign(transaction: TempoTransaction, terms: ChainTerms, *, sender_key: str, fee_payer_key: str) -> Signed:
    """Sign for the sender, then for the fee payer, after checking what the dev chain would let pass."""
    check(transaction, terms)
    payload: bytes = transaction.sign(sender_key).sign(fee_payer_key, for_fee_payer=True).encode()
    return Signed(payload=payload, reference=reference_of(payload))


def reference_of(payload: bytes) -> str:
    """The hash a signed transaction will have on chain, known before it is sent."""
    return "0x" + keccak(payload).hex()


def check(transaction: TempoTransaction, terms: ChainTerms) -> None:
    """Refuse what the real network would not admit, and what would leave the payment lane."""
    faults = [
        fault
        for wrong, fault in (
            (transaction.chain_id != terms.chain_id, f"chain {transaction.chain_id} is not ours"),
            (not transaction.calls, "there is nothing to do"),
            (len(transaction.calls) > MAX_CALLS, f"{len(transaction.calls)} calls are more than {MAX_CALLS}"),
            (transaction.gas_limit > MAX_GAS, f"{transaction.gas_limit} gas is more than {MAX_GAS}"),
            (transaction.nonce_key != EXPIRING_NONCE_KEY or transaction.nonce != 0, "the nonce does not expire"),
            (transaction.valid_before is None, "it would be valid for ever"),
            (bool(transaction.access_list), "an access list leaves the payment lane"),
            (transaction.key_authorization is not None, "a key authorization leaves the payment lane"),
        )
        if wrong
    ]
    faults += [fault for call in transaction.calls if (fault := _call_fault(call, terms))]
    if faults:
        raise SigningRefused("; ".join(faults))


def _call_fault(call: Call, terms: ChainTerms) -> str | None:
    target = "0x" + bytes(call.to).hex()
    if terms.tokens.asset(target) is None:
        return f"{target} is not a token of ours"
    if call.data[:4] not in contracts.PAYMENT_LANE:
        return f"selector 0x{call.data[:4].hex()} is not in the payment lane"
    if call.value:
        return "a call carries native value"
    return None
