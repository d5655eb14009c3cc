"""Amazon SNS as Mint's subscribers see it: signed envelopes, a certificate to fetch, a URL that confirms."""

from __future__ import annotations

from urllib.parse import urlencode

from sandbox.circle.clock import Clock
from sandbox.circle.keys import Keys

# The one that Circle's documentation shows for the sandbox.
TOPIC_ARN = "arn:aws:sns:us-west-2:908968368384:sandbox_platform-notifications-topic"
CERTIFICATE_NAME = "SimpleNotificationService-sandbox.pem"
# The order is Amazon's: by the bytes of the names. A field that is absent is left out.
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


class Sns:
    def __init__(self, clock: Clock, keys: Keys, *, url: str) -> None:
        """`url` is where the certificate and the confirmations are; Amazon's own begins https://sns.…amazonaws.com/."""
        self._clock = clock
        self._keys = keys
        self._url = url.rstrip("/")
        self.signature_version = "1"

    def notification(self, message: str, *, message_id: str) -> dict[str, str]:
        envelope = self._envelope("Notification", message, message_id)
        query = urlencode({"Action": "Unsubscribe", "SubscriptionArn": f"{TOPIC_ARN}:{message_id}"})
        return self._signed({**envelope, "UnsubscribeURL": f"{self._url}/?{query}"})

    def confirmation(self, token: str, *, message_id: str) -> dict[str, str]:
        text = f"You have chosen to subscribe to the topic {TOPIC_ARN}.\nTo confirm, visit the SubscribeURL."
        query = urlencode({"Action": "ConfirmSubscription", "TopicArn": TOPIC_ARN, "Token": token})
        envelope = self._envelope("SubscriptionConfirmation", text, message_id)
        return self._signed({**envelope, "Token": token, "SubscribeURL": f"{self._url}/?{query}"})

    def _envelope(self, kind: str, message: str, message_id: str) -> dict[str, str]:
        return {
            "Type": kind,
            "MessageId": message_id,
            "TopicArn": TOPIC_ARN,
            "Message": message,
            "Timestamp": self._clock.timestamp(),
            "SignatureVersion": self.signature_version,
            "SigningCertURL": f"{self._url}/{CERTIFICATE_NAME}",
        }

    def _signed(self, envelope: dict[str, str]) -> dict[str, str]:
        names = (name for name in _SIGNED[envelope["Type"]] if name in envelope)
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names)
        return {**envelope, "Signature": self._keys.sign_sns(text, version=self.signature_version)}
