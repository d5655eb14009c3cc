"""Wallet sets, wallets and what stands in them."""

from __future__ import annotations

import hashlib
from typing import Any

from sandbox.circle.bodies import CreateWallets, CreateWalletSet, UpdateWallet
from sandbox.circle.call import Answer, Call, listing
from sandbox.circle.clock import timestamp
from sandbox.circle.money import token_amount
from sandbox.circle.queries import BalanceQuery, WalletQuery
from sandbox.circle.refusals import Refusal, not_found
from sandbox.circle.simulator import Simulator
from sandbox.circle.store import Body, public
from sandbox.circle.tokens import TEST_BLOCKCHAINS, TOKEN_BY_ID

WALLET_SETS, WALLETS = "wallet set", "wallet"
MOST_WALLET_SETS = 1000


def create_wallet_set(simulator: Simulator, call: Call) -> list[str]:
    asked = call.body_of(CreateWalletSet)
    if len(simulator.store.all(WALLET_SETS)) >= MOST_WALLET_SETS:
        raise Refusal(400, 2, "There are a thousand wallet sets already")
    now = simulator.clock.timestamp()
    body: Body = {"id": simulator.store.new_id(), "custodyType": "DEVELOPER", "createDate": now, "updateDate": now}
    if asked.name is not None:
        body["name"] = asked.name
    simulator.store.add(WALLET_SETS, body, created=simulator.clock.now())
    return [body["id"]]


def get_wallet_set(simulator: Simulator, call: Call) -> Answer:
    return wallet_set_answer(simulator, [call.id])


def wallet_set_answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer({"walletSet": public(_wallet_set(simulator, ids[0]))})


def create_wallets(simulator: Simulator, call: Call) -> list[str]:
    """`count` wallets on each chain; those on different chains share an address, as one key opens all of them."""
    asked = call.body_of(CreateWallets)
    _wallet_set(simulator, str(asked.wallet_set_id))
    for blockchain in asked.blockchains:
        require_test_network(blockchain)
    if asked.metadata and len(asked.metadata) != asked.count:
        raise Refusal(400, 155503, "The number of metadata entries does not match the number of wallets")
    ids = []
    for number in range(asked.count):
        address = next_address(simulator)
        metadata = asked.metadata[number].given() if asked.metadata else {}
        for blockchain in asked.blockchains:
            set_id = str(asked.wallet_set_id)
            wallet = new_wallet(simulator, set_id, blockchain, address, asked.account_type, metadata)
            ids.append(wallet["id"])
    return ids


def wallets_answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer({"wallets": [public(get(simulator, wallet_id)) for wallet_id in ids]})


def list_wallets(simulator: Simulator, call: Call) -> Answer:
    query = call.query_of(WalletQuery)
    filters = {
        "address": query.address.lower() if query.address is not None else None,
        "blockchain": query.blockchain,
        "walletSetId": query.wallet_set_id,
        "refId": query.ref_id,
    }
    return listing(simulator, call, WALLETS, query, filters, under="wallets")


def get_wallet(simulator: Simulator, call: Call) -> Answer:
    return Answer({"wallet": public(get(simulator, call.id))})


def update_wallet(simulator: Simulator, call: Call) -> Answer:
    wallet = {**get(simulator, call.id), **call.body_of(UpdateWallet).given()}
    wallet["updateDate"] = simulator.clock.timestamp()
    simulator.store.update(wallet)
    return Answer({"wallet": public(wallet)})


def list_balances(simulator: Simulator, call: Call) -> Answer:
    wallet, query = get(simulator, call.id), call.query_of(BalanceQuery)
    balances = [
        {
            "amount": token_amount(row["micros"]),
            "token": TOKEN_BY_ID[row["token"]].body(),
            "updateDate": timestamp(row["changed"]),
        }
        for row in simulator.store.balances(wallet["id"])
        if query.token_address is None or TOKEN_BY_ID[row["token"]].address == query.token_address.lower()
    ]
    return Answer({"tokenBalances": balances})


def freeze(simulator: Simulator, wallet_id: str, *, frozen: bool) -> Body:
    """Circle does that for reasons of its own; no client can."""
    wallet = {**get(simulator, wallet_id), "state": "FROZEN" if frozen else "LIVE"}
    simulator.store.update(wallet)
    return wallet


def new_wallet(
    simulator: Simulator, set_id: str, blockchain: str, address: str, account_type: str, metadata: dict[str, Any]
) -> Body:
    now = simulator.clock.timestamp()
    wallet = {
        "id": simulator.store.new_id(),
        "address": address,
        "blockchain": blockchain,
        "state": "LIVE",
        "walletSetId": set_id.lower(),
        "custodyType": "DEVELOPER",
        "accountType": account_type,
        **({"scaCore": "circle_6900_singleowner_v3"} if account_type == "SCA" else {}),
        **metadata,
        "createDate": now,
        "updateDate": now,
    }
    simulator.store.add(WALLETS, wallet, created=simulator.clock.now(), owner=set_id.lower())
    return wallet


def next_address(simulator: Simulator) -> str:
    """Derived from a number, as a real one is from a key: the same ones after each reset."""
    number = simulator.store.next_number("address")
    return "0x" + hashlib.sha256(f"circle sandbox address {number}".encode()).hexdigest()[:40]


def get(simulator: Simulator, wallet_id: str) -> Body:
    wallet = simulator.store.get(WALLETS, wallet_id)
    if wallet is None:
        raise not_found(156001, "Cannot find the target wallet in the system")
    return wallet


def wallet_at(simulator: Simulator, blockchain: str, address: str) -> Body | None:
    at_address = simulator.store.at_address(WALLETS, address)
    return next((wallet for wallet in at_address if wallet["blockchain"] == blockchain), None)


def require_test_network(blockchain: str) -> None:
    if blockchain not in TEST_BLOCKCHAINS:
        raise Refusal(400, 156006, f"A test key does not work on {blockchain}")


def _wallet_set(simulator: Simulator, set_id: str) -> Body:
    body = simulator.store.get(WALLET_SETS, set_id)
    if body is None:
        raise not_found(156005, "Cannot find the target wallet set in the system")
    return body
