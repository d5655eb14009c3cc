"""Who is let in, how often, and what makes a request single."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest

from tests.circle import API_KEY, MINT_API_KEY, CircleSandbox
from tests.sandbox.circle.conftest import TRANSFER, Customer

OUTSIDE = "0x1111111111111111111111111111111111111111"


@pytest.mark.parametrize(
    ("path", "authorization", "code"),
    [
        ("/v1/w3s/config/entity", "", 401),
        ("/v1/w3s/config/entity", API_KEY, 401),
        ("/v1/w3s/config/entity", f"Bearer {API_KEY}x", 156007),
        ("/v1/w3s/config/entity", f"Bearer {MINT_API_KEY}", 156007),
        ("/v1/configuration", f"Bearer {API_KEY}", 401),
    ],
    ids=["no key", "no scheme", "a wrong key", "Mint's key at Wallets", "Wallets' key at Mint"],
)
def test_a_call_without_the_right_key_is_refused(
    circle: CircleSandbox, path: str, authorization: str, code: int
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    refused = httpx.get(f"{circle.url}{path}", headers=headers, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (401, code)
    assert refused.headers["X-Request-Id"]


def test_a_client_may_name_its_request_and_otherwise_it_gets_a_name(circle: CircleSandbox) -> None:
    with circle.wallets() as client:
        named = client.get("/v1/w3s/config/entity", headers={"X-Request-Id": "mine"})
        unnamed = [client.get("/v1/w3s/config/entity").headers["X-Request-Id"] for _ in range(2)]
    assert named.headers["X-Request-Id"] == "mine"
    assert len(set(unnamed)) == 2


def test_more_requests_a_second_than_allowed_are_refused_with_the_time_to_wait(circle: CircleSandbox) -> None:
    """Reading and writing are counted apart, and each key by itself."""
    with circle.wallets() as wallets, circle.mint() as mint:
        reads = [wallets.get("/v1/w3s/config/entity") for _ in range(60)]
        refused = [one for one in reads if one.status_code == 429]
        assert len(refused) >= 20
        assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)
        assert mint.get("/v1/configuration").status_code == 200
        assert wallets.post("/v1/faucet/drips", json={}).status_code == 400


def test_a_repeated_transfer_is_answered_with_the_first_and_executed_once(customer: Customer) -> None:
    customer.circle.freeze()
    body = customer.transfer_body(OUTSIDE)
    first = customer.wallets.post(TRANSFER, json=body)
    customer.circle.advance(10)
    again = customer.wallets.post(TRANSFER, json={**body, "entitySecretCiphertext": customer.circle.ciphertext()})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["data"]["id"] == again.json()["data"]["id"]
    # As it is now, not as it was.
    assert again.json()["data"]["state"] == "COMPLETE"
    listed = customer.wallets.get("/v1/w3s/transactions").json()["data"]["transactions"]
    assert len(listed) == 1


def test_a_key_that_was_used_for_another_transfer_is_refused(customer: Customer) -> None:
    body = customer.transfer_body(OUTSIDE)
    customer.wallets.post(TRANSFER, json=body)
    other = {**body, "amounts": ["2"], "entitySecretCiphertext": customer.circle.ciphertext()}
    refused = customer.wallets.post(TRANSFER, json=other)
    assert (refused.status_code, refused.json()["code"]) == (403, 156020)


def test_mint_repeats_with_the_same_status_and_refuses_another_request_with_its_own_code(customer: Customer) -> None:
    key = str(uuid4())
    first = customer.new_bank(idempotencyKey=key)
    assert customer.new_bank(idempotencyKey=key)["id"] == first["id"]
    with pytest.raises(AssertionError, match="1083"):
        customer.new_bank(idempotencyKey=key, accountNumber="99999999")


def test_a_ciphertext_is_good_for_one_request(customer: Customer) -> None:
    body = customer.transfer_body(OUTSIDE)
    customer.wallets.post(TRANSFER, json=body)
    refused = customer.wallets.post(TRANSFER, json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, 156004)


def test_another_entity_secret_or_none_at_all_is_refused(customer: Customer) -> None:
    wrong = customer.circle.ciphertext(secret="00" * 32)
    for ciphertext in (wrong, "A" * 683 + "="):
        body = {**customer.transfer_body(OUTSIDE), "entitySecretCiphertext": ciphertext}
        refused = customer.wallets.post(TRANSFER, json=body)
        assert (refused.status_code, refused.json()["code"]) == (400, 156013)


def test_a_malformed_request_leaves_its_key_free(customer: Customer) -> None:
    body = customer.transfer_body(OUTSIDE)
    malformed = customer.wallets.post(TRANSFER, json={**body, "amounts": ["one"]})
    assert (malformed.status_code, malformed.json()["errors"][0]["location"]) == (400, "amounts.0")
    assert customer.wallets.post(TRANSFER, json=body).status_code == 201


def test_a_body_that_is_no_json_is_refused(customer: Customer) -> None:
    refused = customer.wallets.post(TRANSFER, content=b"{", headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (400, 2)
