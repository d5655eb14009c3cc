"""Mint's chain side: the address it takes tokens in at, the addresses it may send to, and the transfers."""

from __future__ import annotations

import hashlib

from sandbox.circle import arrivals, mint
from sandbox.circle.bodies import CreateDepositAddress, CreateMintTransfer, CreateRecipientAddress
from sandbox.circle.call import Answer, Call, listing
from sandbox.circle.money import fiat_amount, micros
from sandbox.circle.queries import PageQuery
from sandbox.circle.refusals import Refusal, invalid_field, not_found
from sandbox.circle.simulator import MASTER_WALLET_ID, Simulator
from sandbox.circle.store import Body, public
from sandbox.circle.tokens import BLOCKCHAIN_OF_CHAIN, SYMBOL_OF_CURRENCY, token_named

DEPOSIT_ADDRESS, RECIPIENT, TRANSFER = arrivals.DEPOSIT_ADDRESS, "recipient", arrivals.MINT_TRANSFER


def register(simulator: Simulator) -> None:
    simulator.schedule.register("mint_transfer.next", lambda **facts: next_state(simulator, **facts))


def create_deposit_address(simulator: Simulator, call: Call) -> list[str]:
    """One address a chain, whoever asks how often."""
    asked = call.body_of(CreateDepositAddress)
    for body in simulator.store.all(DEPOSIT_ADDRESS):
        if (body["chain"], body["currency"]) == (asked.chain, asked.currency):
            return [body["id"]]
    address = "0x" + hashlib.sha256(f"circle sandbox mint {asked.chain}".encode()).hexdigest()[:40]
    body = {"id": simulator.store.new_id(), "address": address, "currency": asked.currency, "chain": asked.chain}
    simulator.store.add(DEPOSIT_ADDRESS, body, created=simulator.clock.now())
    return [body["id"]]


def deposit_address_answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer(simulator.store.get(DEPOSIT_ADDRESS, ids[0]))


def list_deposit_addresses(simulator: Simulator, call: Call) -> Answer:
    return Answer(simulator.store.all(DEPOSIT_ADDRESS))


def create_recipient(simulator: Simulator, call: Call) -> list[str]:
    asked = call.body_of(CreateRecipientAddress)
    address = asked.address.lower()
    if any(body["chain"] == asked.chain for body in simulator.store.at_address(RECIPIENT, address)):
        raise Refusal(409, 2003, "The recipient exists already")
    body = {
        "id": simulator.store.new_id(),
        **asked.given(),
        "address": address,
        "status": "pending_verification",
    }
    del body["idempotencyKey"]
    simulator.store.add(RECIPIENT, body, created=simulator.clock.now())
    return [body["id"]]


def recipient_answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer(get_recipient(simulator, ids[0]))


def list_recipients(simulator: Simulator, call: Call) -> Answer:
    return listing(simulator, call, RECIPIENT, call.query_of(PageQuery), {})


def approve_recipient(simulator: Simulator, recipient_id: str) -> Body:
    """What a person does in Circle's console."""
    body = {**get_recipient(simulator, recipient_id), "status": "active"}
    simulator.store.update(body)
    simulator.webhooks.tell_mint("addressBookRecipients", "addressBookRecipient", body)
    return body


def get_recipient(simulator: Simulator, recipient_id: str) -> Body:
    body = simulator.store.get(RECIPIENT, recipient_id)
    if body is None:
        raise not_found(message="Recipient address not found")
    return body


def create_transfer(simulator: Simulator, call: Call) -> list[str]:
    asked = call.body_of(CreateMintTransfer)
    recipient = get_recipient(simulator, asked.destination.address_id)
    if recipient["status"] != "active":
        raise Refusal(400, 2004, "The recipient's address is not verified")
    amount = micros(asked.amount.amount)
    if not amount:
        raise invalid_field("amount.amount", "min_value", "must be greater than 0", asked.amount.amount)
    mint.spend(simulator, asked.source, asked.amount.given(), amount)
    outcome, error = simulator.outcomes.next("transfer")
    body: Body = {
        "id": simulator.store.new_id(),
        "source": {"type": "wallet", "id": MASTER_WALLET_ID},
        "destination": {"type": "blockchain", "address": recipient["address"], "chain": recipient["chain"]},
        "amount": {"amount": fiat_amount(amount), "currency": asked.amount.currency},
        "status": "pending",
        "createDate": simulator.clock.timestamp(),
        "_outcome": outcome,
        "_error": error,
        "_micros": amount,
    }
    simulator.store.add(TRANSFER, body, created=simulator.clock.now())
    _tell_and_go_on(simulator, body)
    return [body["id"]]


def transfer_answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer(public(get_transfer(simulator, ids[0])))


def show_transfer(simulator: Simulator, call: Call) -> Answer:
    return transfer_answer(simulator, [call.id])


def list_transfers(simulator: Simulator, call: Call) -> Answer:
    return listing(simulator, call, TRANSFER, call.query_of(PageQuery), {})


def get_transfer(simulator: Simulator, transfer_id: str) -> Body:
    body = simulator.store.get(TRANSFER, transfer_id)
    if body is None:
        raise not_found(message="Transfer not found")
    return body


def next_state(simulator: Simulator, *, transfer_id: str) -> None:
    """pending, running, and then whatever was meant for it."""
    body = get_transfer(simulator, transfer_id)
    if body["status"] == "pending":
        body["status"] = "running"
        body["transactionHash"] = "0x" + hashlib.sha256(f"mint {transfer_id}".encode()).hexdigest()
    elif body["_outcome"] == "complete":
        body["status"] = "complete"
        _pay_out(simulator, body)
    else:
        body["status"], body["errorCode"] = "failed", body["_error"] or "transfer_failed"
        at = simulator.clock.now()
        simulator.store.change_balance("mint", body["amount"]["currency"], body["_micros"], at=at)
    simulator.store.update(body)
    _tell_and_go_on(simulator, body)


def _tell_and_go_on(simulator: Simulator, body: Body) -> None:
    simulator.webhooks.tell_mint("transfers", "transfer", body)
    if body["status"] in ("pending", "running"):
        delay = int(simulator.pace.transfer_step * 1000)
        simulator.schedule.after(delay, "mint_transfer.next", transfer_id=body["id"])


def _pay_out(simulator: Simulator, body: Body) -> None:
    destination = body["destination"]
    symbol = SYMBOL_OF_CURRENCY[body["amount"]["currency"]]
    token = token_named(BLOCKCHAIN_OF_CHAIN[destination["chain"]], symbol)
    arrivals.from_outside(simulator, destination["address"], token, body["_micros"])
