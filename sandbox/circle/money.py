"""Amounts: decimal strings outside, whole millionths inside. Every token here has six decimals."""

from __future__ import annotations

import re

_AMOUNT = re.compile(r"^([0-9]{1,12})(?:\.([0-9]{1,18}))?$")
DECIMALS = 6
ONE = 1_000_000


def micros(text: str) -> int | None:
    """None for what is no amount of six decimals: more digits would be lost, so they are refused."""
    found = _AMOUNT.match(text)
    if not found:
        return None
    whole, fraction = found[1], (found[2] or "").rstrip("0")
    if len(fraction) > DECIMALS:
        return None
    return int(whole) * ONE + int(fraction.ljust(DECIMALS, "0") or 0)


def token_amount(amount: int) -> str:
    """As Wallets write it: no digits that say nothing."""
    whole, fraction = divmod(amount, ONE)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def fiat_amount(amount: int) -> str:
    """As Mint writes it: at least two decimals."""
    whole, fraction = divmod(amount, ONE)
    digits = f"{fraction:06d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"
