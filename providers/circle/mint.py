"""Circle Mint: the operator's account, wires into it and payouts out of it.

The account is the operator's own, and so are the banks linked to it as far as Circle is concerned; whose a wire is says
its tracking reference, which is one for each linked bank. Payouts carry no reference of ours at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from domain.bank_accounts import BankDetails
from domain.money import Asset, Money
from providers.base import Accepted, OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.circle.amounts import ASSET_OF, CURRENCY_OF, UnreadableAnswer, micros_of, mint_money, money_of
from providers.circle.client import CircleClient, CircleFault, NoAnswer, Refused
from providers.circle.outcomes import outcome_of
from providers.circle.reading import field, identifier, instant, text, time_of
from providers.custodian import (
    BankDeposit,
    BankLinkOrder,
    LinkedBank,
    LinkState,
    OrderState,
    Payout,
    PayoutOrder,
    PayoutReturn,
    WireInstructions,
)

log = structlog.get_logger()

MICROS_PER_CENT = 10_000

_STATES = {
    "pending": OrderState.PENDING,
    "running": OrderState.PENDING,
    "complete": OrderState.COMPLETE,
    "failed": OrderState.FAILED,
}
_LINKS = {"pending": LinkState.PENDING, "complete": LinkState.ACTIVE, "failed": LinkState.FAILED}


class CircleMint:
    """The bank rail."""

    name = "circle"
    rail = "mint"
    assets = frozenset(CURRENCY_OF)

    def __init__(self, client: CircleClient) -> None:
        self._client = client

    # --- banks --------------------------------------------------------------------------------------------------------

    async def link(self, order: BankLinkOrder) -> LinkedBank | Rejected | Retryable | OutcomeUnknown:
        body = {"idempotencyKey": str(order.key), **_bank(order.details)}
        try:
            return _linked((await self._client.post("/v1/businessAccount/banks/wires", body)).data)
        except CircleFault as fault:
            return outcome_of(fault)
        except UnreadableAnswer as fault:
            return outcome_of(NoAnswer(str(fault)))

    async def linked_bank(self, reference: str) -> LinkedBank | None:
        found = await self._client.find(f"/v1/businessAccount/banks/wires/{reference}")
        return _linked(found) if found is not None else None

    async def instructions(self, bank_reference: str, asset: Asset) -> WireInstructions:
        path = f"/v1/businessAccount/banks/wires/{bank_reference}/instructions"
        try:
            return _instructions((await self._client.get(path, {"currency": CURRENCY_OF[asset]})).data)
        except Refused as refusal:
            raise ProviderUnavailable(f"circle: {refusal}") from refusal

    # --- in -----------------------------------------------------------------------------------------------------------

    async def deposit(self, reference: str) -> BankDeposit | None:
        found = await self._client.find(f"/v1/businessAccount/deposits/{reference}")
        return _deposit(found) if found is not None else None

    async def deposits(self, *, since: datetime, until: datetime) -> Sequence[BankDeposit]:
        found = await self._list("/v1/businessAccount/deposits", since, until)
        return sorted((_deposit(one) for one in found), key=lambda one: (one.created_at, one.reference))

    # --- out ----------------------------------------------------------------------------------------------------------

    async def start_payout(self, order: PayoutOrder) -> Accepted | Rejected | Retryable | OutcomeUnknown:
        if order.amount.micros % MICROS_PER_CENT:
            return Rejected("banks pay whole cents", permanent=True)
        body = {
            "idempotencyKey": str(order.key),
            "destination": {"type": "wire", "id": order.bank_reference},
            "amount": mint_money(order.amount),
        }
        try:
            return Accepted(identifier((await self._client.post("/v1/businessAccount/payouts", body)).data))
        except CircleFault as fault:
            return outcome_of(fault)
        except UnreadableAnswer as fault:
            return outcome_of(NoAnswer(str(fault)))

    async def payout(self, reference: str) -> Payout | None:
        found = await self._client.find(f"/v1/businessAccount/payouts/{reference}")
        return _payout(found) if found is not None else None

    async def payouts(self, *, since: datetime, until: datetime) -> Sequence[Payout]:
        found = await self._list("/v1/businessAccount/payouts", since, until)
        return sorted((_payout(one) for one in found), key=lambda one: (one.created_at, one.reference))

    # --- the account --------------------------------------------------------------------------------------------------

    async def positions(self) -> Mapping[Asset, int]:
        found = await self._client.find("/v1/businessAccount/balances")
        standing = dict.fromkeys(self.assets, 0)
        for one in field(found, "available", list):
            asset = ASSET_OF.get(text(one, "currency"))
            if asset is not None:
                standing[asset] += micros_of(one.get("amount"))
        return standing

    async def check(self) -> timedelta | Retryable:
        return await self._client.check("/v1/configuration")

    async def _list(self, path: str, since: datetime, until: datetime) -> list[Any]:
        found: list[Any] = []
        async for page in self._client.pages(path, {"from": instant(since), "to": instant(until)}):
            if not isinstance(page, list):
                raise UnreadableAnswer("a list is none")
            found += page
        return found


class CircleMockWires:
    """Development only: wires that no bank has sent."""

    def __init__(self, client: CircleClient) -> None:
        self._client = client

    async def send(self, amount: Money, *, tracking_reference: str, account_number: str) -> None:
        """A wire with this reference, to this account. It arrives as a deposit some time later."""
        body = {
            "trackingRef": tracking_reference,
            "amount": mint_money(amount),
            "beneficiaryBank": {"accountNumber": account_number},
        }
        try:
            await self._client.post("/v1/mocks/payments/wire", body)
        except CircleFault as fault:
            raise ProviderUnavailable(f"circle: {fault}") from fault


def _bank(details: BankDetails) -> dict[str, Any]:
    number = (
        {"iban": details.iban}
        if details.iban
        else {"accountNumber": details.account_number, "routingNumber": details.routing_number}
    )
    person = {
        "name": details.holder_name,
        "line1": details.line1,
        "line2": details.line2,
        "city": details.city,
        "district": details.district,
        "postalCode": details.postal_code,
        "country": details.country,
    }
    billing = {name: value for name, value in person.items() if value}
    # The bank is known by its number; its name is for people, and Circle keeps 35 characters of it.
    return {**number, "billingDetails": billing, "bankAddress": _bank_address(details)}


def _bank_address(details: BankDetails) -> dict[str, str]:
    named = {"bankName": details.bank_name[:35]} if details.bank_name else {}
    return {**named, "country": details.country}


def _linked(body: Any) -> LinkedBank:
    return LinkedBank(
        reference=identifier(body),
        state=_LINKS.get(text(body, "status"), LinkState.UNRECOGNISED),
        tracking_reference=text(body, "trackingRef"),
        description=text(body, "description"),
    )


def _instructions(body: Any) -> WireInstructions:
    beneficiary, bank = field(body, "beneficiary", dict), field(body, "beneficiaryBank", dict)
    address = (text(beneficiary, "address1"), text(beneficiary, "address2"))
    street = tuple(text(bank, name) for name in ("address", "city", "postalCode", "country"))
    return WireInstructions(
        tracking_reference=field(body, "trackingRef", str),
        beneficiary_name=text(beneficiary, "name"),
        beneficiary_address=tuple(line for line in address if line),
        bank_name=text(bank, "name"),
        bank_address=tuple(line for line in street if line),
        account_number=field(bank, "accountNumber", str),
        routing_number=text(bank, "routingNumber"),
        swift_code=text(bank, "swiftCode"),
        currency=text(bank, "currency"),
    )


def _deposit(body: Any) -> BankDeposit:
    amount = money_of(field(body, "amount", dict))
    return BankDeposit(
        reference=identifier(body),
        state=_state(body),
        amount=amount,
        fee=_fee(body, amount),
        bank_reference=text(body.get("source"), "id") or None,
        tracking_reference=text(body, "trackingRef") or None,
        created_at=time_of(body, "createDate"),
    )


def _payout(body: Any) -> Payout:
    amount = money_of(field(body, "amount", dict))
    sent_back = body.get("return")
    return Payout(
        reference=identifier(body),
        state=_state(body),
        amount=amount,
        fee=_fee(body, amount),
        bank_reference=text(field(body, "destination", dict), "id"),
        reason=text(body, "errorCode")[:100],
        returned=_returned(sent_back) if isinstance(sent_back, dict) else None,
        created_at=time_of(body, "createDate"),
    )


def _returned(body: Any) -> PayoutReturn:
    amount = money_of(field(body, "amount", dict))
    return PayoutReturn(
        reference=identifier(body),
        state=_state(body),
        amount=amount,
        fee=_fee(body, amount),
        reason=text(body, "reason")[:100],
    )


def _fee(body: Any, amount: Money) -> Money:
    """What Circle keeps. In another currency than the amount it could not be booked beside it."""
    if not isinstance(body.get("fees"), dict):
        return Money(amount.asset, 0)
    fee = money_of(body["fees"])
    if fee.asset is not amount.asset:
        raise UnreadableAnswer("a fee is in another currency than its amount")
    return fee


def _state(body: Any) -> OrderState:
    state = _STATES.get(text(body, "status"), OrderState.UNRECOGNISED)
    if state is OrderState.UNRECOGNISED:
        log.warning("circle.state_unrecognised", state=text(body, "status")[:40])
    return state
