"""The states of a transaction on a clock that the test holds, and the balances that they move."""

from __future__ import annotations

import random
from decimal import Decimal
from uuid import uuid4

import pytest

from tests.sandbox.circle.conftest import TRANSFER, Customer, Endpoint

OUTSIDE = "0x1111111111111111111111111111111111111111"


def test_a_transfer_goes_through_its_states_as_time_passes_and_skips_confirmed_on_arc(customer: Customer) -> None:
    customer.circle.freeze()
    transaction_id = customer.transfer(OUTSIDE, refId="settlement 1")
    states = []
    for _ in range(10):
        states.append(customer.transaction(transaction_id)["state"])
        customer.circle.advance(0.1)
    assert sorted(set(states), key=states.index) == ["INITIATED", "CLEARED", "QUEUED", "SENT", "COMPLETE"]
    assert customer.transaction(transaction_id)["refId"] == "settlement 1"


def test_a_transfer_on_base_is_confirmed_in_seconds_and_complete_in_minutes(customer: Customer) -> None:
    customer.circle.freeze()
    source = customer.circle.operator_wallet("BASE-SEPOLIA")["id"]
    token = customer.circle.token_id("USDC", "BASE-SEPOLIA")
    transaction_id = customer.transfer(OUTSIDE, walletId=source, tokenId=token)
    customer.circle.advance(5)
    assert customer.transaction(transaction_id)["state"] == "CONFIRMED"
    customer.circle.advance(240)
    assert customer.transaction(transaction_id)["state"] == "COMPLETE"


def test_between_two_wallets_of_ours_the_money_is_the_same_before_and_after_but_for_gas(customer: Customer) -> None:
    """An EOA pays for gas, on Arc in USDC; what it paid is in the transaction."""
    circle = customer.circle
    circle.freeze()
    recipient, operator = customer.new_wallet(), circle.operator_wallet()["id"]
    transaction_id = customer.transfer(recipient["address"], "250")
    assert circle.balance(operator, "USDC") == "100000"
    circle.advance(1)
    assert circle.balance(recipient["id"], "USDC") == "250"
    assert customer.transaction(transaction_id)["networkFee"] == "0.0005"
    assert circle.balance(operator, "USDC") == "99749.9995"


def test_a_sponsored_wallet_sends_its_last_cent_and_one_transaction_at_a_time(customer: Customer) -> None:
    circle = customer.circle
    circle.freeze()
    wallet = customer.new_wallet("SCA")
    circle.send_tokens(wallet["address"], "2")
    first = customer.transfer(OUTSIDE, "1", walletId=wallet["id"])
    second = customer.transfer_body(OUTSIDE, "1", walletId=wallet["id"])
    refused = customer.wallets.post(TRANSFER, json=second)
    assert (refused.status_code, refused.json()["code"]) == (400, 155264)
    circle.advance(1)
    # The same key again: a refusal has not used it up.
    again = customer.wallets.post(TRANSFER, json={**second, "entitySecretCiphertext": circle.ciphertext()})
    assert again.status_code == 201
    circle.advance(1)
    assert customer.transaction(first)["state"] == "COMPLETE"
    assert circle.balance(wallet["id"], "USDC") == "0"


def test_what_is_under_way_cannot_be_spent_a_second_time(customer: Customer) -> None:
    customer.circle.freeze()
    customer.transfer(OUTSIDE, "60000")
    refused = customer.wallets.post(TRANSFER, json=customer.transfer_body(OUTSIDE, "60000"))
    assert (refused.status_code, refused.json()["code"]) == (400, 155258)


def test_a_wallet_on_base_without_ether_cannot_pay_for_gas(customer: Customer) -> None:
    wallet = customer.new_wallet("EOA", "BASE-SEPOLIA")
    customer.circle.send_tokens(wallet["address"], "5", blockchain="BASE-SEPOLIA")
    token = customer.circle.token_id("USDC", "BASE-SEPOLIA")
    body = customer.transfer_body(OUTSIDE, "1", walletId=wallet["id"], tokenId=token)
    refused = customer.wallets.post(TRANSFER, json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, 155201)


def test_a_denied_or_failed_transfer_moves_nothing_and_says_why(customer: Customer) -> None:
    circle = customer.circle
    circle.freeze()
    circle.set_outcome("transaction", "DENIED")
    circle.set_outcome("transaction", "FAILED", error="FAILED_ON_CHAIN")
    denied, failed = customer.transfer(OUTSIDE), customer.transfer(OUTSIDE)
    circle.advance(10)
    assert customer.transaction(denied)["state"] == "DENIED"
    assert (customer.transaction(failed)["state"], customer.transaction(failed)["errorReason"]) == (
        "FAILED",
        "FAILED_ON_CHAIN",
    )
    assert circle.balance(circle.operator_wallet()["id"], "USDC") == "100000"


def test_magic_addresses_need_no_admin(customer: Customer) -> None:
    customer.circle.freeze()
    endings = {
        "0x00000000000000000000000000000000000DE91D": "DENIED",
        "0x00000000000000000000000000000000000FA11D": "FAILED",
        "0x0000000000000000000000000000000000057CC4": "STUCK",
    }
    begun = {customer.transfer(address): state for address, state in endings.items()}
    customer.circle.advance(10)
    assert {transaction_id: customer.transaction(transaction_id)["state"] for transaction_id in begun} == begun


def test_a_stuck_transaction_completes_once_it_is_accelerated(customer: Customer) -> None:
    circle = customer.circle
    circle.freeze()
    circle.set_outcome("transaction", "STUCK")
    stuck = customer.transfer(OUTSIDE)
    circle.advance(3600)
    assert customer.transaction(stuck)["state"] == "STUCK"
    path = f"/v1/w3s/developer/transactions/{stuck}/accelerate"
    assert customer.wallets.post(path, json=customer.signed({})).json()["data"]["state"] == "SENT"
    circle.advance(1)
    assert customer.transaction(stuck)["state"] == "COMPLETE"
    refused = customer.wallets.post(path, json=customer.signed({}))
    assert refused.status_code == 400


def test_cancelling_wins_against_a_stuck_transaction_and_loses_against_a_quick_one(customer: Customer) -> None:
    circle = customer.circle
    circle.freeze()
    circle.set_outcome("transaction", "STUCK")
    stuck, quick = customer.transfer(OUTSIDE), customer.transfer(OUTSIDE)
    circle.advance(0.85)
    for transaction_id in (stuck, quick):
        path = f"/v1/w3s/developer/transactions/{transaction_id}/cancel"
        assert customer.wallets.post(path, json=customer.signed({})).status_code == 201
    circle.advance(10)
    assert customer.transaction(stuck)["state"] == "CANCELLED"
    assert customer.transaction(quick)["state"] == "COMPLETE"
    assert circle.balance(circle.operator_wallet()["id"], "USDC") == "99998.7495"


def test_confirmed_may_be_told_after_complete(customer: Customer, subscribed: Endpoint) -> None:
    customer.circle.set_outcome("transaction", "CONFIRMED_LATE")
    transaction_id = customer.transfer(OUTSIDE)
    customer.circle.advance(10)
    assert subscribed.states()[-2:] == ["COMPLETE", "CONFIRMED"]
    assert customer.transaction(transaction_id)["state"] == "COMPLETE"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_no_money_is_made_or_lost(customer: Customer, seed: int) -> None:
    """Random transfers, refused or not, with random ends and at random times, between wallets and Mint."""
    circle, chance = customer.circle, random.Random(seed)
    circle.freeze()
    asked = {"idempotencyKey": str(uuid4()), "currency": "USD", "chain": "ARC"}
    mint = customer.mint.post("/v1/businessAccount/wallets/addresses/deposit", json=asked).json()["data"]["address"]
    wallets = [circle.operator_wallet(), *(customer.new_wallet(kind) for kind in ("SCA", "SCA", "EOA"))]
    begun = []
    for _ in range(40):
        if chance.random() < 0.3:
            circle.set_outcome("transaction", chance.choice(["FAILED", "DENIED", "STUCK", "CONFIRMED_LATE"]))
        source, amount = chance.choice(wallets), str(chance.randrange(1, 40_000_000) / 1000)
        destination = chance.choice([wallet["address"] for wallet in wallets] + [mint])
        body = customer.transfer_body(destination, amount, walletId=source["id"])
        answer = customer.wallets.post(TRANSFER, json=body)
        assert answer.status_code in (201, 400)
        begun += [answer.json()["data"]["id"]] if answer.status_code == 201 else []
        circle.advance(chance.random())
    circle.advance(60)
    fees = sum(Decimal(customer.transaction(one).get("networkFee", "0")) for one in begun)
    standing = sum(Decimal(circle.balance(wallet["id"], "USDC")) for wallet in wallets)
    assert len(begun) > 10
    assert standing + Decimal(circle.balance("mint", "USD")) + fees == 200_000


def test_transactions_are_found_by_the_filters_that_circle_has(customer: Customer) -> None:
    circle = customer.circle
    circle.freeze()
    recipient = customer.new_wallet()
    outbound = customer.transfer(recipient["address"], refId="a")
    circle.advance(1)

    def found(**filters: str) -> set[tuple[str, str]]:
        listed = customer.wallets.get("/v1/w3s/transactions", params=filters).json()["data"]["transactions"]
        return {(one["transactionType"], one["walletId"]) for one in listed}

    operator = circle.operator_wallet()["id"]
    both = {("OUTBOUND", operator), ("INBOUND", recipient["id"])}
    assert found() == found(destinationAddress=recipient["address"], state="COMPLETE") == both
    assert found(walletIds=operator) == found(txType="OUTBOUND") == {("OUTBOUND", operator)}
    assert found(state="FAILED") == set()
    created = customer.transaction(outbound)["createDate"]
    assert found(**{"from": created}) == both
    assert found(to=created) == {("OUTBOUND", operator)}
