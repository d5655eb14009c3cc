"""The chains and tokens that exist in the sandbox, at the addresses that they have on Circle's test networks."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

TEST_BLOCKCHAINS = ("ARC-TESTNET", "BASE-SEPOLIA")
# Mint names a chain without its network.
BLOCKCHAIN_OF_CHAIN = {"ARC": "ARC-TESTNET", "BASE": "BASE-SEPOLIA"}
CHAIN_OF_BLOCKCHAIN = {blockchain: chain for chain, blockchain in BLOCKCHAIN_OF_CHAIN.items()}
# Mint counts tokens in the currency behind them.
SYMBOL_OF_CURRENCY = {"USD": "USDC", "EUR": "EURC"}
CURRENCY_OF_SYMBOL = {symbol: currency for currency, symbol in SYMBOL_OF_CURRENCY.items()}


@dataclass(frozen=True, kw_only=True)
class Token:
    blockchain: str
    symbol: str
    name: str
    address: str = ""

    @property
    def id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"token:{self.blockchain}:{self.symbol}"))

    @property
    def is_native(self) -> bool:
        return not self.address

    def body(self) -> dict[str, object]:
        body: dict[str, object] = {
            "id": self.id,
            "blockchain": self.blockchain,
            "name": self.name,
            "symbol": self.symbol,
            "decimals": 18 if self.is_native else 6,
            "isNative": self.is_native,
        }
        return body if self.is_native else {**body, "standard": "ERC20", "tokenAddress": self.address}


_USDC, _EURC = "USD Coin", "Euro Coin"
TOKENS = (
    Token(blockchain="ARC-TESTNET", symbol="USDC", name=_USDC, address="0x3600000000000000000000000000000000000000"),
    Token(blockchain="ARC-TESTNET", symbol="EURC", name=_EURC, address="0x89b50855aa3be2f677cd6303cec089b5f319d72a"),
    Token(blockchain="BASE-SEPOLIA", symbol="USDC", name=_USDC, address="0x036cbd53842c5426634e7929541ec2318f3dcf7e"),
    Token(blockchain="BASE-SEPOLIA", symbol="EURC", name=_EURC, address="0x808456652fdb597867f38412077a9182bf77359f"),
    Token(blockchain="BASE-SEPOLIA", symbol="ETH", name="Ether"),
)
TOKEN_BY_ID = {token.id: token for token in TOKENS}


def token_named(blockchain: str, symbol: str) -> Token:
    return next(token for token in TOKENS if (token.blockchain, token.symbol) == (blockchain, symbol))


def token_at(blockchain: str, address: str) -> Token | None:
    found = (token for token in TOKENS if (token.blockchain, token.address) == (blockchain, address.lower()))
    return next(found, None)


@dataclass(frozen=True)
class Gas:
    """What one transaction costs a wallet that is not sponsored: so many micros of that token."""

    symbol: str
    micros: int


# On Arc gas is paid in USDC: an EOA there cannot send its last cent.
GAS = {"ARC-TESTNET": Gas("USDC", 500), "BASE-SEPOLIA": Gas("ETH", 2)}
