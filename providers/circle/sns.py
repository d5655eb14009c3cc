"""Webhooks of Mint: Amazon SNS, version 1. Anybody can send an envelope, so each step decides who is believed.

The certificate comes from a host of Amazon's and no other; the topic is one of Circle's; the signature covers the parts
of the envelope in the order that Amazon prescribes; and what it says was said within the hour, which is as long as SNS
goes on delivering. A subscription's question is answered by a worker, with a request to a host of Amazon's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from domain.clock import Clock
from providers.base import ProviderUnavailable
from providers.circle.keys import KeptKeys
from providers.circle.reading import event_object, event_time, is_uuid, text
from providers.events import EventRefused, ProviderEvent, RefusalCause

SOURCE = "circle"
CONFIRMATION = "subscription_confirmation"
MAX_CERTIFICATE_BYTES = 16_384
FETCH_SECONDS = 5.0

_AMAZON = re.compile(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?")
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {"1": hashes.SHA1(), "2": hashes.SHA256()}
_CONFIRMING = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMING,
    "UnsubscribeConfirmation": _CONFIRMING,
}
# What a notification is about: our word for the resource, and where its id is.
_SUBJECTS = {
    "wire": ("bank_link", "wire", "id"),
    "deposits": ("deposit", "deposit", "id"),
    "payouts": ("payout", "payout", "id"),
    "returns": ("payout", "return", "payoutId"),
}


class SnsEvents:
    """Version 1."""

    def __init__(
        self,
        learn_topics: Callable[[], Awaitable[Collection[str]]],
        *,
        entity_id: str | None,
        topics: Collection[str],
        hosts: Collection[str],
        max_age: timedelta,
        clock: Clock,
    ) -> None:
        self._learn_topics = learn_topics
        self._entity_id = entity_id
        self._topics = frozenset(topics)
        self._hosts = frozenset(hosts)
        self._max_age = max_age
        self._clock = clock
        self._learned = KeptKeys(self._topic, clock=clock)
        self._certificates = KeptKeys(self._certificate, clock=clock)
        self._http = httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def verify(self, headers: Mapping[str, str], body: bytes) -> ProviderEvent:
        envelope = _envelope(body)
        topic = envelope["TopicArn"]
        if topic not in self._topics and await self._learned.get(topic) is None:
            raise EventRefused(RefusalCause.FORGED, "the topic is none of Circle's")
        await self._require_signature(envelope)
        occurred_at = event_time(envelope["Timestamp"])
        if self._clock.now() - occurred_at > self._max_age:
            raise EventRefused(RefusalCause.STALE, f"it is from {occurred_at.isoformat()}")
        subject, reference = self._about(envelope)
        return ProviderEvent(
            id=f"circle:mint:{envelope['MessageId'].lower()}",
            source=SOURCE,
            subject=subject,
            reference=reference,
            occurred_at=occurred_at,
        )

    async def confirm(self, url: str) -> None:
        """Say yes to a subscription, at the address that its signed question named."""
        if not self._trusts(url):
            raise EventRefused(RefusalCause.FORGED, "it is to be confirmed somewhere else than at Amazon's")
        try:
            reply = await self._http.get(url)
        except httpx.TransportError as error:
            raise ProviderUnavailable(f"sns: no answer ({type(error).__name__})") from error
        if reply.status_code >= 400:
            raise ProviderUnavailable(f"sns: HTTP {reply.status_code} to a confirmation")

    async def _require_signature(self, envelope: dict[str, str]) -> None:
        url = envelope["SigningCertURL"]
        if not self._trusts(url) or not urlsplit(url).path.endswith(".pem"):
            raise EventRefused(RefusalCause.FORGED, "the certificate is from somewhere else than from Amazon's")
        key = await self._certificates.get(url)
        if key is None or not _is_signed(envelope, key):
            raise EventRefused(RefusalCause.FORGED, "not signed with Amazon's key")

    def _about(self, envelope: dict[str, str]) -> tuple[str, str]:
        if envelope["Type"] == "SubscriptionConfirmation":
            url = envelope["SubscribeURL"]
            if not self._trusts(url):
                raise EventRefused(RefusalCause.FORGED, "it is to be confirmed somewhere else than at Amazon's")
            return CONFIRMATION, url
        if envelope["Type"] != "Notification":
            return "", ""
        message = event_object(envelope["Message"])
        client_id = text(message, "clientId")
        if self._entity_id is not None and client_id.lower() != self._entity_id.lower():
            # The topic is everybody's; this message was meant for somebody else.
            raise EventRefused(RefusalCause.FORGED, "it is about another entity")
        subject, resource, name = _SUBJECTS.get(text(message, "notificationType"), ("", "", ""))
        reference = text(message.get(resource), name) if subject else ""
        if subject and not is_uuid(reference):
            raise EventRefused(RefusalCause.MALFORMED, "the resource's id is no UUID")
        return subject, reference

    def _trusts(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        if parts.username or parts.password:
            return False
        if f"{parts.hostname}:{port}" in self._hosts:
            return parts.scheme in ("http", "https")
        return parts.scheme == "https" and port in (None, 443) and bool(_AMAZON.fullmatch(parts.hostname or ""))

    async def _topic(self, topic: str) -> str | None:
        return topic if topic in await self._learn_topics() else None

    async def _certificate(self, url: str) -> RSAPublicKey | None:
        try:
            reply = await self._http.get(url)
        except httpx.TransportError as error:
            raise ProviderUnavailable(f"sns: no certificate ({type(error).__name__})") from error
        if reply.status_code != 200 or len(reply.content) > MAX_CERTIFICATE_BYTES:
            raise ProviderUnavailable(f"sns: no certificate (HTTP {reply.status_code})")
        try:
            certificate = load_pem_x509_certificate(reply.content)
        except ValueError as error:
            raise ProviderUnavailable("sns: what should be a certificate is none") from error
        now, key = self._clock.now(), certificate.public_key()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return None
        return key if isinstance(key, RSAPublicKey) else None


def _envelope(body: bytes) -> dict[str, str]:
    """The envelope, if it has all that its type is to have."""
    content = event_object(body)
    kind = text(content, "Type")
    needed = {*_SIGNED.get(kind, ()), "Signature", "SignatureVersion", "SigningCertURL"} - {"Subject"}
    if kind not in _SIGNED or not all(isinstance(content.get(name), str) for name in needed):
        raise EventRefused(RefusalCause.MALFORMED, "it is no envelope of SNS")
    if not is_uuid(content["MessageId"]):
        raise EventRefused(RefusalCause.MALFORMED, "the event's id is no UUID")
    return {name: value for name, value in content.items() if isinstance(value, str)}


def _is_signed(envelope: dict[str, str], key: RSAPublicKey) -> bool:
    names = (name for name in _SIGNED[envelope["Type"]] if name in envelope)
    said = "".join(f"{name}\n{envelope[name]}\n" for name in names).encode()
    algorithm = _HASHES.get(envelope["SignatureVersion"])
    if algorithm is None:
        return False
    try:
        signature = base64.b64decode(envelope["Signature"], validate=True)
        key.verify(signature, said, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
