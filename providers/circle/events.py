"""Webhooks of Circle's: those of Wallets here, those of Mint in `sns.py`, and what either is about.

Wallets signs the bytes of the body with ECDSA and names the key in a header. Nothing is parsed before that signature
has been verified, and nothing is ever serialised again to verify it. The one freshness there is is the body's own
`timestamp`, of an event that Circle goes on delivering for a day and a half: so an old copy is refused after two days,
and a younger one by its id, which the inbox has seen.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from domain.clock import Clock
from providers.base import ProviderUnavailable
from providers.circle.client import CircleClient
from providers.circle.keys import KeptKeys
from providers.circle.reading import event_object, event_time, is_uuid, text
from providers.circle.sns import SnsEvents
from providers.circle.subscriptions import CircleSubscriptions
from providers.events import EventRefused, ProviderEvent, RefusalCause

SOURCE = "circle"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRules:
    """Whom we believe. Beyond Amazon's own hosts certificates come from those named here, in a sandbox."""

    entity_id: str | None = None
    topics: frozenset[str] = frozenset()
    """Topics of SNS, besides those that Circle names for our subscription."""
    certificate_hosts: frozenset[str] = frozenset()
    wallets_max_age: timedelta = timedelta(hours=48)
    mint_max_age: timedelta = timedelta(hours=1)


class CircleEvents:
    """Both verifiers, and the answer to a subscription's question."""

    def __init__(
        self, client: CircleClient, subscriptions: CircleSubscriptions, rules: EventRules, *, clock: Clock
    ) -> None:
        self.wallets = WalletsEvents(client, max_age=rules.wallets_max_age, clock=clock)
        self.mint = SnsEvents(
            subscriptions.topics,
            entity_id=rules.entity_id,
            topics=rules.topics,
            hosts=rules.certificate_hosts,
            max_age=rules.mint_max_age,
            clock=clock,
        )

    async def close(self) -> None:
        await self.mint.close()


class WalletsEvents:
    """Version 2: ECDSA over the raw bytes."""

    def __init__(self, client: CircleClient, *, max_age: timedelta, clock: Clock) -> None:
        self._client = client
        self._max_age = max_age
        self._clock = clock
        self._keys = KeptKeys(self._read_key, clock=clock)

    async def verify(self, headers: Mapping[str, str], body: bytes) -> ProviderEvent:
        key_id = headers.get("x-circle-key-id", "").lower()
        if not is_uuid(key_id):
            # It becomes part of a path, and everybody can send a header.
            raise EventRefused(RefusalCause.MALFORMED, "the key's name is no UUID")
        key = await self._keys.get(key_id)
        if key is None or not _is_signed(body, headers.get("x-circle-signature", ""), key):
            raise EventRefused(RefusalCause.FORGED, "not signed with Circle's key")
        return self._event(body)

    def _event(self, body: bytes) -> ProviderEvent:
        content = event_object(body)
        event_id, occurred_at = text(content, "notificationId"), event_time(text(content, "timestamp"))
        if not is_uuid(event_id):
            raise EventRefused(RefusalCause.MALFORMED, "the event's id is no UUID")
        if self._clock.now() - occurred_at > self._max_age:
            raise EventRefused(RefusalCause.STALE, f"it is from {occurred_at.isoformat()}")
        concerns_transaction = text(content, "notificationType").startswith("transactions.")
        reference = text(content.get("notification"), "id") if concerns_transaction else ""
        if concerns_transaction and not is_uuid(reference):
            raise EventRefused(RefusalCause.MALFORMED, "the transaction's id is no UUID")
        return ProviderEvent(
            id=f"circle:wallets:{event_id.lower()}",
            source=SOURCE,
            subject="transaction" if concerns_transaction else "",
            reference=reference,
            occurred_at=occurred_at,
        )

    async def _read_key(self, key_id: str) -> ec.EllipticCurvePublicKey | None:
        found = await self._client.find(f"/v2/notifications/publicKey/{key_id}")
        if found is None:
            return None
        try:
            key = load_der_public_key(base64.b64decode(text(found, "publicKey"), validate=True))
        except (ValueError, binascii.Error) as error:
            raise ProviderUnavailable("circle: a webhook's key cannot be read") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or text(found, "algorithm") != "ECDSA_SHA_256":
            raise ProviderUnavailable("circle: a webhook's key is of a kind that we do not know")
        return key


def _is_signed(body: bytes, signature: str, key: ec.EllipticCurvePublicKey) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
