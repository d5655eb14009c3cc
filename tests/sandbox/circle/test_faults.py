"""Each fault switch, and what is true of the request that it hit."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.sandbox.circle.conftest import TRANSFER, Customer

OUTSIDE = "0x1111111111111111111111111111111111111111"
PING = "/v1/w3s/config/entity"


def executed(customer: Customer) -> int:
    return len(customer.wallets.get("/v1/w3s/transactions").json()["data"]["transactions"])


def test_an_error_before_the_effect_leaves_nothing_behind(customer: Customer) -> None:
    customer.circle.set_fault("error", path="transfer", status=503)
    failed = customer.wallets.post(TRANSFER, json=customer.transfer_body(OUTSIDE))
    assert (failed.status_code, failed.json()["code"]) == (503, -1)
    assert executed(customer) == 0


def test_an_error_after_the_effect_hides_that_it_was_executed(customer: Customer) -> None:
    customer.circle.set_fault("error", when="after", path="transfer", status=500)
    body = customer.transfer_body(OUTSIDE)
    assert customer.wallets.post(TRANSFER, json=body).status_code == 500
    assert executed(customer) == 1
    again = customer.wallets.post(TRANSFER, json={**body, "entitySecretCiphertext": customer.circle.ciphertext()})
    assert (again.status_code, executed(customer)) == (200, 1)


def test_silence_after_the_effect_is_a_transfer_that_nobody_was_told_of(customer: Customer) -> None:
    """The case that a second payment is made of, if a client takes a timeout for a no."""
    customer.circle.set_fault("silence", when="after", path="transfer")
    body = customer.transfer_body(OUTSIDE, refId="settlement 7")
    with pytest.raises(httpx.ReadTimeout):
        customer.wallets.post(TRANSFER, json=body, timeout=0.3)
    (found,) = customer.wallets.get("/v1/w3s/transactions").json()["data"]["transactions"]
    assert found["refId"] == "settlement 7"


def test_silence_before_the_effect_looks_the_same_and_nothing_happened(customer: Customer) -> None:
    customer.circle.set_fault("silence", path="transfer")
    with pytest.raises(httpx.ReadTimeout):
        customer.wallets.post(TRANSFER, json=customer.transfer_body(OUTSIDE), timeout=0.3)
    assert executed(customer) == 0


@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1)])
def test_a_reset_connection_says_nothing_about_the_effect(customer: Customer, when: str, effects: int) -> None:
    customer.circle.set_fault("reset", when=when, path="transfer")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        customer.wallets.post(TRANSFER, json=customer.transfer_body(OUTSIDE))
    assert executed(customer) == effects


def test_a_burst_of_429_names_the_time_to_wait_and_then_it_is_over(customer: Customer) -> None:
    customer.circle.set_fault("rate_limit", times=3, retry_after=7)
    answers = [customer.wallets.get(PING) for _ in range(4)]
    assert [one.status_code for one in answers] == [429, 429, 429, 200]
    assert {one.headers.get("Retry-After") for one in answers[:3]} == {"7"}


def test_latency_comes_alone_or_with_another_fault(customer: Customer) -> None:
    customer.circle.set_fault("latency", seconds=0.3, times=2)
    began = time.monotonic()
    assert customer.wallets.get(PING).status_code == 200
    assert time.monotonic() - began >= 0.3
    customer.circle.set_fault("error", status=502)
    began = time.monotonic()
    assert customer.wallets.get(PING).status_code == 502
    assert time.monotonic() - began >= 0.3


def test_a_fault_waits_for_the_requests_it_is_for(customer: Customer) -> None:
    """By method and path, after so many others, so often, or until it is taken away."""
    circle = customer.circle
    circle.set_fault("error", method="GET", path="config/entity$", skip=1, times=None, status=500)
    statuses = [customer.wallets.get(PING).status_code for _ in range(3)]
    assert statuses == [200, 500, 500]
    assert customer.mint.get("/v1/configuration").status_code == 200
    (fault,) = circle.ask("GET", "/faults")
    assert fault["hits"] == 2
    circle.ask("DELETE", f"/faults/{fault['id']}")
    assert customer.wallets.get(PING).status_code == 200


def test_what_came_in_and_what_became_of_it_is_told_afterwards(customer: Customer) -> None:
    customer.circle.set_fault("error", when="after", path="entity")
    customer.wallets.get(PING, headers={"X-Request-Id": "mine"})
    (seen,) = customer.circle.requests("config/entity")
    assert (seen["request_id"], seen["status"], seen["faults"]) == ("mine", 200, "error")


def test_an_order_that_makes_no_sense_is_refused(customer: Customer) -> None:
    for path, order in (
        ("/faults", {"kind": "earthquake"}),
        ("/outcomes", {"kind": "payout", "outcome": "STUCK"}),
        ("/settings", {"pace": {"payouts": 1}}),
        ("/clock", {"advance_seconds": -1}),
    ):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            customer.circle.ask("POST", path, order)
