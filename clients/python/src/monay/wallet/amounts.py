"""Amounts as people write them, and as the wallet counts them: without a float in between."""

from __future__ import annotations

import re

from monay.wallet.v1.money_pb2 import Money

DIGITS = 6
MICROS = 1_000_000
_LARGEST = 2**63 - 1
_DECIMAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)


def money(asset: str, amount: str) -> Money:
    """`money("USDC", "12.34")`. Raises ValueError for what is no plain decimal, is too large, or would lose digits."""
    return Money(asset=asset, micros=micros(amount))


def micros(amount: str) -> int:
    """The millionths in a decimal: `micros("12.34") == 12_340_000`. Raises ValueError, as `money` does."""
    match = _DECIMAL.fullmatch(amount)
    if match is None:
        raise ValueError(f"{amount!r} is no amount: digits, with a point before the fraction")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if len(fraction) > DIGITS:
        raise ValueError(f"{amount!r} has more than {DIGITS} digits after the point")
    count = int(whole) * MICROS + int(fraction.ljust(DIGITS, "0"))
    if count > _LARGEST:
        raise ValueError(f"{amount!r} is larger than any amount")
    return -count if sign else count


def decimal(amount: Money | int) -> str:
    """The exact decimal of an amount or of a count of micros, with two digits after the point at least: "12.34"."""
    count = amount if isinstance(amount, int) else amount.micros
    whole, fraction = divmod(abs(count), MICROS)
    digits = f"{fraction:0{DIGITS}}".rstrip("0").ljust(2, "0")
    return f"{'-' if count < 0 else ''}{whole}.{digits}"
