"""Tempo's fixed addresses, its tokens' calls packed by hand, and what their reverts mean.

A contract helper needs 0.9 ms for one call; these few static layouts need 2 microseconds, and a batch has thirty-two.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from eth_utils.crypto import keccak

from domain.money import Asset
from providers.base import RefusalReason

FEE_MANAGER: Final = "0xfeec000000000000000000000000000000000000"
TIP403_REGISTRY: Final = "0x403c000000000000000000000000000000000000"
STABLECOIN_DEX: Final = "0xdec0000000000000000000000000000000000000"

SWAP_EXACT_IN: Final = "swapExactAmountIn(address,address,uint128,uint128)"

# Event names, as they stand in a log's first topic.
TRANSFER: Final = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
TRANSFER_WITH_MEMO: Final = "0x" + keccak(text="TransferWithMemo(address,address,uint256,bytes32)").hex()

UNLIMITED: Final = 2**256 - 1

Word = int | str | bytes


@cache
def selector(signature: str) -> bytes:
    """The four bytes that name a function or an error."""
    return keccak(text=signature)[:4]


def pack(signature: str, *arguments: Word) -> bytes:
    """Calldata of a function whose arguments are all single words: numbers, addresses as text, thirty-two bytes."""
    return selector(signature) + b"".join(_word(argument) for argument in arguments)


def _word(argument: Word) -> bytes:
    if isinstance(argument, bytes):
        assert len(argument) == 32, "only whole words are packed"
        return argument
    number = int(argument, 16) if isinstance(argument, str) else argument
    return number.to_bytes(32, signed=number < 0)


def address_bytes(address: str) -> bytes:
    """An address as the twenty bytes a transaction carries."""
    return bytes.fromhex(address.removeprefix("0x"))


def address_in(word: str) -> str:
    """The address in a word of a log or an answer, in lower case."""
    return "0x" + word[-40:].lower()


def transfer_with_memo(destination: str, micros: int, memo: bytes) -> bytes:
    return pack("transferWithMemo(address,uint256,bytes32)", destination, micros, memo)


def transfer_from_with_memo(source: str, destination: str, micros: int, memo: bytes) -> bytes:
    return pack("transferFromWithMemo(address,address,uint256,bytes32)", source, destination, micros, memo)


def transfer(destination: str, micros: int) -> bytes:
    return pack("transfer(address,uint256)", destination, micros)


def approve(spender: str, micros: int) -> bytes:
    return pack("approve(address,uint256)", spender, micros)


def balance_of(holder: str) -> bytes:
    return pack("balanceOf(address)", holder)


def allowance(owner: str, spender: str) -> bytes:
    return pack("allowance(address,address)", owner, spender)


# The calls of the payment lane (TIP-1045) that we sign. One call beside them would put the whole transaction into the
# general lane, which shares 30 M gas a block with everybody.
PAYMENT_LANE: Final = frozenset(
    selector(signature)
    for signature in (
        "transferFromWithMemo(address,address,uint256,bytes32)",
        "transferWithMemo(address,uint256,bytes32)",
        "approve(address,uint256)",
    )
)

_REASONS: Final = {
    selector(signature): reason
    for signature, reason in (
        ("PolicyForbids()", RefusalReason.POLICY_FORBIDS),
        ("InvalidRecipient()", RefusalReason.INVALID_RECIPIENT),
        ("VirtualAddressUnregistered()", RefusalReason.VIRTUAL_ADDRESS_UNREGISTERED),
        ("InsufficientBalance(uint256,uint256,address)", RefusalReason.INSUFFICIENT_BALANCE),
        ("InsufficientAllowance()", RefusalReason.INSUFFICIENT_ALLOWANCE),
        ("ContractPaused()", RefusalReason.CONTRACT_PAUSED),
        ("SupplyCapExceeded()", RefusalReason.SUPPLY_CAP_EXCEEDED),
    )
}


def refusal_reason(return_data: str) -> RefusalReason:
    """What a revert says. Anything not on the list is `OTHER`, and waits (money rule 10)."""
    return _REASONS.get(bytes.fromhex(return_data.removeprefix("0x")[:8]), RefusalReason.OTHER)


class Tokens:
    """Our assets' token addresses, both ways."""

    def __init__(self, addresses: dict[Asset, str]) -> None:
        self._addresses = {asset: address.lower() for asset, address in addresses.items()}
        self._assets = {address: asset for asset, address in self._addresses.items()}
        assert len(self._assets) == len(self._addresses), "two assets cannot be the same token"

    @property
    def assets(self) -> frozenset[Asset]:
        return frozenset(self._addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._addresses.values())

    def address(self, asset: Asset) -> str:
        return self._addresses[asset]

    def asset(self, address: str) -> Asset | None:
        return self._assets.get(address.lower())
