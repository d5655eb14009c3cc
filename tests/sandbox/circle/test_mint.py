"""Mint: wires in, payouts out and sometimes back, and tokens between Mint and the chain."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest

from tests.sandbox.circle.conftest import PAYOUTS, WIRES, Customer, Json


@pytest.fixture
def bank(customer: Customer) -> Json:
    """A linked and verified bank account, with the clock standing still."""
    customer.circle.freeze()
    bank = customer.new_bank()
    customer.circle.advance(1)
    return bank


def test_a_bank_account_is_pending_until_it_is_verified_and_never_tells_its_number(customer: Customer) -> None:
    customer.circle.freeze()
    bank = customer.new_bank(accountNumber="998877665544")
    assert bank["status"] == "pending"
    assert customer.payout(bank["id"]).json()["code"] == 5003
    customer.circle.advance(1)
    shown = customer.mint.get(f"{WIRES}/{bank['id']}")
    assert shown.json()["data"]["status"] == "complete"
    assert "998877665544" not in shown.text
    assert "5544" in shown.json()["data"]["description"]


def test_an_iban_is_a_bank_account_too_and_half_of_each_is_none(customer: Customer) -> None:
    iban = "DE31100400480532013000"
    body: Json = {
        "idempotencyKey": str(uuid4()),
        "iban": iban,
        "billingDetails": {"name": "A", "city": "Berlin", "country": "DE", "line1": "1", "postalCode": "10115"},
        "bankAddress": {"city": "Berlin", "country": "DE"},
    }
    assert customer.mint.post(WIRES, json=body).json()["data"]["description"].endswith("3000")
    half = {**body, "idempotencyKey": str(uuid4()), "routingNumber": "121000248"}
    assert customer.mint.post(WIRES, json=half).status_code == 400


def test_a_wire_with_the_instructions_of_an_account_becomes_a_deposit_and_then_money(
    customer: Customer, bank: Json
) -> None:
    told = customer.mint.get(f"{WIRES}/{bank['id']}/instructions").json()["data"]
    account = told["beneficiaryBank"]["accountNumber"]
    wire: Json = {
        "trackingRef": told["trackingRef"],
        "amount": {"amount": "250.00", "currency": "USD"},
        "beneficiaryBank": {"accountNumber": account},
    }
    assert customer.mint.post("/v1/mocks/payments/wire", json=wire).json()["data"]["status"] == "pending"
    assert customer.mint.get("/v1/businessAccount/deposits").json()["data"] == []
    customer.circle.advance(2)
    (deposit,) = customer.mint.get("/v1/businessAccount/deposits").json()["data"]
    assert (deposit["status"], customer.mint_balance(kind="unsettled")) == ("pending", "250.00")
    customer.circle.advance(1)
    shown = customer.mint.get(f"/v1/businessAccount/deposits/{deposit['id']}").json()["data"]
    assert (shown["status"], shown["trackingRef"], shown["source"]["id"]) == (
        "complete",
        bank["trackingRef"],
        bank["id"],
    )
    assert (customer.mint_balance(), customer.mint_balance(kind="unsettled")) == ("100250.00", "0.00")


def test_a_wire_without_the_reference_reaches_nobody(customer: Customer, bank: Json) -> None:
    wire: Json = {
        "trackingRef": bank["trackingRef"],
        "amount": {"amount": "250.00", "currency": "USD"},
        "beneficiaryBank": {"accountNumber": "0"},
    }
    assert customer.mint.post("/v1/mocks/payments/wire", json=wire).status_code == 404


def test_a_deposit_that_fails_brings_nothing(customer: Customer, bank: Json) -> None:
    customer.circle.set_outcome("deposit", "failed")
    customer.circle.send_wire(bank["id"], "99.00")
    customer.circle.advance(10)
    (deposit,) = customer.mint.get("/v1/businessAccount/deposits").json()["data"]
    assert (deposit["status"], deposit["riskEvaluation"]["decision"]) == ("failed", "denied")
    assert customer.mint_balance() == "100000.00"


def test_a_payout_leaves_the_balance_at_once_and_completes_later(customer: Customer, bank: Json) -> None:
    customer.circle.configure(payout_fee="0.50")
    payout = customer.payout(bank["id"], "100.00").json()["data"]
    assert (payout["status"], payout["fees"]["amount"], customer.mint_balance()) == ("pending", "0.50", "99899.50")
    customer.circle.advance(2)
    shown = customer.mint.get(f"{PAYOUTS}/{payout['id']}").json()["data"]
    assert (shown["status"], customer.mint_balance()) == ("complete", "99899.50")


@pytest.mark.parametrize(
    ("amount", "status", "error"),
    [("6.37", "failed", "transaction_returned"), ("6.53", "failed", "transaction_failed"), ("6.21", "complete", None)],
)
def test_magic_amounts_end_as_in_circles_sandbox(
    customer: Customer, bank: Json, amount: str, status: str, error: str | None
) -> None:
    """Whatever becomes of it, in the end the money is back."""
    payout = customer.payout(bank["id"], amount).json()["data"]
    customer.circle.advance(2)
    shown = customer.mint.get(f"{PAYOUTS}/{payout['id']}").json()["data"]
    assert (shown["status"], shown.get("errorCode")) == (status, error)
    customer.circle.advance(60)
    assert customer.mint_balance() == "100000.00"
    returned = customer.mint.get(f"{PAYOUTS}/{payout['id']}").json()["data"].get("return")
    assert (returned is not None and returned["status"] == "complete") == (amount == "6.21")


def test_a_complete_payout_is_returned_much_later_less_what_a_bank_keeps(customer: Customer, bank: Json) -> None:
    payout = customer.payout(bank["id"], "100.00").json()["data"]
    customer.circle.advance(86_400)
    customer.circle.return_payout(payout["id"], fee="15")
    customer.circle.advance(1)
    returned = customer.mint.get(f"{PAYOUTS}/{payout['id']}").json()["data"]["return"]
    assert (returned["status"], returned["amount"]["amount"], returned["fees"]["amount"]) == (
        "complete",
        "100.00",
        "15.00",
    )
    assert customer.mint_balance() == "99985.00"


def test_a_payout_comes_back_once_whoever_sends_it_back(customer: Customer, bank: Json) -> None:
    payout = customer.payout(bank["id"], "6.21").json()["data"]
    customer.circle.advance(2)
    customer.circle.return_payout(payout["id"])
    customer.circle.advance(60)
    assert customer.mint_balance() == "100000.00"
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        customer.circle.return_payout(payout["id"])


@pytest.mark.parametrize(("amount", "code"), [("100000.01", 1093), ("0.00", 2), ("-1.00", 2), ("1.001", 2)])
def test_a_payout_that_cannot_be_is_refused(customer: Customer, bank: Json, amount: str, code: int) -> None:
    refused = customer.payout(bank["id"], amount)
    assert (refused.status_code, refused.json()["code"], customer.mint_balance()) == (400, code, "100000.00")


def test_payouts_are_listed_by_destination_and_states(customer: Customer, bank: Json) -> None:
    other = customer.new_bank(accountNumber="55550000")
    customer.circle.advance(1)
    done = customer.payout(bank["id"]).json()["data"]["id"]
    customer.circle.advance(2)
    waiting = customer.payout(bank["id"]).json()["data"]["id"]
    customer.payout(other["id"])

    def listed(*filters: tuple[str, str]) -> list[str]:
        query = httpx_params([("destination", bank["id"]), *filters])
        return [one["id"] for one in customer.mint.get(f"{PAYOUTS}?{query}").json()["data"]]

    assert listed() == listed(("status", "pending"), ("status", "complete")) == [waiting, done]
    assert listed(("status", "complete")) == [done]


def test_tokens_go_from_mint_to_an_approved_address_only(customer: Customer) -> None:
    circle = customer.circle
    circle.freeze()
    wallet = customer.new_wallet()
    address: Json = {
        "idempotencyKey": str(uuid4()),
        "address": wallet["address"],
        "chain": "ARC",
        "description": "a wallet",
    }
    recipient = customer.mint.post("/v1/businessAccount/wallets/addresses/recipient", json=address)
    assert (recipient.status_code, recipient.json()["data"]["status"]) == (200, "pending_verification")
    transfer: Json = {
        "idempotencyKey": str(uuid4()),
        "destination": {"type": "verified_blockchain", "addressId": recipient.json()["data"]["id"]},
        "amount": {"amount": "40.00", "currency": "EUR"},
    }
    assert customer.mint.post("/v1/businessAccount/transfers", json=transfer).json()["code"] == 2004
    circle.ask("POST", f"/recipients/{recipient.json()['data']['id']}/approve")
    begun = customer.mint.post("/v1/businessAccount/transfers", json=transfer).json()["data"]
    states = [begun["status"]]
    for _ in range(2):
        circle.advance(0.5)
        states.append(customer.mint.get(f"/v1/businessAccount/transfers/{begun['id']}").json()["data"]["status"])
    assert states == ["pending", "running", "complete"]
    assert (circle.balance(wallet["id"], "EURC"), customer.mint_balance("EUR")) == ("40", "99960.00")


def test_tokens_at_mints_address_are_a_transfer_and_not_a_deposit(customer: Customer) -> None:
    customer.circle.freeze()
    asked: Json = {"idempotencyKey": str(uuid4()), "currency": "USD", "chain": "ARC"}
    address = customer.mint.post("/v1/businessAccount/wallets/addresses/deposit", json=asked).json()["data"]["address"]
    customer.transfer(address, "12.5")
    customer.circle.advance(1)
    (transfer,) = customer.mint.get("/v1/businessAccount/transfers").json()["data"]
    assert (transfer["source"]["type"], transfer["amount"]["amount"]) == ("blockchain", "12.50")
    assert customer.mint.get("/v1/businessAccount/deposits").json()["data"] == []
    assert customer.mint_balance() == "100012.50"


def httpx_params(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs)
