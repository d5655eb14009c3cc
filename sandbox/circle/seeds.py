"""What is there from the first start: one wallet set, the operator's wallets with their float, and money at Mint."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from sandbox.circle import wallets
from sandbox.circle.money import ONE
from sandbox.circle.simulator import Simulator
from sandbox.circle.tokens import CHAIN_OF_BLOCKCHAIN, TEST_BLOCKCHAINS, token_named

WALLET_SET_ID = "c1c1e000-0000-4000-8000-000000000001"
# How the operator's own wallets are found: there is one on each chain, at the same address.
OPERATOR_REF_ID = "operator"


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """How much of each token, and of each currency, the operator begins with."""

    float_micros: int
    mint_micros: int


def sow(simulator: Simulator, seeds: Seeds) -> None:
    """Do nothing where it was done."""
    store, now = simulator.store, simulator.clock.timestamp()
    if store.get("wallet set", WALLET_SET_ID):
        return
    with store.transaction():
        body = {"id": WALLET_SET_ID, "custodyType": "DEVELOPER", "name": "Monay", "createDate": now, "updateDate": now}
        store.add("wallet set", body, created=simulator.clock.now())
        address = wallets.next_address(simulator)
        for blockchain in TEST_BLOCKCHAINS:
            _seed_operator(simulator, blockchain, address, seeds.float_micros)
        for currency in ("USD", "EUR"):
            store.change_balance("mint", currency, seeds.mint_micros, at=simulator.clock.now())


def _seed_operator(simulator: Simulator, blockchain: str, address: str, float_micros: int) -> None:
    metadata = {"name": "Operator's float", "refId": OPERATOR_REF_ID}
    # An EOA may have many transfers under way, and pays for gas itself.
    wallet = wallets.new_wallet(simulator, WALLET_SET_ID, blockchain, address, "EOA", metadata)
    now = simulator.clock.now()
    for symbol in ("USDC", "EURC"):
        simulator.store.change_balance(wallet["id"], token_named(blockchain, symbol).id, float_micros, at=now)
    if blockchain == "BASE-SEPOLIA":
        simulator.store.change_balance(wallet["id"], token_named(blockchain, "ETH").id, ONE, at=now)
    chain = CHAIN_OF_BLOCKCHAIN[blockchain]
    recipient = {
        "id": str(uuid5(NAMESPACE_URL, f"recipient:{blockchain}:{address}")),
        "address": address,
        "chain": chain,
        "description": "Operator's float",
        "status": "active",
    }
    simulator.store.add("recipient", recipient, created=now)
