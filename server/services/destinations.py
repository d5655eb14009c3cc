"""Destinations: whether money may be sent to an address on Tempo, and whose it is when it is one of ours.

What the address itself tells and what our own tables know is judged at once. Whether the token's policy lets the
address receive is known to the chain only: the answer is kept by a worker, asked for when there is none or an old one,
and judged once more by the settlement that will pay (money rule 10), so an answer may be a few minutes old.
"""

from __future__ import annotations

from datetime import timedelta

from eth_utils.address import is_checksum_address

from domain.clock import Clock
from domain.destinations import RefusedCause, refused_cause
from domain.errors import DestinationRefused, ProviderUnavailable
from domain.identity import ConsumerId, is_consumer
from domain.money import Asset
from server.services.provider_jobs import ProviderJobs
from storage import circle_wallets, custody, destination_checks
from storage.database import Engine, reading

CHECK_JOB = "destination_check"
CHECK_MAX_AGE = timedelta(minutes=5)
# Who asks about the same address within this time asks once; afterwards a failed question is asked anew.
ASK_AGAIN_SECONDS = 10


class Destinations:
    """Judges where withdrawals go."""

    def __init__(self, *, engine: Engine, jobs: ProviderJobs, clock: Clock) -> None:
        self._engine = engine
        self._jobs = jobs
        self._clock = clock

    async def owner(self, address: str, *, sender: ConsumerId) -> ConsumerId | None:
        """The other consumer whose address it is; None if it is none of ours. Raises `DestinationRefused`."""
        if _looks_mistyped(address):
            raise DestinationRefused(RefusedCause.BAD_CHECKSUM)
        lower = address.lower()
        cause = refused_cause(lower)
        if cause is not None:
            raise DestinationRefused(cause)
        async with reading(self._engine) as tx:
            found = (await custody.holders_of(tx, [lower])).get(lower)
            # Paid there on Tempo, the money would stand where nobody signs for it: the wallet is on another chain.
            at_circle = await circle_wallets.at_address(tx, lower)
        if found is None and at_circle is None:
            return None
        given = found.holder if found is not None and found.state == "assigned" else None
        holder = at_circle.holder_id if at_circle is not None else given
        if holder is None or not is_consumer(holder) or holder == sender:
            raise DestinationRefused(RefusedCause.OWN_ADDRESS)
        return ConsumerId(holder)

    async def require_allowed(self, address: str, asset: Asset, *, deadline: float) -> None:
        """Refuse an address that the token's policy forbids; raises `ProviderUnavailable` when nobody can tell."""
        if not await self._allowed(address.lower(), asset, deadline):
            raise DestinationRefused(RefusedCause.TOKEN_POLICY)

    async def _allowed(self, address: str, asset: Asset, deadline: float) -> bool:
        async with reading(self._engine) as tx:
            known = await destination_checks.read(tx, asset, address)
        now = self._clock.now()
        if known is not None and now - known.checked_at <= CHECK_MAX_AGE:
            return known.allowed
        key = f"{asset}/{address}/{int(now.timestamp()) // ASK_AGAIN_SECONDS}"
        job = await self._jobs.ask(CHECK_JOB, {"asset": asset, "address": address}, key=key, deadline=deadline)
        if job.state != "done" or job.answer is None:
            raise ProviderUnavailable("tempo")
        return bool(job.answer["allowed"])


def _looks_mistyped(address: str) -> bool:
    """Capitals among small letters are a checksum (EIP-55). In one case only, there is none to break."""
    digits = address.removeprefix("0x")
    return digits not in (digits.lower(), digits.upper()) and not is_checksum_address(address)
