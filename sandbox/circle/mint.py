"""Mint's bank side: linked bank accounts, instructions for wires, deposits, and the balance they fill."""

from __future__ import annotations

import base64
import hashlib
from uuid import NAMESPACE_URL, uuid5

from sandbox.circle.bodies import CreateMockWire, CreateWireAccount
from sandbox.circle.call import Answer, Call, listing
from sandbox.circle.money import fiat_amount, micros
from sandbox.circle.queries import DepositQuery, InstructionsQuery
from sandbox.circle.refusals import Refusal, invalid_field, not_found
from sandbox.circle.simulator import MASTER_WALLET_ID, Simulator
from sandbox.circle.store import Body, public

WIRE, DEPOSIT = "wire", "deposit"
CURRENCIES = ("USD", "EUR")
APPROVED = {"decision": "approved", "reason": "3000"}
DENIED = {"decision": "denied", "reason": "3100"}
BENEFICIARY = {
    "name": "CIRCLE INTERNET FINANCIAL INC",
    "address1": "1 MAIN STREET",
    "address2": "SUITE 1",
}
BANK = {
    "name": "SANDBOX BANK",
    "swiftCode": "SANDUS33",
    "routingNumber": "999999999",
    "currency": "USD",
    "address": "1 MONEY STREET",
    "city": "NEW YORK",
    "postalCode": "10001",
    "country": "US",
}


def register(simulator: Simulator) -> None:
    simulator.schedule.register("wire.verify", lambda **facts: verify_wire(simulator, **facts))
    simulator.schedule.register("deposit.arrive", lambda **facts: arrive(simulator, **facts))
    simulator.schedule.register("deposit.settle", lambda **facts: settle(simulator, **facts))


def get_configuration(simulator: Simulator, call: Call) -> Answer:
    return Answer({"payments": {"masterWalletId": MASTER_WALLET_ID}})


def get_balances(simulator: Simulator, call: Call) -> Answer:
    pending = dict.fromkeys(CURRENCIES, 0)
    for deposit in simulator.store.open_of(DEPOSIT, MASTER_WALLET_ID):
        pending[deposit["amount"]["currency"]] += micros(deposit["amount"]["amount"]) or 0
    available = {currency: simulator.store.balance("mint", currency) for currency in CURRENCIES}
    return Answer({"available": _amounts(available), "unsettled": _amounts(pending)})


def _amounts(totals: dict[str, int]) -> list[dict[str, str]]:
    return [{"amount": fiat_amount(total), "currency": currency} for currency, total in totals.items()]


# Linked bank accounts.


def create_wire(simulator: Simulator, call: Call) -> list[str]:
    asked = call.body_of(CreateWireAccount)
    store, now = simulator.store, simulator.clock.timestamp()
    number = store.next_number("wire")
    reference = base64.b32encode(hashlib.sha256(f"wire {number}".encode()).digest()).decode()[:10]
    body: Body = {
        "id": store.new_id(),
        "status": "pending",
        "description": f"{asked.bank_address.bank_name or 'BANK'} ****{asked.number[-4:]}",
        "trackingRef": f"CIR{reference}",
        "fingerprint": str(uuid5(NAMESPACE_URL, f"account:{asked.routing_number}:{asked.number}")),
        "virtualAccountEnabled": True,
        "billingDetails": asked.billing_details.given(),
        "bankAddress": asked.bank_address.given(),
        "createDate": now,
        "updateDate": now,
        "_virtual_account": f"1{number:011d}",
    }
    store.add(WIRE, body, created=simulator.clock.now())
    simulator.webhooks.tell_mint("wire", "wire", body)
    simulator.schedule.after(int(simulator.pace.wire_verification * 1000), "wire.verify", wire_id=body["id"])
    return [body["id"]]


def verify_wire(simulator: Simulator, *, wire_id: str) -> None:
    body = get_wire(simulator, wire_id)
    body["status"], _ = simulator.outcomes.next("wire")
    body["updateDate"] = simulator.clock.timestamp()
    simulator.store.update(body)
    simulator.webhooks.tell_mint("wire", "wire", body)


def wire_answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer(public(get_wire(simulator, ids[0])))


def list_wires(simulator: Simulator, call: Call) -> Answer:
    return Answer([public(body) for body in reversed(simulator.store.all(WIRE))])


def show_wire(simulator: Simulator, call: Call) -> Answer:
    return wire_answer(simulator, [call.id])


def show_instructions(simulator: Simulator, call: Call) -> Answer:
    body = get_wire(simulator, call.id)
    bank = {**BANK, "accountNumber": body["_virtual_account"]}
    bank["currency"] = call.query_of(InstructionsQuery).currency or "USD"
    return Answer({"trackingRef": body["trackingRef"], "beneficiary": BENEFICIARY, "beneficiaryBank": bank})


def get_wire(simulator: Simulator, wire_id: str) -> Body:
    body = simulator.store.get(WIRE, wire_id)
    if body is None:
        raise not_found(message="Bank account not found")
    return body


# Deposits.


def mock_wire(simulator: Simulator, call: Call) -> Answer:
    """A bank sends money. Nothing makes this single: two calls are two wires."""
    asked = call.body_of(CreateMockWire)
    for wire in simulator.store.all(WIRE):
        account = asked.beneficiary_bank.account_number
        if wire["trackingRef"] == asked.tracking_ref and wire["_virtual_account"] == account:
            send_wire(simulator, wire, asked.amount.amount, asked.amount.currency)
            return Answer({**asked.given(), "status": "pending"}, status=201)
    raise not_found(message="No bank account has this tracking reference and account number")


def send_wire(simulator: Simulator, wire: Body, amount: str, currency: str) -> None:
    if not micros(amount):
        raise invalid_field("amount.amount", "min_value", "must be greater than 0", amount)
    delay = int(simulator.pace.wire_arrival * 1000)
    simulator.schedule.after(delay, "deposit.arrive", wire_id=wire["id"], amount=amount, currency=currency)


def arrive(simulator: Simulator, *, wire_id: str, amount: str, currency: str) -> None:
    wire = get_wire(simulator, wire_id)
    now = simulator.clock.timestamp()
    body: Body = {
        "id": simulator.store.new_id(),
        "source": {"type": "wire", "id": wire["id"], "name": wire["description"]},
        "destination": {"type": "wallet", "id": MASTER_WALLET_ID},
        "amount": {"amount": fiat_amount(micros(amount) or 0), "currency": currency},
        "trackingRef": wire["trackingRef"],
        "status": "pending",
        "riskEvaluation": APPROVED,
        "createDate": now,
        "updateDate": now,
    }
    simulator.store.add(DEPOSIT, body, created=simulator.clock.now(), owner=MASTER_WALLET_ID, is_open=True)
    simulator.webhooks.tell_mint("deposits", "deposit", body)
    simulator.schedule.after(int(simulator.pace.deposit * 1000), "deposit.settle", deposit_id=body["id"])


def settle(simulator: Simulator, *, deposit_id: str) -> None:
    body = get_deposit(simulator, deposit_id)
    body["status"], _ = simulator.outcomes.next("deposit")
    body["updateDate"] = simulator.clock.timestamp()
    if body["status"] == "complete":
        amount = body["amount"]
        at = simulator.clock.now()
        simulator.store.change_balance("mint", amount["currency"], micros(amount["amount"]) or 0, at=at)
    else:
        body["riskEvaluation"] = DENIED
    simulator.store.update(body)
    simulator.webhooks.tell_mint("deposits", "deposit", body)


def list_deposits(simulator: Simulator, call: Call) -> Answer:
    return listing(simulator, call, DEPOSIT, call.query_of(DepositQuery), {})


def show_deposit(simulator: Simulator, call: Call) -> Answer:
    return Answer(public(get_deposit(simulator, call.id)))


def get_deposit(simulator: Simulator, deposit_id: str) -> Body:
    body = simulator.store.get(DEPOSIT, deposit_id)
    if body is None:
        raise not_found(message="Deposit not found")
    return body


def spend(simulator: Simulator, source: object, amount: dict[str, str], total: int) -> None:
    """Take money out of Mint's balance; only the master wallet exists here."""
    if source is not None and getattr(source, "id", None) != MASTER_WALLET_ID:
        raise Refusal(400, 1089, "Source wallet not found")
    if simulator.store.balance("mint", amount["currency"]) < total:
        raise Refusal(400, 1093, "Insufficient funds")
    simulator.store.change_balance("mint", amount["currency"], -total, at=simulator.clock.now())
