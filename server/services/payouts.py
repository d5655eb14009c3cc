"""Payouts that nobody can learn the outcome of: a person looks at the custodian, and says what became of them."""

from __future__ import annotations

from uuid import UUID

from domain.audit import Actor
from domain.bank_payouts import PayoutState, StoredPayout
from domain.errors import PayoutNotResolvable
from server.services.acts import Acts
from storage import bank_payouts


class PayoutService:
    """Writes down what a person found. The worker of the bank rail does the rest."""

    def __init__(self, *, acts: Acts) -> None:
        self._acts = acts

    async def resolve(self, payout_id: UUID, *, reference: str | None, reason: str, actor: Actor) -> None:
        """The payout was made under this id, or (None) was not; raises why that is not a person's to say."""
        async with self._acts.begin(actor) as act:
            payout = await bank_payouts.lock(act.tx, payout_id)
            if _is_said(payout, reference):
                return
            if not payout.needs_operator(act.now):
                raise PayoutNotResolvable(payout.state)
            if reference and await bank_payouts.known_references(act.tx, [reference]):
                raise PayoutNotResolvable("REFERENCE_OF_ANOTHER")
            await bank_payouts.resolve(act.tx, payout, reference=reference, reason=reason, now=act.now)
            await act.record("payout.resolve", payout_id, reference=reference or "none", reason=reason)


def _is_said(payout: StoredPayout, reference: str | None) -> bool:
    """Whether the same was said before."""
    if reference is None:
        return payout.state in (PayoutState.REFUSED, PayoutState.FAILED)
    return payout.provider_reference == reference
