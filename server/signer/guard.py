"""A signer's own judgement in front of the keys: planned, not signed before, soon over, within the day's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from domain.clock import Clock
from domain.money import Asset
from providers.base import Movement, Party, PartyKind, Signed, Signer, SignerUnavailable, SigningRefused
from server.signer.journal import Journal, JournalUnusable
from storage import planned
from storage.database import UNAVAILABLE, Engine

log = structlog.get_logger()

# What the network admits, and a little for clocks that differ.
LONGEST_VALIDITY = timedelta(seconds=33)
_CLOCKS_DIFFER = timedelta(seconds=5)
_ASK_AGAIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """What may be moved in a UTC day, in micros, and what of it to addresses that are not ours."""

    total: Mapping[Asset, int] = field(default_factory=dict)
    outside: Mapping[Asset, int] = field(default_factory=dict)


class GuardedSigner:
    """A `Signer` around one that holds keys."""

    def __init__(self, signer: Signer, *, engine: Engine, journal: Journal, limits: DailyLimits, clock: Clock) -> None:
        self._signer = signer
        self._engine = engine
        self._journal = journal
        self._limits = limits
        self._clock = clock
        # One at a time: between the look into the journal and the line in it nobody else may sign.
        self._turn = asyncio.Lock()

    @property
    def operator_address(self) -> str:
        return self._signer.operator_address

    @property
    def fee_payer_address(self) -> str:
        return self._signer.fee_payer_address

    async def derive_addresses(self, first: int, count: int) -> list[str]:
        return await self._signer.derive_addresses(first, count)

    async def sign_transfers(self, movements: Sequence[Movement], *, valid_before: datetime) -> Signed:
        async with self._turn:
            self._require_short(valid_before)
            await self._require_planned(movements)
            self._require_unsigned(movements)
            self._require_within_limits(movements)
            # The signer derives each consumer's address again, and may refuse; what was not signed is not counted.
            signed = await self._signer.sign_transfers(movements, valid_before=valid_before)
            try:
                self._journal.write(movements, valid_before=valid_before, now=self._clock.now())
            except JournalUnusable as fault:
                raise SignerUnavailable(str(fault)) from fault
        log.info("signer.signed", reference=signed.reference, movements=len(movements))
        return signed

    async def sign_activation(self, consumer: Party, assets: Sequence[Asset], *, valid_before: datetime) -> Signed:
        self._require_short(valid_before)
        signed = await self._signer.sign_activation(consumer, assets, valid_before=valid_before)
        log.info("signer.activated", reference=signed.reference, index=consumer.index)
        return signed

    def _require_short(self, valid_before: datetime) -> None:
        """A signature that could be kept for later is a cheque to bearer."""
        if valid_before > self._clock.now() + LONGEST_VALIDITY:
            raise SigningRefused(f"a signature valid until {valid_before.isoformat()} could be kept for later")

    async def _require_planned(self, movements: Sequence[Movement]) -> None:
        if len({movement.item_id for movement in movements}) != len(movements):
            raise SigningRefused("an item is named twice")
        try:
            async with self._engine.connect() as tx:
                plans = await planned.settlements(tx, [movement.item_id for movement in movements])
        except UNAVAILABLE as error:
            raise SignerUnavailable("the plan cannot be read") from error
        for movement in movements:
            plan = plans.get(movement.item_id)
            if plan is None or not _is(movement, plan):
                raise SigningRefused(f"{movement.item_id} is not a planned settlement of this form")

    def _require_unsigned(self, movements: Sequence[Movement]) -> None:
        """While an earlier signature can land, another one could pay twice (money rule 1)."""
        now = self._clock.now()
        for movement in movements:
            until = self._journal.valid_until(movement.item_id)
            if until is not None and until + _CLOCKS_DIFFER > now:
                text = f"{movement.item_id} has a signature that may still land"
                raise SignerUnavailable(text, retry_after=_ASK_AGAIN)

    def _require_within_limits(self, movements: Sequence[Movement]) -> None:
        now = self._clock.now()
        outside = [one for one in movements if one.destination.kind is PartyKind.OUTSIDE]
        _require_room(movements, self._journal.moved(now), self._limits.total, "of the day")
        _require_room(outside, self._journal.moved_outside(now), self._limits.outside, "of the day for strangers")


def _is(movement: Movement, plan: planned.Plan) -> bool:
    """Whether that is what the books want settled: the same amount between the same holders."""
    return (
        (movement.asset, movement.micros, movement.group_id) == (plan.asset, plan.micros, plan.group_id)
        and _names(movement.source, plan.source)
        and _names(movement.destination, plan.destination)
    )


def _names(party: Party, end: planned.End) -> bool:
    if party.kind is PartyKind.CONSUMER:
        return party.index == end.index and end.index is not None
    if party.kind is PartyKind.OPERATOR:
        return end.operator
    return end.address is not None and party.address == end.address


def _require_room(
    movements: Sequence[Movement], moved: Mapping[Asset, int], limits: Mapping[Asset, int], which: str
) -> None:
    for asset in sorted({movement.asset for movement in movements}):
        wanted = sum(movement.micros for movement in movements if movement.asset is asset)
        if moved.get(asset, 0) + wanted > limits.get(asset, 0):
            raise SigningRefused(f"the limit {which} of {asset} would be passed")
