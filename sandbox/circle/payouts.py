"""Payouts of Mint to linked bank accounts. One that is complete may come back days later."""

from __future__ import annotations

from sandbox.circle import mint
from sandbox.circle.bodies import CreatePayout
from sandbox.circle.call import Answer, Call, listing
from sandbox.circle.money import fiat_amount, micros
from sandbox.circle.outcomes import MAGIC_PAYOUTS
from sandbox.circle.queries import PayoutQuery
from sandbox.circle.refusals import Refusal, invalid_field, not_found
from sandbox.circle.simulator import MASTER_WALLET_ID, Simulator
from sandbox.circle.store import Body, public

KIND = "payout"


def register(simulator: Simulator) -> None:
    simulator.schedule.register("payout.end", lambda **facts: end(simulator, **facts))
    simulator.schedule.register("payout.return", lambda **facts: return_by_itself(simulator, **facts))
    simulator.schedule.register("payout.returned", lambda **facts: finish_return(simulator, **facts))


def create(simulator: Simulator, call: Call) -> list[str]:
    asked = call.body_of(CreatePayout)
    wire = mint.get_wire(simulator, asked.destination.id)
    if wire["status"] != "complete":
        raise Refusal(400, 5003, "The destination is not active")
    amount = micros(asked.amount.amount)
    if not amount:
        raise invalid_field("amount.amount", "min_value", "must be greater than 0", asked.amount.amount)
    fee, currency = simulator.payout_fee_micros, asked.amount.currency
    mint.spend(simulator, asked.source, asked.amount.given(), amount + fee)
    outcome, error = MAGIC_PAYOUTS.get(amount) or simulator.outcomes.next("payout")
    now, payout_id = simulator.clock.timestamp(), simulator.store.new_id()
    body: Body = {
        "id": payout_id,
        "sourceWalletId": MASTER_WALLET_ID,
        "destination": {"type": "wire", "id": wire["id"], "name": wire["description"]},
        "amount": {"amount": fiat_amount(amount), "currency": currency},
        **({"fees": {"amount": fiat_amount(fee), "currency": currency}} if fee else {}),
        "status": "pending",
        "trackingRef": f"CIR-{payout_id[:8].upper()}",
        "riskEvaluation": mint.APPROVED,
        "createDate": now,
        "updateDate": now,
        "_outcome": outcome,
        "_error": error,
        "_micros": amount,
        "_fee": fee,
    }
    simulator.store.add(KIND, body, created=simulator.clock.now())
    simulator.webhooks.tell_mint("payouts", "payout", body)
    simulator.schedule.after(int(simulator.pace.payout * 1000), "payout.end", payout_id=payout_id)
    return [payout_id]


def answer(simulator: Simulator, ids: list[str]) -> Answer:
    return Answer(public(get(simulator, ids[0])))


def show(simulator: Simulator, call: Call) -> Answer:
    return answer(simulator, [call.id])


def list_payouts(simulator: Simulator, call: Call) -> Answer:
    query = call.query_of(PayoutQuery)
    destination = query.destination.lower() if query.destination else None
    listed = listing(simulator, call, KIND, query, {"destination.id": destination, "status": query.status})
    for body in listed.data:
        # Circle leaves that to the single payout.
        del body["trackingRef"]
    return listed


def get(simulator: Simulator, payout_id: str) -> Body:
    body = simulator.store.get(KIND, payout_id)
    if body is None:
        raise not_found(message="Payout not found")
    return body


def end(simulator: Simulator, *, payout_id: str) -> None:
    """The bank has answered."""
    body = get(simulator, payout_id)
    if body["_outcome"] == "failed":
        body["status"] = "failed"
        body["errorCode"] = body["_error"] or "transaction_failed"
        _credit(simulator, body, body["_micros"] + body["_fee"])
    else:
        body["status"] = "complete"
    _changed(simulator, body)
    if body["_outcome"] == "returned":
        delay = int(simulator.pace.payout_return * 1000)
        simulator.schedule.after(delay, "payout.return", payout_id=payout_id)


def return_by_itself(simulator: Simulator, *, payout_id: str) -> None:
    """As was planned for it, unless somebody was quicker."""
    if "return" not in get(simulator, payout_id):
        give_back(simulator, payout_id=payout_id, fee=0, reason="payout_returned")


def give_back(simulator: Simulator, *, payout_id: str, fee: int, reason: str) -> None:
    """The receiving bank sends the money back, less what it keeps."""
    body = get(simulator, payout_id)
    if body["status"] != "complete" or "return" in body or fee > body["_micros"]:
        raise Refusal(409, 409, "Only a complete payout can be returned, once, for at most its amount")
    now, currency = simulator.clock.timestamp(), body["amount"]["currency"]
    body["return"] = {
        "id": simulator.store.new_id(),
        "payoutId": payout_id,
        "amount": body["amount"],
        "fees": {"amount": fiat_amount(fee), "currency": currency},
        "reason": reason,
        "status": "pending",
        "createDate": now,
        "updateDate": now,
    }
    body["_return_fee"] = fee
    _changed(simulator, body)
    simulator.schedule.after(1000, "payout.returned", payout_id=payout_id)


def finish_return(simulator: Simulator, *, payout_id: str) -> None:
    body = get(simulator, payout_id)
    body["return"]["status"] = "complete"
    body["return"]["updateDate"] = simulator.clock.timestamp()
    _credit(simulator, body, body["_micros"] - body["_return_fee"])
    _changed(simulator, body)


def _credit(simulator: Simulator, body: Body, amount: int) -> None:
    simulator.store.change_balance("mint", body["amount"]["currency"], amount, at=simulator.clock.now())


def _changed(simulator: Simulator, body: Body) -> None:
    body["updateDate"] = simulator.clock.timestamp()
    simulator.store.update(body)
    simulator.webhooks.tell_mint("payouts", "payout", body)
