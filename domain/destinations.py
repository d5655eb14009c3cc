"""Where on Tempo money must never be sent, as far as an address itself tells.

What reaches one of these is refused by the token or lost for good: nobody holds a key for them. A virtual address
(TIP-1022) would credit its master, about whom nothing is known here, so it is refused, too.
"""

from __future__ import annotations

from enum import StrEnum


class RefusedCause(StrEnum):
    """Why an address is not paid; the contract names the same causes."""

    ZERO_ADDRESS = "zero_address"
    BAD_CHECKSUM = "bad_checksum"
    VIRTUAL_ADDRESS = "virtual_address"
    OWN_ADDRESS = "own_address"
    """The wallet's own, the operator's, or one that is nobody's yet."""
    TOKEN_POLICY = "token_policy"
    """The token's policy forbids it, or it is a token or a contract of the protocol itself."""


_ZERO = "0" * 40
_TOKEN = "20c0" + "0" * 20
# masterId (4 bytes), ten bytes of fd, userTag (6 bytes).
_VIRTUAL = slice(8, 28)
_VIRTUAL_MARK = "fd" * 10

# Contracts that every chain of this kind has, and that no person pays.
_COMMON_CONTRACTS = frozenset(
    {
        "ca11bde05977b3631167028862be2a173976ca11",  # Multicall3
        "000000000022d473030f116ddee9f6b43ac78ba3",  # Permit2
        "ba5ed099633d3b313e4d5f7bdc1305d3c28ba5ed",  # CreateX
        "4e59b44847b379578588920ca78fbf26c0b4956c",  # the deterministic deployment proxy
    }
)


def refused_cause(address: str) -> RefusedCause | None:
    """Why an address in lower case can be nobody's, or None where it may be somebody's."""
    digits = address.removeprefix("0x")
    if digits == _ZERO:
        return RefusedCause.ZERO_ADDRESS
    if digits[_VIRTUAL] == _VIRTUAL_MARK:
        return RefusedCause.VIRTUAL_ADDRESS
    if digits.startswith(_TOKEN) or _is_protocol(digits) or digits in _COMMON_CONTRACTS:
        return RefusedCause.TOKEN_POLICY
    return None


def _is_protocol(digits: str) -> bool:
    """Precompiles: a short name and then zeros (0x403c00…), or the other way round (0x00…05).

    No key can be found whose address has fourteen zero bytes at either end, so the next hardfork's are known, too.
    """
    return digits.endswith("0" * 28) or digits.startswith("0" * 28)
