"""The simulator as a process: what survives it, and where it does not start."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.component import free_port
from tests.circle import CREDENTIALS, start_circle
from tests.sandbox.circle.conftest import TRANSFER, Customer, Endpoint

OUTSIDE = "0x1111111111111111111111111111111111111111"


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_everything_survives_a_restart(tmp_path: Path, circle_keys: Path, endpoint: Endpoint, killed: bool) -> None:
    """Balances, transactions under way, keys that were used, subscriptions, and the time."""
    folder, port = tmp_path / "circle", free_port(following=1)
    with start_circle(folder, keys=circle_keys, port=port) as circle:
        circle.freeze()
        customer = Customer(circle)
        customer.wallets.post("/v2/notifications/subscriptions", json={"endpoint": endpoint.url}).raise_for_status()
        body = customer.transfer_body(OUTSIDE, "400")
        begun = customer.wallets.post(TRANSFER, json=body).json()["data"]
        customer.close()
        if killed:
            circle.component.kill()
    with start_circle(folder, keys=circle_keys, port=port) as circle:
        customer = Customer(circle)
        again = customer.wallets.post(TRANSFER, json={**body, "entitySecretCiphertext": circle.ciphertext()})
        assert (again.status_code, again.json()["data"]) == (200, begun)
        spent = customer.wallets.post(TRANSFER, json=body)
        assert (spent.status_code, spent.json()["code"]) == (400, 156004)
        circle.advance(10)
        assert customer.transaction(begun["id"])["state"] == "COMPLETE"
        assert circle.balance(circle.operator_wallet()["id"], "USDC") == "99599.9995"
        assert endpoint.states()[-1] == "COMPLETE"
        customer.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"CIRCLE_ENV": "production"}, "says production"),
        ({"ENVIRONMENT": "production"}, "says production"),
        ({"CIRCLE_API_KEY": "LIVE_API_KEY:a:b"}, "keys of the sandbox only"),
        ({"CIRCLE_ENTITY_SECRET": "00"}, "not 32 bytes"),
        ({"CIRCLE_MINT_API_KEY": ""}, "needs CIRCLE_MINT_API_KEY"),
    ],
)
def test_it_does_not_start_where_money_could_be_real(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    command = [sys.executable, "-m", "sandbox.circle", str(tmp_path / "circle")]
    ended = subprocess.run(command, env={**CREDENTIALS, **changes}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert reason in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "circle").exists()


def test_its_time_runs_by_itself_unless_it_is_frozen(tmp_path: Path, circle_keys: Path) -> None:
    with start_circle(tmp_path / "circle", keys=circle_keys) as circle:
        circle.configure(rate_limits=False)
        customer = Customer(circle)
        transaction_id = customer.transfer(OUTSIDE)
        circle.freeze()
        stopped_at = circle.ask("GET", "/state")["clock"]["now"]
        circle.run_clock()
        # Bounded by the test's own time limit.
        while customer.transaction(transaction_id)["state"] != "COMPLETE":
            time.sleep(0.05)
        assert circle.ask("GET", "/state")["clock"]["now"] > stopped_at
        customer.close()
