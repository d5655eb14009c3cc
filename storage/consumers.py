"""Consumers: the person and the wallet, in two tables that begin together.

Personal data is sealed here and nowhere else: no other module ever sees the columns that hold it. Who looks somebody up
by email or phone passes the normalised text and gets an id, found by its blind index.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from domain.errors import EmailTaken, HandleTaken, PhoneTaken
from domain.handles import PROTECTED_FOR, normalised
from domain.identity import ConsumerId
from domain.money import Asset
from storage.addresses import PooledAddress
from storage.arrays import array_parameter
from storage.database import Tx
from storage.schema import consumers, retired_handles, stablecoin_balances, wallets
from storage.sealing import KeyRing

_c = consumers.c
_w = wallets.c
_r = retired_handles.c


@dataclass(frozen=True, slots=True)
class Contact:
    """How a person is reached: normalised, and personal."""

    email: str
    phone: str
    full_name: str = ""

    def __repr__(self) -> str:
        return "Contact(…)"


@dataclass(frozen=True, slots=True)
class Consumer:
    """A person with a wallet. Of an erased one, contact and handle are empty."""

    id: ConsumerId
    contact: Contact
    handle: str
    kyc_level: int
    frozen: bool
    tempo_address: str
    created_at: datetime
    erased_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Onboarding:
    """The request that made a consumer, as far as it is remembered: its key, and a hash of what it said."""

    key: UUID
    body_hash: bytes


class KeyTaken(Exception):
    """Another onboarding with the same request id was committed just now."""


class Directory:
    """Who is who: reads and writes of consumers, with the keys that their personal data needs."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def add(
        self, tx: Tx, contact: Contact, address: PooledAddress, *, now: datetime, onboarding: Onboarding | None
    ) -> Consumer:
        """Insert the person, the wallet and a balance of each asset. The consumer takes over the address' holder id.

        Raises `EmailTaken`, `PhoneTaken` or `KeyTaken` when another row stands in the way, however short a time ago it
        was committed; the caller's transaction is then to be rolled back.
        """
        consumer_id = ConsumerId(address.holder_id)
        values = {
            "id": consumer_id,
            **indexes_of(self._ring, email=contact.email, phone=contact.phone),
            "onboard_key": onboarding and onboarding.key,
            "onboard_hash": onboarding and onboarding.body_hash,
            "created_at": now,
            **self._sealed(consumer_id, contact),
        }
        await self._require_free(tx, contact)
        added = upsert(consumers).values(values).on_conflict_do_nothing().returning(_c.id)
        if (await tx.execute(added)).first() is None:
            raise await self._obstacle(tx, values)
        await _add_wallet(tx, address, now)
        return Consumer(consumer_id, contact, "", 1, False, address.address, now)

    async def _require_free(self, tx: Tx, contact: Contact) -> None:
        """While index keys are replaced, the unique columns alone do not see what stands under an older key."""
        emails = self._ring.blind_indexes("email", _as_indexed(contact.email))
        phones = self._ring.blind_indexes("phone", contact.phone)
        if len(emails) > 1 and await _find(tx, _c.email_index.in_(emails[1:])) is not None:
            raise EmailTaken()
        if len(phones) > 1 and await _find(tx, _c.phone_index.in_(phones[1:])) is not None:
            raise PhoneTaken()

    async def onboarded_by(self, tx: Tx, key: UUID) -> tuple[Consumer, bytes] | None:
        """Who was made by the request with that key, and the hash of what it said."""
        row = (await tx.execute(_joined().where(_c.onboard_key == key))).first()
        return (self._consumer(row), row.onboard_hash) if row else None

    async def find_by_id(self, tx: Tx, consumer_id: UUID) -> Consumer | None:
        row = (await tx.execute(_joined().where(_c.id == consumer_id))).first()
        return self._consumer(row) if row else None

    async def find_by_emails(self, tx: Tx, emails: Collection[str]) -> dict[str, ConsumerId]:
        """Whose these are, of those that are anybody's."""
        indexes = {email: self._ring.blind_indexes("email", _as_indexed(email)) for email in emails}
        return await _find_all(tx, _c.email_index, indexes)

    async def find_by_phones(self, tx: Tx, phones: Collection[str]) -> dict[str, ConsumerId]:
        """Whose these are, of those that are anybody's."""
        indexes = {phone: self._ring.blind_indexes("phone", phone) for phone in phones}
        return await _find_all(tx, _c.phone_index, indexes)

    async def find_by_handles(self, tx: Tx, handles: Collection[str]) -> dict[str, ConsumerId]:
        """Whose these are, of those that are anybody's. Handles are kept in lower case, without the @."""
        return await _find_all(tx, _c.handle, {handle: [normalised(handle)] for handle in handles})

    async def set_handle(self, tx: Tx, consumer_id: UUID, handle: str, *, now: datetime) -> None:
        """Give a consumer a handle in its one form, and keep the one given up from others for a while.

        The caller holds the lock of the consumer's wallet. Raises `HandleTaken`; the caller's database transaction is
        then to be rolled back.
        """
        former = (await tx.execute(select(_c.handle).where(_c.id == consumer_id))).scalar_one()
        if former == handle:
            return
        try:
            await tx.execute(update(consumers).where(_c.id == consumer_id).values(handle=handle))
        except IntegrityError:
            raise HandleTaken() from None
        # Looked at only now: taking the handle waited for an owner who was just giving it up.
        is_this = _r.handle_index.in_(self._ring.blind_indexes("handle", handle))
        kept = select(_r.handle_index).where(is_this, _r.free_at > now, _r.consumer_id != consumer_id)
        if (await tx.execute(kept)).first() is not None:
            raise HandleTaken()
        await tx.execute(delete(retired_handles).where(is_this))
        if former is not None:
            await self._retire(tx, consumer_id, former, now)

    async def _retire(self, tx: Tx, consumer_id: UUID, handle: str, now: datetime) -> None:
        kept = {"consumer_id": consumer_id, "free_at": now + PROTECTED_FOR}
        retired = upsert(retired_handles).values(handle_index=self._ring.blind_index("handle", handle), **kept)
        await tx.execute(retired.on_conflict_do_update(index_elements=["handle_index"], set_=kept))

    async def erase(self, tx: Tx, consumer_id: UUID, *, now: datetime) -> None:
        """Forget who the consumer is; email and phone are free for others. The caller closes the wallet."""
        handle = (await tx.execute(select(_c.handle).where(_c.id == consumer_id))).scalar_one()
        if handle is not None:
            await self._retire(tx, consumer_id, handle, now)
        personal = (_c.email_sealed, _c.email_index, _c.phone_sealed, _c.phone_index, _c.name_sealed, _c.handle)
        nothing = {column.name: None for column in (*personal, _c.onboard_key, _c.onboard_hash)}
        await tx.execute(update(consumers).where(_c.id == consumer_id).values(nothing))

    async def handles(self, tx: Tx, ids: Collection[UUID]) -> dict[UUID, str]:
        """The handles of those who have one."""
        rows = await tx.execute(select(_c.id, _c.handle).where(_c.id.in_(sorted(set(ids))), _c.handle.is_not(None)))
        return {row.id: row.handle for row in rows}

    def email_fingerprint(self, email: str) -> str:
        return self._ring.fingerprint("email", _as_indexed(email)).hex()

    def phone_fingerprint(self, phone: str) -> str:
        return self._ring.fingerprint("phone", phone).hex()

    def body_hash(self, text: str) -> bytes:
        """The hash of a request that holds personal data."""
        return self._ring.fingerprint("onboard", text)

    def _sealed(self, consumer_id: UUID, contact: Contact) -> dict[str, bytes]:
        texts = {"email_sealed": contact.email, "phone_sealed": contact.phone, "name_sealed": contact.full_name}
        return {
            column: self._ring.seal(text, table="consumers", column=column, row=consumer_id)
            for column, text in texts.items()
        }

    def _consumer(self, row: Any) -> Consumer:
        def opened(column: Column[Any]) -> str:
            sealed = getattr(row, column.name)
            return self._ring.open(sealed, table="consumers", column=column.name, row=row.id) if sealed else ""

        contact = Contact(opened(_c.email_sealed), opened(_c.phone_sealed), opened(_c.name_sealed))
        return Consumer(
            id=row.id,
            contact=contact,
            handle=row.handle or "",
            kyc_level=row.kyc_level,
            frozen=row.frozen,
            tempo_address=row.tempo_address,
            created_at=row.created_at,
            erased_at=row.erased_at,
        )

    async def _obstacle(self, tx: Tx, values: dict[str, Any]) -> Exception:
        """Which of the unique columns stood in the way."""
        for column, error in ((_c.onboard_key, KeyTaken), (_c.email_index, EmailTaken), (_c.phone_index, PhoneTaken)):
            value = values[column.name]
            if value is not None and await _find(tx, column == value) is not None:
                return error()
        raise AssertionError(f"the holder {values['id']} is a consumer already")


def _joined() -> Select[Any]:
    columns = (*_c, _w.kyc_level, _w.frozen, _w.tempo_address, _w.erased_at)
    return select(*columns).select_from(consumers.join(wallets, _w.consumer_id == _c.id))


async def _find(tx: Tx, condition: Any) -> ConsumerId | None:
    row = (await tx.execute(select(_c.id).where(condition))).first()
    return ConsumerId(row.id) if row else None


def indexes_of(ring: KeyRing, *, email: str, phone: str) -> dict[str, bytes]:
    """The columns that a contact is found by."""
    return {
        "email_index": ring.blind_index("email", _as_indexed(email)),
        "phone_index": ring.blind_index("phone", phone),
    }


def _as_indexed(email: str) -> str:
    """Mail systems tell Ann@ from ann@ in theory only; two wallets that differ in it would be one person's."""
    return email.casefold()


async def _find_all(tx: Tx, column: Column[Any], keys: Mapping[str, Sequence[Any]]) -> dict[str, ConsumerId]:
    """By what they were asked for, the consumers that one of the column's keys leads to."""
    statement = select(column, _c.id).where(column == func.any(array_parameter(column)))
    rows = await tx.execute(statement, {column.name: sorted({key for some in keys.values() for key in some})})
    found = {row[0]: ConsumerId(row[1]) for row in rows}
    return {name: found[key] for name, some in keys.items() for key in some if key in found}


async def _add_wallet(tx: Tx, address: PooledAddress, now: datetime) -> None:
    await tx.execute(
        insert(wallets).values(
            consumer_id=address.holder_id,
            tempo_address=address.address,
            derivation_index=address.index,
            kyc_level=1,
            usage_day=now.date(),
            created_at=now,
        )
    )
    rows = [{"consumer_id": address.holder_id, "asset": asset, "changed_at": now} for asset in Asset]
    await tx.execute(insert(stablecoin_balances), rows)
