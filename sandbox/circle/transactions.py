"""Transactions of wallets: what is asked for, the states it goes through, and the balances it moves.

There is no chain. A transaction is included at its first CONFIRMED or COMPLETE: at that moment the tokens leave the one
wallet and, if the destination is a wallet of ours or Mint's deposit address, arrive there.
"""

from __future__ import annotations

import hashlib

from sandbox.circle import arrivals, wallets
from sandbox.circle.bodies import CreateWalletTransfer, RequestTestnetTokens
from sandbox.circle.call import Answer, Call, listing
from sandbox.circle.money import micros, token_amount
from sandbox.circle.outcomes import MAGIC_ADDRESSES
from sandbox.circle.queries import TransactionQuery
from sandbox.circle.refusals import Refusal, invalid_field, not_found
from sandbox.circle.simulator import Simulator
from sandbox.circle.store import Body, public
from sandbox.circle.tokens import GAS, TOKEN_BY_ID, Token, token_at, token_named

KIND = arrivals.KIND
# The next state, and how many milliseconds after the one before. On Arc CONFIRMED is skipped.
COURSE = {
    "ARC-TESTNET": {"INITIATED": ("CLEARED", 100), "CLEARED": ("QUEUED", 100), "QUEUED": ("SENT", 200)},
    "BASE-SEPOLIA": {"INITIATED": ("CLEARED", 500), "CLEARED": ("QUEUED", 500), "QUEUED": ("SENT", 1000)},
}
COURSE["ARC-TESTNET"]["SENT"] = ("COMPLETE", 500)
COURSE["BASE-SEPOLIA"]["SENT"] = ("CONFIRMED", 2000)
COURSE["BASE-SEPOLIA"]["CONFIRMED"] = ("COMPLETE", 240_000)
MOST_PENDING = {"EOA": 16, "SCA": 1}
CANCELLABLE = ("INITIATED", "QUEUED", "SENT", "STUCK")
ACCELERABLE = ("SENT", "STUCK")
FAUCET_MICROS = {"usdc": ("USDC", 20_000_000), "eurc": ("EURC", 20_000_000), "native": ("ETH", 10_000)}


def register(simulator: Simulator) -> None:
    simulator.schedule.register("transaction.next", lambda **facts: next_state(simulator, **facts))
    simulator.schedule.register("transaction.cancel", lambda **facts: end_cancelled(simulator, **facts))


def create(simulator: Simulator, call: Call) -> list[str]:
    asked = call.body_of(CreateWalletTransfer)
    wallet = wallets.get(simulator, asked.wallet_id)
    if wallet["state"] == "FROZEN":
        raise Refusal(409, 155501, "The wallet is frozen")
    token = _token(asked, wallet)
    amount = micros(asked.amounts[0])
    if not amount:
        raise invalid_field("amounts.0", "invalid_value", "not an amount of this token", asked.amounts[0])
    _require_room(simulator, wallet)
    _require_cover(simulator, wallet, token, amount)
    destination = asked.destination_address.lower()
    outcome, error = MAGIC_ADDRESSES.get(destination) or simulator.outcomes.next("transaction")
    now = simulator.clock.timestamp()
    body: Body = {
        "id": simulator.store.new_id(),
        "state": "INITIATED",
        "transactionType": "OUTBOUND",
        "operation": "TRANSFER",
        "custodyType": "DEVELOPER",
        "blockchain": wallet["blockchain"],
        "walletId": wallet["id"],
        "sourceAddress": wallet["address"],
        "destinationAddress": destination,
        "tokenId": token.id,
        "amounts": [token_amount(amount)],
        **({"refId": asked.ref_id} if asked.ref_id is not None else {}),
        "createDate": now,
        "updateDate": now,
        "_micros": amount,
        "_outcome": outcome,
        "_error": error,
        "_included": False,
    }
    simulator.store.add(KIND, body, created=simulator.clock.now(), owner=wallet["id"], is_open=True)
    simulator.webhooks.tell_wallets("transactions.outbound", body)
    _schedule_next(simulator, body)
    return [body["id"]]


def begun_answer(simulator: Simulator, ids: list[str]) -> Answer:
    body = get(simulator, ids[0])
    return Answer({"id": body["id"], "state": body["state"]})


def get_transaction(simulator: Simulator, call: Call) -> Answer:
    return Answer({"transaction": public(get(simulator, call.id))})


def list_transactions(simulator: Simulator, call: Call) -> Answer:
    query = call.query_of(TransactionQuery)
    filters = {
        "blockchain": query.blockchain,
        "destinationAddress": query.destination_address.lower() if query.destination_address is not None else None,
        "state": query.state,
        "txHash": query.tx_hash,
        "transactionType": query.tx_type,
        "walletId": query.wallet_ids.lower().split(",") if query.wallet_ids is not None else None,
    }
    return listing(simulator, call, KIND, query, filters, under="transactions")


def cancel(simulator: Simulator, call: Call) -> list[str]:
    """Once it was sent, cancelling is a race: here the transaction wins if it is quicker than half a second."""
    body = get(simulator, call.id)
    if body["state"] not in CANCELLABLE or body["transactionType"] == "INBOUND":
        raise Refusal(400, 2, f"A transaction that is {body['state']} cannot be cancelled")
    delay = 500 if body["state"] in ("SENT", "STUCK") else 0
    simulator.schedule.after(delay, "transaction.cancel", transaction_id=body["id"])
    return [body["id"]]


def accelerate(simulator: Simulator, call: Call) -> list[str]:
    body = get(simulator, call.id)
    if body["state"] not in ACCELERABLE or body["transactionType"] == "INBOUND":
        raise Refusal(400, 2, f"A transaction that is {body['state']} cannot be accelerated")
    if body["state"] == "STUCK":
        body["_outcome"] = "COMPLETE"
        _enter(simulator, body, "SENT")
        _schedule_next(simulator, body)
    return [body["id"]]


def request_testnet_tokens(simulator: Simulator, call: Call) -> Answer:
    """The faucet: from outside, to any address; only where a wallet of ours is can it be seen."""
    asked = call.body_of(RequestTestnetTokens)
    wallets.require_test_network(asked.blockchain)
    wallet = wallets.wallet_at(simulator, asked.blockchain, asked.address)
    wanted = {"usdc": asked.usdc, "eurc": asked.eurc, "native": asked.native}
    for name in (name for name in wanted if wanted[name] and wallet):
        symbol, amount = FAUCET_MICROS[name]
        if symbol == "ETH" and asked.blockchain == "ARC-TESTNET":
            symbol, amount = FAUCET_MICROS["usdc"]
        arrivals.from_outside(simulator, asked.address.lower(), token_named(asked.blockchain, symbol), amount)
    return Answer(status=204)


def get(simulator: Simulator, transaction_id: str) -> Body:
    body = simulator.store.get(KIND, transaction_id)
    if body is None:
        raise not_found(156003, "Cannot find the target transaction in the system")
    return body


# The course of a transaction.


def next_state(simulator: Simulator, *, transaction_id: str, after: str) -> None:
    """One state further, unless something else happened in the meantime."""
    body = get(simulator, transaction_id)
    if body["state"] != after:
        return
    outcome = body["_outcome"]
    if outcome == "DENIED" and after == "INITIATED":
        _end(simulator, body, "DENIED", body["_error"] or "")
    elif outcome == "FAILED" and after == "SENT":
        _end(simulator, body, "FAILED", body["_error"] or "FAILED_ON_CHAIN")
    elif outcome == "STUCK" and after == "SENT":
        _enter(simulator, body, "STUCK")
    else:
        _advance(simulator, body)


def _advance(simulator: Simulator, body: Body) -> None:
    state, _ = COURSE[body["blockchain"]][body["state"]]
    if state == "SENT":
        body["txHash"] = "0x" + hashlib.sha256(f"transaction {body['id']}".encode()).hexdigest()
    if state in ("CONFIRMED", "COMPLETE") and not body["_included"]:
        _include(simulator, body, state)
    arrivals.follow(simulator, body, state)
    _enter(simulator, body, state, is_open=state != "COMPLETE")
    if state == "COMPLETE" and body["_outcome"] == "CONFIRMED_LATE":
        # It was confirmed, and the news of that was slow.
        simulator.webhooks.tell_wallets("transactions.outbound", body, state="CONFIRMED")
    _schedule_next(simulator, body)


def _include(simulator: Simulator, body: Body, state: str) -> None:
    """In a block: the tokens, and the gas of a wallet that pays it itself, leave the source."""
    now, token = simulator.clock.now(), TOKEN_BY_ID[body["tokenId"]]
    simulator.store.change_balance(body["walletId"], token.id, -body["_micros"], at=now)
    gas_token, gas_micros = _gas(wallets.get(simulator, body["walletId"]))
    if gas_micros:
        simulator.store.change_balance(body["walletId"], gas_token.id, -gas_micros, at=now)
        body["networkFee"] = token_amount(gas_micros)
    body["_included"] = True
    body["blockHeight"] = simulator.store.next_number("block")
    body["firstConfirmDate"] = simulator.clock.timestamp()
    arrivals.from_wallet(simulator, body, state)


def end_cancelled(simulator: Simulator, *, transaction_id: str) -> None:
    body = get(simulator, transaction_id)
    if body["state"] in ("INITIATED", "CLEARED", "QUEUED", "SENT", "STUCK"):
        _end(simulator, body, "CANCELLED", "")


def _end(simulator: Simulator, body: Body, state: str, error: str) -> None:
    if error:
        body["errorReason"] = error
        body["errorDetails"] = "As the sandbox was told."
    _enter(simulator, body, state, is_open=False)


def _enter(simulator: Simulator, body: Body, state: str, *, is_open: bool = True) -> None:
    body["state"] = state
    body["updateDate"] = simulator.clock.timestamp()
    simulator.store.update(body, is_open=is_open)
    simulator.webhooks.tell_wallets("transactions.outbound", body)


def _schedule_next(simulator: Simulator, body: Body) -> None:
    following = COURSE[body["blockchain"]].get(body["state"])
    if following:
        _, delay = following
        simulator.schedule.after(delay, "transaction.next", transaction_id=body["id"], after=body["state"])


# What is asked of a transfer before it begins.


def _token(asked: CreateWalletTransfer, wallet: Body) -> Token:
    if asked.token_address is not None and asked.blockchain is not None:
        wallets.require_test_network(asked.blockchain)
        token = token_at(asked.blockchain, asked.token_address)
    else:
        token = TOKEN_BY_ID.get((asked.token_id or "").lower())
    if token is None:
        raise not_found(156002, "Cannot find the target token in the system")
    if token.blockchain != wallet["blockchain"]:
        raise Refusal(400, 155220, "The token and the wallet are on different chains")
    return token


def _require_room(simulator: Simulator, wallet: Body) -> None:
    waiting = [body for body in simulator.store.open_of(KIND, wallet["id"]) if not body["_included"]]
    if len(waiting) >= MOST_PENDING[wallet["accountType"]]:
        raise Refusal(400, 155264, "Too many transactions of this sender are under way")


def _require_cover(simulator: Simulator, wallet: Body, token: Token, amount: int) -> None:
    """What is under way has not left the balance yet, but is no longer there to be spent."""
    gas_token, gas_micros = _gas(wallet)
    spent = {token.id: amount}
    spent[gas_token.id] = spent.get(gas_token.id, 0) + gas_micros
    for waiting in simulator.store.open_of(KIND, wallet["id"]):
        if not waiting["_included"]:
            spent[waiting["tokenId"]] = spent.get(waiting["tokenId"], 0) + waiting["_micros"]
            spent[gas_token.id] += gas_micros
    if simulator.store.balance(wallet["id"], token.id) < spent[token.id]:
        raise Refusal(400, 155258, "the asset amount owned by the wallet is insufficient for the transaction.")
    if gas_micros and simulator.store.balance(wallet["id"], gas_token.id) < spent[gas_token.id]:
        raise Refusal(400, 155201, "The wallet has too little of the native token to pay for gas")


def _gas(wallet: Body) -> tuple[Token, int]:
    """A smart account is sponsored; any other wallet pays itself."""
    gas = GAS[wallet["blockchain"]]
    return token_named(wallet["blockchain"], gas.symbol), 0 if wallet["accountType"] == "SCA" else gas.micros
