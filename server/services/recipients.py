"""Recipients: whom a sender means by an id, an email, a phone or a handle."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.errors import RecipientNotFound
from domain.identity import ConsumerId, is_consumer
from server.services.onboarding import normalised_email, normalised_phone
from storage.consumers import Directory
from storage.database import Engine, Tx, reading


class By(StrEnum):
    """What a sender knows of the recipient."""

    CONSUMER_ID = "consumer_id"
    EMAIL = "email"
    PHONE = "phone"
    HANDLE = "handle"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A consumer by whatever the sender knows of them, as it was sent. `field` is where in the request it stood."""

    by: By
    value: str
    field: str = "recipient"

    def __repr__(self) -> str:
        return f"Recipient({self.by}, …)"


class Recipients:
    """Finds the consumers that senders mean."""

    def __init__(self, *, engine: Engine, directory: Directory) -> None:
        self._engine = engine
        self._directory = directory

    def fingerprint(self, recipient: Recipient) -> str:
        """The recipient as sent, fit to be hashed and kept for ever: of a contact, only its blind index is."""
        if recipient.by is By.EMAIL:
            return self._directory.email_index(recipient.value).hex()
        if recipient.by is By.PHONE:
            return self._directory.phone_index(recipient.value).hex()
        return recipient.value.lower()

    async def find(self, recipient: Recipient) -> ConsumerId:
        """Who it is; raises `RecipientNotFound`. Whether an id has a wallet is left to the ledger's own look."""
        found = await self._lookup(recipient)
        if found is None or not is_consumer(found):
            raise RecipientNotFound(f"{recipient.field}.{recipient.by}")
        return found

    async def _lookup(self, recipient: Recipient) -> ConsumerId | None:
        if recipient.by is By.CONSUMER_ID:
            return ConsumerId(UUID(recipient.value))
        async with reading(self._engine) as tx:
            return await self._search(tx, recipient)

    async def _search(self, tx: Tx, recipient: Recipient) -> ConsumerId | None:
        field, value = f"{recipient.field}.{recipient.by}", recipient.value
        if recipient.by is By.EMAIL:
            return await self._directory.find_by_email(tx, normalised_email(value, field=field))
        if recipient.by is By.PHONE:
            return await self._directory.find_by_phone(tx, normalised_phone(value, field=field))
        return await self._directory.find_by_handle(tx, value)
