"""Recipients: whom a sender means by an id, an email, a phone or a handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.errors import ConsumerErased, ConsumerNotFound, RecipientNotFound, WalletError
from domain.handles import normalised as normalised_handle
from domain.identity import ConsumerId, is_consumer
from server.services.onboarding import normalised_email, normalised_phone
from storage import wallets
from storage.consumers import Directory
from storage.database import Engine, reading


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

    @property
    def place(self) -> str:
        """The path of the value itself in the request."""
        return f"{self.field}.{self.by}"

    def __repr__(self) -> str:
        return f"Recipient({self.by}, …)"


class Recipients:
    """Finds the consumers that senders mean."""

    def __init__(self, *, engine: Engine, directory: Directory) -> None:
        self._engine = engine
        self._directory = directory

    def fingerprint(self, recipient: Recipient) -> str:
        """The recipient as sent, fit to be hashed and kept for ever: of a contact, only its fingerprint is."""
        if recipient.by is By.EMAIL:
            return self._directory.email_fingerprint(recipient.value)
        if recipient.by is By.PHONE:
            return self._directory.phone_fingerprint(recipient.value)
        return recipient.value.lower()

    async def find(self, recipient: Recipient) -> ConsumerId:
        """Who it is; raises `RecipientNotFound`. Whether an id has a wallet is left to the ledger's own look."""
        return found_one((await self.find_all([recipient]))[0])

    async def find_open(self, recipient: Recipient) -> ConsumerId:
        """Who it is, where the ledger does not look: raises `RecipientNotFound` also for a wallet that is none."""
        found = await self.find(recipient)
        try:
            async with reading(self._engine) as tx:
                (await wallets.read(tx, found)).require_open()
        except (ConsumerNotFound, ConsumerErased):
            raise RecipientNotFound(recipient.place) from None
        return found

    async def find_all(self, recipients: Sequence[Recipient]) -> list[ConsumerId | WalletError]:
        """Who each of them is, or why nobody, with one query for each kind of name that is among them."""
        keys = [_key(recipient) for recipient in recipients]
        names = {key for key in keys if isinstance(key, tuple)}
        known = await self._search(names) if names else {}
        return [_answer(recipient, key, known) for recipient, key in zip(recipients, keys, strict=True)]

    async def _search(self, names: set[_Name]) -> dict[_Name, ConsumerId]:
        known: dict[_Name, ConsumerId] = {}
        searches = {
            By.EMAIL: self._directory.find_by_emails,
            By.PHONE: self._directory.find_by_phones,
            By.HANDLE: self._directory.find_by_handles,
        }
        async with reading(self._engine) as tx:
            for by, search in searches.items():
                wanted = sorted(value for kind, value in names if kind is by)
                if wanted:
                    known.update({(by, value): found for value, found in (await search(tx, wanted)).items()})
        return known


_Name = tuple[By, str]


def found_one(found: ConsumerId | WalletError) -> ConsumerId:
    """Who was found; raises why nobody was."""
    if isinstance(found, WalletError):
        raise found
    return found


def _key(recipient: Recipient) -> ConsumerId | _Name | WalletError:
    """What to look for: an id as it is, a name in its one form, or what is wrong with the name."""
    by, value = recipient.by, recipient.value
    if by is By.CONSUMER_ID:
        return ConsumerId(UUID(value))
    try:
        if by is By.EMAIL:
            return by, normalised_email(value, field=recipient.place)
        if by is By.PHONE:
            return by, normalised_phone(value, field=recipient.place)
    except WalletError as fault:
        return fault
    return by, normalised_handle(value)


def _answer(
    recipient: Recipient, key: ConsumerId | _Name | WalletError, known: dict[_Name, ConsumerId]
) -> ConsumerId | WalletError:
    found = known.get(key) if isinstance(key, tuple) else key
    if isinstance(found, WalletError):
        return found
    if found is None or not is_consumer(found):
        return RecipientNotFound(recipient.place)
    return found
