"""A client of the simulator as plain as can be, and an endpoint that hears its webhooks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.circle import CircleSandbox

Json = dict[str, Any]
TRANSFER = "/v1/w3s/developer/transactions/transfer"
WIRES, PAYOUTS = "/v1/businessAccount/banks/wires", "/v1/businessAccount/payouts"


class Customer:
    """Whoever has the keys."""

    def __init__(self, circle: CircleSandbox) -> None:
        self.circle = circle
        self.wallets = circle.wallets()
        self.mint = circle.mint()

    def signed(self, body: Json) -> Json:
        return {"idempotencyKey": str(uuid4()), "entitySecretCiphertext": self.circle.ciphertext(), **body}

    def new_wallet(self, account_type: str = "SCA", blockchain: str = "ARC-TESTNET") -> Json:
        asked = {
            "walletSetId": self.circle.wallet_set_id,
            "blockchains": [blockchain],
            "accountType": account_type,
            "count": 1,
        }
        response = self.wallets.post("/v1/w3s/developer/wallets", json=self.signed(asked))
        assert response.status_code == 201, response.text
        wallet: Json = response.json()["data"]["wallets"][0]
        return wallet

    def transfer_body(self, destination: str, amount: str = "1.25", **changes: Any) -> Json:
        """Out of the operator's float, unless said otherwise."""
        body = {
            "walletId": self.circle.operator_wallet()["id"],
            "tokenId": self.circle.token_id("USDC"),
            "destinationAddress": destination,
            "amounts": [amount],
            "feeLevel": "MEDIUM",
        }
        return self.signed({**body, **changes})

    def transfer(self, destination: str, amount: str = "1.25", **changes: Any) -> str:
        """The id of a transaction that has begun."""
        response = self.wallets.post(TRANSFER, json=self.transfer_body(destination, amount, **changes))
        assert response.status_code == 201, response.text
        return str(response.json()["data"]["id"])

    def transaction(self, transaction_id: str) -> Json:
        found: Json = self.wallets.get(f"/v1/w3s/transactions/{transaction_id}").json()["data"]["transaction"]
        return found

    def new_bank(self, **changes: Any) -> Json:
        """A linked bank account, not verified yet."""
        address = {"city": "Boston", "country": "US", "line1": "1 Main Street", "postalCode": "02201"}
        body = {
            "idempotencyKey": str(uuid4()),
            "accountNumber": "12340010",
            "routingNumber": "121000248",
            "billingDetails": {"name": "Satoshi Nakamoto", **address},
            "bankAddress": {"bankName": "SAN FRANCISCO", "country": "US"},
        }
        response = self.mint.post(WIRES, json={**body, **changes})
        assert response.status_code == 201, response.text
        bank: Json = response.json()["data"]
        return bank

    def payout(self, bank_id: str, amount: str = "10.00") -> httpx.Response:
        body = {
            "idempotencyKey": str(uuid4()),
            "destination": {"type": "wire", "id": bank_id},
            "amount": {"amount": amount, "currency": "USD"},
        }
        return self.mint.post(PAYOUTS, json=body)

    def mint_balance(self, currency: str = "USD", kind: str = "available") -> str:
        balances = self.mint.get("/v1/businessAccount/balances").json()["data"][kind]
        return next(str(one["amount"]) for one in balances if one["currency"] == currency)

    def close(self) -> None:
        self.wallets.close()
        self.mint.close()


@dataclass
class Heard:
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found


@dataclass
class Endpoint:
    """Hears webhooks; answers what it is told to answer."""

    url: str = ""
    status: int = 200
    heard: list[Heard] = field(default_factory=list)

    def wallets_events(self) -> list[Json]:
        events = (one.json for one in self.heard if "X-Circle-Signature" in one.headers)
        return [event for event in events if event["notificationType"] != "webhooks.test"]

    def states(self) -> list[str]:
        """Of transactions, in the order in which they were heard."""
        return [str(event["notification"]["state"]) for event in self.wallets_events()]

    def mint_events(self) -> list[Json]:
        envelopes = (one.json for one in self.heard if "x-amz-sns-message-type" in one.headers)
        return [json.loads(one["Message"]) for one in envelopes if one["Type"] == "Notification"]


@pytest.fixture
def customer(circle: CircleSandbox) -> Iterator[Customer]:
    circle.configure(rate_limits=False)
    customer = Customer(circle)
    yield customer
    customer.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(200)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.heard.append(Heard(dict(self.headers.items()), body))
            self._answer(endpoint.status)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield endpoint
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def subscribed(customer: Customer, endpoint: Endpoint) -> Endpoint:
    """The endpoint, subscribed to both products and confirmed, with nothing heard yet."""
    circle = customer.circle
    circle.freeze()
    wanted = {"endpoint": endpoint.url, "notificationTypes": ["transactions.*"]}
    customer.wallets.post("/v2/notifications/subscriptions", json=wanted).raise_for_status()
    customer.mint.post("/v1/notifications/subscriptions", json={"endpoint": endpoint.url}).raise_for_status()
    circle.deliver_webhooks()
    confirmation = next(one.json for one in endpoint.heard if "SubscribeURL" in one.json)
    httpx.get(confirmation["SubscribeURL"], trust_env=False).raise_for_status()
    endpoint.heard.clear()
    return endpoint
