"""Circle and Amazon as senders of webhooks, with keys of a test's own: what is signed, and how it is forged."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.circle import CircleConfig, EventRules, Rates, connect, known_tokens
from providers.circle.events import CircleEvents
from tests.providers.worlds import ManualClock

KEY_ID = "879dc113-5ca4-4ff7-a6b7-54652083fcf8"
TRANSACTION = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5"
EVENT = "0d3c6a5e-2b39-4a05-9d77-0c3c5a2d6a10"
ENTITY = "5a0de5a0-0000-4000-8000-00000000e111"
TOPIC = "arn:aws:sns:us-west-2:908968368384:sandbox_platform-notifications-topic"
CERTIFICATE_URL = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-1.pem"
CONFIRMING_URL = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=abc"


class Circle(httpx.AsyncBaseTransport):
    """Circle's keys, and nothing else of it."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.topics = [TOPIC]
        self.away = False
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.away:
            raise httpx.ConnectError("away")
        if request.url.path == "/v1/notifications/subscriptions":
            details = [{"url": topic, "status": "confirmed"} for topic in self.topics]
            body = [{"id": EVENT, "endpoint": "https://wallet.test", "subscriptionDetails": details}]
            return httpx.Response(200, json={"data": body})
        key = self.keys.get(request.url.path.rsplit("/", 1)[-1])
        if key is None:
            return httpx.Response(404, json={"code": 404, "message": "Not found"})
        return httpx.Response(200, json={"data": {"id": KEY_ID, "algorithm": "ECDSA_SHA_256", "publicKey": key}})


class Senders:
    """A judge of events, and those whom it is to believe."""

    def __init__(self) -> None:
        self.circle = Circle()
        self.clock = ManualClock()
        self.wallets_key = ec.generate_private_key(ec.SECP256R1())
        self.circle.keys[KEY_ID] = _public(self.wallets_key)
        self.amazon_key, self.certificate = _certificate(self.clock.now())
        config = CircleConfig(
            wallets_url="https://circle.test",
            mint_url="https://circle.test",
            api_key="TEST_API_KEY:id:secret",
            mint_api_key="SAND_API_KEY:id:secret",
            entity_secret=bytes(32),
            wallet_set="",
            chain="ARC-TESTNET",
            tokens=known_tokens("ARC-TESTNET"),
            rates=Rates(reads=1_000, writes=1_000),
            events=EventRules(entity_id=ENTITY),
            transport=self.circle,
        )
        self.config: CircleConfig = config
        self.events: CircleEvents = connect(config, clock=self.clock).events
        self.amazon_asked: list[str] = []
        self.events.mint._http = httpx.AsyncClient(transport=httpx.MockTransport(self._amazon))

    def _amazon(self, request: httpx.Request) -> httpx.Response:
        self.amazon_asked.append(str(request.url))
        return httpx.Response(200, content=self.certificate)

    # --- what they send -----------------------------------------------------------------------------------------------

    def wallets_event(self, **changes: Any) -> bytes:
        event = {
            "subscriptionId": EVENT,
            "notificationId": EVENT,
            "notificationType": "transactions.outbound",
            "notification": {"id": TRANSACTION, "state": "COMPLETE"},
            "timestamp": self.clock.now().isoformat().replace("+00:00", ".779834211Z"),
            "version": 2,
            **changes,
        }
        return json.dumps(event).encode()

    def wallets_headers(self, body: bytes, *, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, str]:
        signature = (key or self.wallets_key).sign(body, ec.ECDSA(hashes.SHA256()))
        return {"x-circle-key-id": KEY_ID, "x-circle-signature": base64.b64encode(signature).decode()}

    def mint_event(self, message: dict[str, Any] | None = None, **changes: str) -> bytes:
        said = message or {"clientId": ENTITY, "notificationType": "payouts", "payout": {"id": TRANSACTION}}
        envelope = {
            "Type": "Notification",
            "MessageId": EVENT,
            "TopicArn": TOPIC,
            "Message": json.dumps(said),
            "Timestamp": self.clock.now().isoformat().replace("+00:00", "Z"),
            "SignatureVersion": "1",
            "SigningCertURL": CERTIFICATE_URL,
            **changes,
        }
        return self.signed(envelope)

    def question(self, **changes: str) -> bytes:
        asked = {"Type": "SubscriptionConfirmation", "Token": "abc", "SubscribeURL": CONFIRMING_URL}
        return self.mint_event(None, **{**asked, **changes})

    def signed(self, envelope: dict[str, str], *, key: rsa.RSAPrivateKey | None = None) -> bytes:
        names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        said = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope).encode()
        algorithm = hashes.SHA256() if envelope["SignatureVersion"] == "2" else hashes.SHA1()
        signature = (key or self.amazon_key).sign(said, padding.PKCS1v15(), algorithm)
        return json.dumps({**envelope, "Signature": base64.b64encode(signature).decode()}).encode()


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def _certificate(now: datetime) -> tuple[rsa.RSAPrivateKey, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    unsigned = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    unsigned = (
        unsigned.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
    )
    return key, unsigned.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
