"""Activation: the allowance each consumer grants once, so that the operator may settle for them.

The consumer's derived key signs it, the fee payer pays for it. Its death is judged by its effect, the allowance at a
finalized block, and not by a hash: a sponsor's signature changes the hash, not the payload (money rule 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from domain.clock import Clock
from domain.identity import AttemptId, HolderId
from domain.money import Asset
from domain.settlement import AttemptState, QueueKey, Rail
from providers.base import (
    ChainReader,
    Party,
    PreparedAttempt,
    ProviderUnavailable,
    Retryable,
    SettlementProvider,
    SigningRefused,
)
from server.workers.attempts import Attempts
from server.workers.concurrency import all_of
from storage import attempts, custody
from storage.attempts import Attempt
from storage.database import Engine

log = structlog.get_logger()


class Activation:
    """Grants allowances and notices when they stand."""

    def __init__(
        self,
        *,
        engine: Engine,
        provider: SettlementProvider,
        reader: ChainReader,
        attempts: Attempts,
        clock: Clock,
        per_round: int = 64,
    ) -> None:
        self._engine = engine
        self._provider = provider
        self._reader = reader
        self._attempts = attempts
        self._clock = clock
        self._per_round = per_round
        self._rail = Rail(provider.rail)

    async def begin(self, queues: Sequence[QueueKey], parties: Mapping[HolderId, Party]) -> None:
        """Let the operator move these consumers' tokens: an allowance each grants once, with its own derived key."""
        wanted: dict[HolderId, list[Asset]] = {}
        for holder, asset in queues:
            if len(wanted) < self._per_round or holder in wanted:
                wanted.setdefault(holder, []).append(asset)
        if not wanted:
            return
        async with self._engine.connect() as tx:
            under_way = await attempts.being_activated(tx, wanted)
        due = {holder: assets for holder, assets in wanted.items() if holder not in under_way and holder in parties}
        signed = await all_of([self._prepare(parties[holder], assets) for holder, assets in due.items()])
        prepared = {holder: one for holder, one in zip(due, signed, strict=True) if one is not None}
        if prepared:
            await self._attempts.activate(prepared)

    async def _prepare(self, party: Party, assets: Sequence[Asset]) -> PreparedAttempt | None:
        try:
            preparation = await self._provider.prepare_activation(party, assets)
        except SigningRefused as refused:
            log.error("settlement.activation_refused", address=party.address, reason=str(refused)[:200])
            return None
        if isinstance(preparation, Retryable):
            log.info("settlement.activation_postponed", address=party.address, reason=preparation.reason[:200])
            return None
        return preparation.attempt

    async def check(self, under_way: Sequence[Attempt]) -> None:
        """An activation is alive until its allowance stands, and dead once it can no longer land (money rule 6)."""
        if not under_way:
            return
        async with self._engine.connect() as tx:
            addresses = await custody.addresses_of(tx, {attempt.holder for attempt in under_way if attempt.holder})
        try:
            head = await self._reader.finalized()
            granted = await self._granted(under_way, addresses, at_block=head.number)
        except ProviderUnavailable as fault:
            log.info("settlement.activations_unknown", detail=str(fault)[:200])
            return
        for attempt in under_way:
            await self._finish(attempt, granted[attempt.id], expired=head.time >= attempt.valid_before)

    async def _granted(
        self, under_way: Sequence[Attempt], addresses: Mapping[HolderId, custody.TempoAddress], *, at_block: int
    ) -> dict[AttemptId, set[Asset]]:
        """The assets whose allowance stands at that block, for each activation."""
        granted: dict[AttemptId, set[Asset]] = {attempt.id: set() for attempt in under_way}
        for asset in sorted({asset for attempt in under_way for asset in attempt.assets}):
            asking = [attempt for attempt in under_way if asset in attempt.assets and attempt.holder in addresses]
            owners = {attempt.id: addresses[attempt.holder].address for attempt in asking if attempt.holder}
            allowances = await self._reader.allowances(sorted(set(owners.values())), asset, at_block=at_block)
            for attempt_id, owner in owners.items():
                if allowances.get(owner, 0) > 0:
                    granted[attempt_id].add(asset)
        return granted

    async def _finish(self, attempt: Attempt, granted: set[Asset], *, expired: bool) -> None:
        complete = granted.issuperset(attempt.assets)
        if not complete and not expired:
            return
        state = AttemptState.CONFIRMED if complete else AttemptState.DEAD
        async with self._engine.begin() as tx:
            if attempt.holder is not None:
                await custody.mark_activated(tx, self._rail, {(attempt.holder, asset) for asset in granted})
            await attempts.finish_activation(tx, attempt.id, state=state, now=self._clock.now())
        log.info("settlement.activation", holder=str(attempt.holder), state=state, assets=sorted(granted))
