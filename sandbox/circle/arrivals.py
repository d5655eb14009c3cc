"""The other end of a transaction: tokens that arrive at a wallet of ours, or at Mint's deposit address."""

from __future__ import annotations

import hashlib

from sandbox.circle import wallets
from sandbox.circle.money import fiat_amount, token_amount
from sandbox.circle.simulator import MASTER_WALLET_ID, Simulator
from sandbox.circle.store import Body
from sandbox.circle.tokens import CHAIN_OF_BLOCKCHAIN, CURRENCY_OF_SYMBOL, TOKEN_BY_ID, Token

KIND = "transaction"
MINT_TRANSFER, DEPOSIT_ADDRESS = "mint transfer", "deposit address"
OUTSIDE = "0x00000000000000000000000000000000000005de"


def from_wallet(simulator: Simulator, outbound: Body, state: str) -> None:
    """What left one of our wallets arrives, in the state that the other side is in."""
    token, address = TOKEN_BY_ID[outbound["tokenId"]], outbound["destinationAddress"]
    wallet = wallets.wallet_at(simulator, token.blockchain, address)
    if wallet:
        inbound = _inbound(simulator, wallet, outbound["sourceAddress"], token, outbound["_micros"], outbound["txHash"])
        outbound["_inbound"] = inbound["id"]
        _enter(simulator, inbound, state)
    elif _is_mints(simulator, token, address):
        _at_mint(simulator, token, outbound["_micros"], outbound["txHash"])


def from_outside(
    simulator: Simulator, address: str, token: Token, amount: int, *, source: str = OUTSIDE
) -> Body | None:
    """Somebody else, or the faucet, or Mint, sent tokens; None if the address is nobody's here."""
    tx_hash = "0x" + hashlib.sha256(f"outside {simulator.store.next_number('outside')}".encode()).hexdigest()
    wallet = wallets.wallet_at(simulator, token.blockchain, address)
    if wallet:
        inbound = _inbound(simulator, wallet, source, token, amount, tx_hash)
        _enter(simulator, inbound, "COMPLETE")
        return inbound
    if _is_mints(simulator, token, address):
        return _at_mint(simulator, token, amount, tx_hash)
    return None


def follow(simulator: Simulator, outbound: Body, state: str) -> None:
    """The inbound side keeps step with a transaction that was already included."""
    inbound = simulator.store.get(KIND, outbound.get("_inbound", ""))
    if inbound and inbound["state"] != state:
        _enter(simulator, inbound, state)


def _inbound(simulator: Simulator, wallet: Body, source: str, token: Token, amount: int, tx_hash: str) -> Body:
    now = simulator.clock.timestamp()
    simulator.store.change_balance(wallet["id"], token.id, amount, at=simulator.clock.now())
    body: Body = {
        "id": simulator.store.new_id(),
        "state": "SENT",
        "transactionType": "INBOUND",
        "operation": "TRANSFER",
        "custodyType": "DEVELOPER",
        "blockchain": token.blockchain,
        "walletId": wallet["id"],
        "sourceAddress": source,
        "destinationAddress": wallet["address"],
        "tokenId": token.id,
        "amounts": [token_amount(amount)],
        "txHash": tx_hash,
        "blockHeight": simulator.store.next_number("block"),
        "createDate": now,
        "updateDate": now,
        "firstConfirmDate": now,
        "_included": True,
        "_micros": amount,
    }
    simulator.store.add(KIND, body, created=simulator.clock.now(), owner=wallet["id"])
    return body


def _enter(simulator: Simulator, inbound: Body, state: str) -> None:
    inbound["state"] = state
    inbound["updateDate"] = simulator.clock.timestamp()
    simulator.store.update(inbound)
    simulator.webhooks.tell_wallets("transactions.inbound", inbound)


def _is_mints(simulator: Simulator, token: Token, address: str) -> bool:
    chain = CHAIN_OF_BLOCKCHAIN[token.blockchain]
    at_address = simulator.store.at_address(DEPOSIT_ADDRESS, address)
    return token.symbol in CURRENCY_OF_SYMBOL and any(body["chain"] == chain for body in at_address)


def _at_mint(simulator: Simulator, token: Token, amount: int, tx_hash: str) -> Body:
    """Tokens at the deposit address are a transfer of Mint's, not a deposit."""
    currency = CURRENCY_OF_SYMBOL[token.symbol]
    body: Body = {
        "id": simulator.store.new_id(),
        "source": {"type": "blockchain", "chain": CHAIN_OF_BLOCKCHAIN[token.blockchain]},
        "destination": {"type": "wallet", "id": MASTER_WALLET_ID},
        "amount": {"amount": fiat_amount(amount), "currency": currency},
        "transactionHash": tx_hash,
        "status": "complete",
        "createDate": simulator.clock.timestamp(),
    }
    simulator.store.change_balance("mint", currency, amount, at=simulator.clock.now())
    simulator.store.add(MINT_TRANSFER, body, created=simulator.clock.now())
    simulator.webhooks.tell_mint("transfers", "transfer", body)
    return body
