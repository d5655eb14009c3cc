"""The treasury's dollars: how many of each it wants on the rail, and what it sells when one runs short.

Every swap leaves the treasury with more of what consumers sold and less of what they bought. When the position in an
asset leaves its bounds, part of the largest surplus is sold on the chain's exchange for it, until both are in the
middle of theirs. Bounds are a deployment's to set; an asset without any is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from domain.identity import AttemptId
from domain.money import MICROS_PER_UNIT, Asset, Money


class SaleState(StrEnum):
    """What was last observed of a sale."""

    SIGNED = "SIGNED"
    """Persisted, and perhaps out."""
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    """In a finalized block with status 0: nothing was sold."""
    DEAD = "DEAD"
    """Proven never to land."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of an asset the treasury is content with."""

    least: int
    most: int

    @property
    def middle(self) -> int:
        return (self.least + self.most) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TreasuryPolicy:
    """What a deployment decided about its treasury. Millionths where not said otherwise."""

    bounds: Mapping[Asset, Bounds] = field(default_factory=dict)
    worst_price_micros: int = 2_000
    """How far below one for one a sale may go. Below that the treasury rather stays as it is."""
    slippage_micros: int = 500
    """How far the market may move between the price that was read and the block."""
    most_micros: int = 100_000 * MICROS_PER_UNIT
    """What one sale sells at most."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What stands for the operator of an asset: after everything that is to come and go, and free to be sold now."""

    projected: int
    spendable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSale:
    """A sale as it is kept."""

    id: UUID
    attempt_id: AttemptId
    sell: Money
    buy_asset: Asset
    least_micros: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to sell, for what."""

    sell: Money
    buy_asset: Asset


def wanted_sale(holdings: Mapping[Asset, Stock], policy: TreasuryPolicy) -> Wanted | None:
    """The sale that brings the treasury nearest to its bounds; None where it is content, or has nothing to sell."""
    known = [asset for asset in sorted(policy.bounds) if asset in holdings]
    short = {asset: policy.bounds[asset].middle - holdings[asset].projected for asset in known}
    out = [asset for asset in known if _is_out(holdings[asset].projected, policy.bounds[asset])]
    if not out:
        return None
    buy = max(known, key=lambda asset: (short[asset], asset))
    sell = min(known, key=lambda asset: (short[asset], asset))
    micros = min(short[buy], -short[sell], holdings[sell].spendable, policy.most_micros)
    return Wanted(Money(sell, micros), buy) if buy is not sell and micros > 0 else None


def _is_out(projected: int, bounds: Bounds) -> bool:
    return not bounds.least <= projected <= bounds.most


def least_bought(sell: Money, quoted_micros: int, policy: TreasuryPolicy) -> int | None:
    """The least that the sale must bring, or None where the market gives too little for it to be made."""
    worst = sell.micros * (MICROS_PER_UNIT - policy.worst_price_micros) // MICROS_PER_UNIT
    if quoted_micros < worst:
        return None
    return max(worst, quoted_micros * (MICROS_PER_UNIT - policy.slippage_micros) // MICROS_PER_UNIT)
