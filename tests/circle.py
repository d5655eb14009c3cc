"""A Circle simulator of a test's own: a process on free ports, with a client for its admin port.

    async def test_something(circle: CircleSandbox) -> None:
        circle.freeze()
        ...
        circle.advance(60)

`circle` (tests/conftest.py) is as new for each test, though one process serves a whole session. `start_circle` makes
one that is to be started otherwise, or stopped: that takes about a second.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox.circle.component import CircleSimulator
from sandbox.component import free_port

if TYPE_CHECKING:
    from tests.circle_contract import Exchange

API_KEY = "TEST_API_KEY:0123456789abcdef:wallets-secret"
MINT_API_KEY = "SAND_API_KEY:fedcba9876543210:mint-secret"
ENTITY_SECRET = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
ENTITY_ID = "5a0de5a0-0000-4000-8000-00000000e111"
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class CircleSandbox:
    """A running simulator. What it is told by the admin port is a method here."""

    def __init__(self, component: CircleSimulator) -> None:
        self.component = component
        self.url = component.url
        self._admin = httpx.Client(base_url=component.admin_url, timeout=10, trust_env=False)
        self.state = self.ask("GET", "/state")
        self.wallet_set_id = str(self.state["wallet_set_id"])

    @property
    def settings(self) -> dict[str, str]:
        """What a server needs to use this simulator."""
        return {
            "CIRCLE_BASE_URL": self.url,
            "CIRCLE_ENV": "sandbox",
            "CIRCLE_CHAIN": "ARC-TESTNET",
            "CIRCLE_WALLET_SET_ID": self.wallet_set_id,
            **CREDENTIALS,
        }

    def operator_wallet(self, blockchain: str = "ARC-TESTNET") -> dict[str, Any]:
        """The wallet that the operator's float stands in."""
        wallet: dict[str, Any] = self.state["operator_wallets"][blockchain]
        return wallet

    def token_id(self, symbol: str, blockchain: str = "ARC-TESTNET") -> str:
        tokens = self.state["tokens"]
        return next(str(one["id"]) for one in tokens if (one["symbol"], one["blockchain"]) == (symbol, blockchain))

    def balance(self, holder: str, symbol: str) -> str:
        """Of a wallet, by its id; or of `mint`, by its currency."""
        held = self.ask("GET", "/state")["balances"]
        found = (one["amount"] for one in held if (one["holder"], one["symbol"]) == (holder, symbol))
        return str(next(found, "0"))

    # Time.

    def freeze(self) -> None:
        self.ask("POST", "/clock", {"mode": "frozen"})

    def advance(self, seconds: float) -> None:
        """What becomes due on the way happens before this returns, its webhooks included."""
        self.ask("POST", "/clock", {"advance_seconds": seconds})

    def run_clock(self) -> None:
        self.ask("POST", "/clock", {"mode": "real"})

    # Faults.

    def set_fault(self, kind: str, **details: Any) -> int:
        """For the next request that fits, unless `times` says otherwise; see sandbox/circle/admin.py."""
        return int(self.ask("POST", "/faults", {"kind": kind, **details})["id"])

    def clear_faults(self) -> None:
        self.ask("DELETE", "/faults")
        self.ask("DELETE", "/webhooks/faults")
        self.ask("DELETE", "/outcomes")

    def set_webhook_fault(self, fault: str, *, times: int | None = 1, seconds: float = 0) -> None:
        self.ask("POST", "/webhooks/faults", {"fault": fault, "times": times, "seconds": seconds})

    def set_outcome(self, kind: str, outcome: str, *, error: str | None = None, times: int | None = 1) -> None:
        self.ask("POST", "/outcomes", {"kind": kind, "outcome": outcome, "error": error, "times": times})

    def configure(self, **settings: Any) -> None:
        self.ask("POST", "/settings", settings)

    # What others do.

    def webhooks(self) -> list[dict[str, Any]]:
        """Every delivery, and what became of it."""
        found: list[dict[str, Any]] = self.ask("GET", "/webhooks")
        return found

    def deliver_webhooks(self) -> None:
        """Return once nothing is due any more."""
        self.ask("POST", "/webhooks/deliver")

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """The requests that came in, those with this in their path."""
        return [one for one in self.ask("GET", "/requests") if path in one["path"]]

    def reset(self) -> None:
        """Forget everything, as before the first start; only the keys stay."""
        self.ask("POST", "/reset")

    def require_contract(self) -> None:
        """Fail if a request that was carried out, or any answer, is not one of sandbox/circle/openapi.yaml's."""
        # Only here, because it costs most of a second, and every test session reads this file.
        from tests.circle_contract import require_contract

        if self.component.process and self.component.exit_code is None:
            require_contract(self.exchanges())

    def exchanges(self) -> list[Exchange]:
        """Every request that reached the application, with its answer."""
        from tests.circle_contract import exchange_of

        found = self.ask("GET", "/requests")
        return [exchange_of(one["exchange"]) for one in found if one["exchange"]]

    def send_wire(self, wire_id: str, amount: str, currency: str = "USD") -> None:
        self.ask("POST", "/wires/incoming", {"wire_id": wire_id, "amount": amount, "currency": currency})

    def return_payout(self, payout_id: str, *, fee: str = "0") -> None:
        self.ask("POST", f"/payouts/{payout_id}/return", {"fee": fee})

    def send_tokens(self, address: str, amount: str, symbol: str = "USDC", blockchain: str = "ARC-TESTNET") -> None:
        order = {"address": address, "amount": amount, "symbol": symbol, "blockchain": blockchain}
        self.ask("POST", "/tokens/incoming", order)

    def ask(self, method: str, path: str, order: dict[str, Any] | None = None) -> Any:
        """Any order of the admin port."""
        response = self._admin.request(method, path, json=order)
        response.raise_for_status()
        return response.json()

    # A client's part.

    def wallets(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {API_KEY}"}, trust_env=False)

    def mint(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {MINT_API_KEY}"}, trust_env=False)

    def ciphertext(self, secret: str = ENTITY_SECRET) -> str:
        """The entity secret, encrypted anew."""
        with self.wallets() as client:
            pem = client.get("/v1/w3s/config/entity/publicKey").json()["data"]["publicKey"]
        key = serialization.load_pem_public_key(pem.replace("RSA PUBLIC KEY", "PUBLIC KEY").encode())
        assert isinstance(key, rsa.RSAPublicKey)
        return base64.b64encode(key.encrypt(bytes.fromhex(secret), _OAEP)).decode()

    def close(self) -> None:
        self._admin.close()


CREDENTIALS = {
    "CIRCLE_API_KEY": API_KEY,
    "CIRCLE_MINT_API_KEY": MINT_API_KEY,
    "CIRCLE_ENTITY_SECRET": ENTITY_SECRET,
    "CIRCLE_ENTITY_ID": ENTITY_ID,
}


@contextlib.contextmanager
def start_circle(
    folder: Path, *, keys: Path, port: int | None = None, extra: tuple[str, ...] = ()
) -> Iterator[CircleSandbox]:
    """Run one in that folder; in a folder that was used before it goes on from there.

    At the end everything that was said is compared with sandbox/circle/openapi.yaml, so every test that uses a
    simulator is also a test of the client's requests and of the simulator's answers.
    """
    port = port or free_port(following=1)
    options = ("--record", *extra)
    component = CircleSimulator(
        folder, port=port, admin_port=port + 1, credentials=CREDENTIALS, keys=keys, extra=options
    )
    component.start()
    try:
        component.wait_ready()
        with contextlib.closing(CircleSandbox(component)) as sandbox:
            yield sandbox
            sandbox.require_contract()
    finally:
        component.stop()
