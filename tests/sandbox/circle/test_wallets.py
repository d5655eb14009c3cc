"""Wallets: made ahead, found again, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.circle import CircleSandbox
from tests.sandbox.circle.conftest import TRANSFER, Customer, Json

OUTSIDE = "0x1111111111111111111111111111111111111111"


def test_two_hundred_wallets_come_with_their_addresses_and_one_more_is_refused(customer: Customer) -> None:
    asked = {"walletSetId": customer.circle.wallet_set_id, "blockchains": ["ARC-TESTNET"], "count": 200}
    response = customer.wallets.post("/v1/w3s/developer/wallets", json=customer.signed(asked))
    assert len({wallet["address"] for wallet in response.json()["data"]["wallets"]}) == 200
    refused = customer.wallets.post("/v1/w3s/developer/wallets", json=customer.signed({**asked, "count": 201}))
    assert (refused.status_code, refused.json()["errors"][0]["error"]) == (400, "max_value")


def test_a_wallet_of_the_pool_is_found_under_the_name_it_was_given(customer: Customer) -> None:
    wallet = customer.new_wallet()
    named = customer.wallets.put(f"/v1/w3s/wallets/{wallet['id']}", json={"refId": "consumer 1"})
    assert named.json()["data"]["wallet"]["refId"] == "consumer 1"
    found = customer.wallets.get("/v1/w3s/wallets", params={"refId": "consumer 1"}).json()["data"]["wallets"]
    assert [one["id"] for one in found] == [wallet["id"]]


def test_a_list_is_walked_by_the_links_to_its_next_pages(customer: Customer) -> None:
    made = [customer.new_wallet()["id"] for _ in range(5)]
    url, seen = f"{customer.circle.url}/v1/w3s/wallets?pageSize=2&order=ASC", []
    while url:
        page = customer.wallets.get(url)
        seen += [wallet["id"] for wallet in page.json()["data"]["wallets"]]
        links = [link.split("; rel=") for link in page.headers["Link"].split(", ")]
        url = next((where for where, name in links if name == "next"), "")
    assert seen[-5:] == made
    assert len(seen) == len(set(seen)) == 7


def test_mint_writes_its_links_with_brackets_and_both_ends_of_a_list_say_so(customer: Customer) -> None:
    """httpx, as most clients, reads the standard form; that of Wallets has to be read by hand."""
    bank = customer.new_bank()
    customer.circle.freeze()
    for amount in ("1.00", "2.00", "3.00"):
        customer.circle.send_wire(bank["id"], amount)
    customer.circle.advance(10)
    first = customer.mint.get("/v1/businessAccount/deposits", params={"pageSize": 2})
    assert "prev" not in first.links
    second = customer.mint.get(first.links["next"]["url"])
    assert "next" not in second.links
    back = customer.mint.get(second.links["prev"]["url"])
    assert back.json() == first.json()
    amounts = [one["amount"]["amount"] for page in (first, second) for one in page.json()["data"]]
    assert amounts == ["3.00", "2.00", "1.00"]


def test_tokens_from_outside_are_in_the_balance_and_an_inbound_transaction(customer: Customer) -> None:
    wallet = customer.new_wallet()
    customer.circle.send_tokens(wallet["address"], "7.5", "EURC")
    balances = customer.wallets.get(f"/v1/w3s/wallets/{wallet['id']}/balances").json()["data"]["tokenBalances"]
    assert [(one["token"]["symbol"], one["amount"]) for one in balances] == [("EURC", "7.5")]
    listed = customer.wallets.get("/v1/w3s/transactions", params={"walletIds": wallet["id"]}).json()
    assert [one["transactionType"] for one in listed["data"]["transactions"]] == ["INBOUND"]


def test_the_faucet_fills_a_wallet_on_a_test_network_only(customer: Customer) -> None:
    wallet = customer.new_wallet(blockchain="BASE-SEPOLIA")
    asked: Json = {"address": wallet["address"], "blockchain": "BASE-SEPOLIA", "usdc": True, "native": True}
    assert customer.wallets.post("/v1/faucet/drips", json=asked).status_code == 204
    balances = customer.wallets.get(f"/v1/w3s/wallets/{wallet['id']}/balances").json()["data"]["tokenBalances"]
    assert {one["token"]["symbol"] for one in balances} == {"USDC", "ETH"}
    refused = customer.wallets.post("/v1/faucet/drips", json={**asked, "blockchain": "BASE"})
    assert (refused.status_code, refused.json()["code"]) == (400, 156006)


def test_the_operator_finds_its_float_by_its_name(circle: CircleSandbox) -> None:
    with circle.wallets() as client:
        query = {"refId": "operator", "blockchain": "ARC-TESTNET"}
        found = client.get("/v1/w3s/wallets", params=query).json()["data"]["wallets"]
    assert [one["id"] for one in found] == [circle.operator_wallet()["id"]]
    assert (circle.balance(found[0]["id"], "USDC"), circle.balance(found[0]["id"], "EURC")) == ("100000", "100000")


Refusing = Callable[[Customer], httpx.Response]


def _send(customer: Customer, destination: str = OUTSIDE, amount: str = "1.25", **changes: object) -> httpx.Response:
    return customer.wallets.post(TRANSFER, json=customer.transfer_body(destination, amount, **changes))


@pytest.mark.parametrize(
    ("refusing", "status", "code"),
    [
        (lambda customer: _send(customer, amount="100000.01"), 400, 155258),
        (lambda customer: _send(customer, amount="0"), 400, 2),
        (lambda customer: _send(customer, amount="1.0000001"), 400, 2),
        (lambda customer: _send(customer, amounts=[1.25]), 400, 2),
        (lambda customer: _send(customer, "0x1234"), 400, 2),
        (lambda customer: _send(customer, walletId="00000000-0000-4000-8000-000000000000"), 404, 156001),
        (lambda customer: _send(customer, tokenId="00000000-0000-4000-8000-000000000000"), 404, 156002),
        (lambda customer: _send(customer, tokenId=customer.circle.token_id("USDC", "BASE-SEPOLIA")), 400, 155220),
        (lambda customer: _send(customer, walletId=customer.new_wallet("EOA")["id"]), 400, 155258),
        (lambda customer: _send(customer, refIdd="typo"), 400, 2),
    ],
    ids=[
        "more than there is",
        "nothing",
        "a fraction of a micro",
        "a number instead of a string",
        "no address",
        "no such wallet",
        "no such token",
        "another chain's token",
        "an empty wallet",
        "an unknown field",
    ],
)
def test_a_transfer_is_refused_and_moves_nothing(
    customer: Customer, refusing: Refusing, status: int, code: int
) -> None:
    refused = refusing(customer)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    customer.circle.advance(10)
    assert customer.circle.balance(customer.circle.operator_wallet()["id"], "USDC") == "100000"


def test_a_frozen_wallet_sends_nothing_until_it_is_thawed(customer: Customer) -> None:
    wallet = customer.circle.operator_wallet()
    customer.circle.ask("POST", f"/wallets/{wallet['id']}/freeze")
    refused = _send(customer)
    assert (refused.status_code, refused.json()["code"]) == (409, 155501)
    customer.circle.ask("POST", f"/wallets/{wallet['id']}/thaw")
    assert _send(customer).status_code == 201
