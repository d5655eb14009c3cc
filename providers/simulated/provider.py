"""Settlement on the simulated chain, step for step as on Tempo, with a place to fail at each step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from domain.clock import Clock
from domain.money import Asset
from domain.settlement import AttemptKind
from providers.base import (
    Accepted,
    Head,
    Movement,
    OutcomeUnknown,
    Party,
    Preparation,
    PreparedAttempt,
    Probe,
    ProviderLimits,
    ProviderUnavailable,
    Refusal,
    RefusalReason,
    Retryable,
    Signer,
)
from providers.isolation import sieve
from providers.simulated.chain import SimulatedChain
from providers.simulated.faults import Step
from providers.simulated.reader import SimulatedReader
from providers.simulated.transactions import reference_of, transfer_calls


class SimulatedProvider:
    """A rail by any name over one simulated chain."""

    def __init__(
        self,
        chain: SimulatedChain,
        reader: SimulatedReader,
        signer: Signer,
        *,
        clock: Clock,
        name: str,
        window: timedelta,
        max_head_drift: timedelta,
    ) -> None:
        self._chain, self._reader, self._signer, self._clock = chain, reader, signer, clock
        self._max_head_drift = max_head_drift
        self.name = self.rail = name
        self.assets = frozenset(Asset)
        self.limits = ProviderLimits(max_movements=32, window=window)

    async def prepare(self, movements: Sequence[Movement]) -> Preparation | Retryable:
        assert 0 < len(movements) <= self.limits.max_movements, "the planner keeps to the limits"
        try:
            head = await self._current_head()
        except ProviderUnavailable as fault:
            return Retryable(f"nothing signed: {fault}")
        if not self._chain.can_pay(self._signer.fee_payer_address):
            return Retryable("nothing signed: the fee payer cannot pay", retry_after=timedelta(seconds=30))
        sieved = await sieve(movements, self._rehearse)
        attempt = await self._transfer_attempt(head, sieved.passing) if sieved.passing else None
        refusals = tuple(self._refusal(movement, reason, head) for movement, reason in sieved.failures)
        return Preparation(attempt, refusals, tuple(movement.item_id for movement in sieved.deferred))

    async def prepare_activation(self, consumer: Party, assets: Sequence[Asset]) -> Preparation | Retryable:
        try:
            head = await self._current_head()
        except ProviderUnavailable as fault:
            return Retryable(f"nothing signed: {fault}")
        self._chain.faults.at_step(Step.SIGN)
        valid_before = self._valid_before(head)
        signed = await self._signer.sign_activation(consumer, assets, valid_before=valid_before)
        attempt = PreparedAttempt(
            kind=AttemptKind.ACTIVATION,
            payload=signed.payload,
            reference=signed.reference,
            valid_before=valid_before,
            signed_at_block=head.number,
            activates=consumer,
            assets=tuple(assets),
        )
        return Preparation(attempt)

    async def submit(self, payload: bytes) -> Accepted | OutcomeUnknown:
        faults = self._chain.faults
        faults.at_step(Step.SUBMIT)
        if faults.unreachable:
            return OutcomeUnknown("the simulated chain is unreachable")
        if faults.drop_broadcasts > 0:
            faults.drop_broadcasts -= 1
            return Accepted(reference_of(payload))
        self._chain.submit(payload)
        faults.at_step(Step.SUBMITTED)
        if faults.lose_answers > 0:
            faults.lose_answers -= 1
            return OutcomeUnknown("the answer was lost")
        return Accepted(reference_of(payload))

    async def probe(self) -> Probe | Retryable:
        started = self._clock.monotonic()
        try:
            head = await self._current_head()
        except ProviderUnavailable as fault:
            return Retryable(str(fault))
        return Probe(latency=timedelta(seconds=self._clock.monotonic() - started), head=head)

    async def _current_head(self) -> Head:
        head = await self._reader.finalized()
        drift = self._clock.now() - head.time
        if abs(drift) > self._max_head_drift:
            raise ProviderUnavailable(f"clock skew, the head is {drift.total_seconds():.1f} s old")
        return head

    async def _rehearse(self, movements: Sequence[Movement]) -> list[RefusalReason | None]:
        return self._chain.state.rehearse(transfer_calls(movements), self._signer.operator_address)

    def _refusal(self, movement: Movement, reason: RefusalReason, head: Head) -> Refusal:
        blocked = self._chain.state.blocked_end(transfer_calls([movement])[0])
        if reason.permanent and blocked is None:
            blocked = "destination"
        return Refusal(movement.item_id, reason, at_block=head.number, blocked=blocked if reason.permanent else None)

    def _valid_before(self, head: Head) -> datetime:
        return datetime.fromtimestamp(int(head.time.timestamp()), UTC) + self.limits.window

    async def _transfer_attempt(self, head: Head, movements: tuple[Movement, ...]) -> PreparedAttempt:
        self._chain.faults.at_step(Step.SIGN)
        valid_before = self._valid_before(head)
        signed = await self._signer.sign_transfers(movements, valid_before=valid_before)
        return PreparedAttempt(
            kind=AttemptKind.TRANSFER,
            payload=signed.payload,
            reference=signed.reference,
            valid_before=valid_before,
            signed_at_block=head.number,
            movements=movements,
        )
