"""Amounts as Circle writes them: decimal strings. What does not fit in whole micros is refused, never rounded."""

from __future__ import annotations

import re
from typing import Any

from domain.money import MAX_MICROS, MICROS_PER_UNIT, Asset, Money
from providers.base import ProviderUnavailable

_DECIMAL = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,18}))?")
_PLACES = 6

# Mint calls the tokens by the money behind them.
CURRENCY_OF = {Asset.USDC: "USD", Asset.EURC: "EUR"}
ASSET_OF = {currency: asset for asset, currency in CURRENCY_OF.items()}


class UnreadableAnswer(ProviderUnavailable):
    """Circle answered something that we cannot read. That proves as little as silence."""


def micros_of(text: Any) -> int:
    """The micros of a decimal string. Digits that would be lost make it unreadable."""
    found = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UnreadableAnswer("an amount is not a decimal string")
    fraction = (found[2] or "").rstrip("0")
    if len(fraction) > _PLACES:
        raise UnreadableAnswer("an amount has digits below the micro")
    micros = int(found[1]) * MICROS_PER_UNIT + int(fraction.ljust(_PLACES, "0"))
    if micros > MAX_MICROS:
        raise UnreadableAnswer("an amount does not fit in 64 bits")
    return micros


def micros_taken(text: Any) -> int:
    """The micros of a network fee, rounded up: it is counted in 18 digits and leaves a balance that shows six."""
    found = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UnreadableAnswer("a network fee is not a decimal string")
    fraction = found[2] or ""
    whole = micros_of(f"{found[1]}.{fraction[:_PLACES] or 0}")
    return whole + any(digit != "0" for digit in fraction[_PLACES:])


def decimal_of(micros: int) -> str:
    """Micros as a decimal string, without digits that say nothing."""
    whole, fraction = divmod(micros, MICROS_PER_UNIT)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def money_of(body: Any) -> Money:
    """Mint's money. Raises for a currency that is none of ours."""
    asset = ASSET_OF.get(str(body.get("currency"))) if isinstance(body, dict) else None
    if asset is None:
        raise UnreadableAnswer("an amount is in a currency that we do not keep")
    return Money(asset, micros_of(body.get("amount")))


def mint_money(money: Money) -> dict[str, str]:
    """The same the other way round, with two decimals as banks count."""
    whole, fraction = divmod(money.micros, MICROS_PER_UNIT)
    digits = f"{fraction:06d}"
    return {"amount": f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}", "currency": CURRENCY_OF[money.asset]}
