"""The chains that wallets can be on: what Circle calls them, and where our stablecoins are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.money import Asset

# As Circle publishes them. A chain without a line here needs CIRCLE_TOKENS.
_TOKENS: Mapping[str, Mapping[Asset, str]] = {
    "ARC-TESTNET": {
        Asset.USDC: "0x3600000000000000000000000000000000000000",
        Asset.EURC: "0x89b50855aa3be2f677cd6303cec089b5f319d72a",
    },
    "BASE-SEPOLIA": {
        Asset.USDC: "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
        Asset.EURC: "0x808456652fdb597867f38412077a9182bf77359f",
    },
    "BASE": {
        Asset.USDC: "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
        Asset.EURC: "0x60a3e35cc302bfa44cb288bc5a4f316fdb1adb42",
    },
}
# There network fees are paid in USDC, so a wallet that pays its own has less of it than it was left with.
_FEES_IN_USDC = frozenset({"ARC", "ARC-TESTNET"})


@dataclass(frozen=True, slots=True)
class CircleChain:
    """One chain as the adapter uses it. Addresses are in lower case."""

    name: str
    tokens: Mapping[Asset, str]

    @property
    def fee_asset(self) -> Asset | None:
        return Asset.USDC if self.name in _FEES_IN_USDC else None

    def asset_at(self, token_address: str) -> Asset | None:
        return next((asset for asset, address in self.tokens.items() if address == token_address.lower()), None)


def known_tokens(chain: str) -> Mapping[Asset, str]:
    """The addresses of our stablecoins on a chain, as far as they are known here."""
    return _TOKENS.get(chain, {})
