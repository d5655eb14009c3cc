"""What the wallet charges: one flat fee for each transfer, batch or withdrawal; a swap costs only its spread."""

from __future__ import annotations

from dataclasses import dataclass

from domain.money import Money


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """Flat fees in micros of the asset that moves."""

    transfer_micros: int = 100
    batch_transfer_micros: int = 100
    withdrawal_micros: int = 100

    def transfer_fee(self, amount: Money) -> Money:
        """The fee of one transfer, whatever its size."""
        return Money(amount.asset, self.transfer_micros)

    def batch_transfer_fee(self, total: Money) -> Money:
        """The one fee of a batch, however many recipients it has."""
        return Money(total.asset, self.batch_transfer_micros)

    def withdrawal_fee(self, amount: Money) -> Money:
        """The fee of one withdrawal, whatever its size and its way out."""
        return Money(amount.asset, self.withdrawal_micros)


def share(micros: int, *, parts: int, position: int) -> int:
    """One part of what several share evenly. The first ones carry the remainder, so that the parts add up."""
    whole, remainder = divmod(micros, parts)
    return whole + (1 if position < remainder else 0)
