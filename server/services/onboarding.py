"""Onboarding: a person becomes a consumer with a wallet that can be paid at once.

One commit and no network: the address comes out of a pool that workers fill ahead. Email and phone are what makes a
person single here, so they are brought into one form before anything looks at them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from domain.clock import Clock
from domain.errors import (
    AddressPoolEmpty,
    FieldViolation,
    IdempotencyKeyReused,
    KycLevelNotAllowed,
    ValidationFailed,
)
from domain.identity import request_key
from storage import addresses
from storage.consumers import Consumer, Contact, Directory, KeyTaken, Onboarding
from storage.database import Engine, Tx, writing

FIRST_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Onboarded:
    """The consumer, new or (`replayed`) since an earlier call with the same request id."""

    consumer: Consumer
    replayed: bool


class OnboardingService:
    """Makes consumers."""

    def __init__(self, *, engine: Engine, directory: Directory, clock: Clock) -> None:
        self._engine = engine
        self._directory = directory
        self._clock = clock

    async def onboard(self, contact: Contact, *, kyc_level: int, caller: str, request_id: str) -> Onboarded:
        """Make a consumer at the first KYC level. `request_id` may be empty; then email and phone alone decide."""
        onboarding = self._remembered(contact, kyc_level, caller, request_id) if request_id else None
        try:
            return await self._onboard_once(contact, kyc_level, onboarding, request_id)
        except KeyTaken:
            # The same request was committed by another call meanwhile: now it is found, and answered from there.
            return await self._onboard_once(contact, kyc_level, onboarding, request_id)

    async def _onboard_once(
        self, contact: Contact, kyc_level: int, onboarding: Onboarding | None, request_id: str
    ) -> Onboarded:
        async with writing(self._engine) as tx:
            if onboarding is not None:
                stored = await self._directory.onboarded_by(tx, onboarding.key)
                if stored is not None and stored[1] != onboarding.body_hash:
                    raise IdempotencyKeyReused(request_id)
                if stored is not None:
                    return Onboarded(stored[0], replayed=True)
            if kyc_level != FIRST_LEVEL:
                raise KycLevelNotAllowed(kyc_level, FIRST_LEVEL)
            return Onboarded(await self._add(tx, contact, onboarding), replayed=False)

    async def _add(self, tx: Tx, contact: Contact, onboarding: Onboarding | None) -> Consumer:
        address = await addresses.take_free(tx)
        if address is None:
            raise AddressPoolEmpty()
        return await self._directory.add(tx, contact, address, now=self._clock.now(), onboarding=onboarding)

    def _remembered(self, contact: Contact, kyc_level: int, caller: str, request_id: str) -> Onboarding:
        said = json.dumps(["Onboard/1", contact.email, contact.phone, contact.full_name, kyc_level])
        key = request_key(caller=caller, request_id=request_id)
        return Onboarding(key, self._directory.body_hash(said))


def normalised(*, email: str, phone: str, full_name: str = "") -> Contact:
    """The one form of a person's contact."""
    return Contact(normalised_email(email), normalised_phone(phone), " ".join(full_name.split()))


def normalised_email(text: str, *, field: str = "email") -> str:
    """An email in its one form, as it is looked up."""
    try:
        # Whether the domain answers is asked by the mail that confirms it, not by this request.
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValidationFailed((FieldViolation(field, "email.form", str(error)),)) from None


def normalised_phone(text: str, *, field: str = "phone") -> str:
    """A phone number in its one form (E.164), as it is looked up."""
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        number = None
    # Possible, not valid: the list of ranges in use is always behind the world, and a code by SMS proves the rest.
    if number is None or not phonenumbers.is_possible_number(number):
        violation = FieldViolation(field, "phone.form", "must be a phone number in international form")
        raise ValidationFailed((violation,))
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
