"""Settlement on Tempo: simulate, sign, hand over. Once something is signed, only the chain says how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

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
    Retryable,
    Signer,
    SignerUnavailable,
)
from providers.isolation import sieve
from providers.market import PreparedSale, Sale
from providers.tempo.endpoints import Endpoints, RpcError
from providers.tempo.keys import LocalSigner
from providers.tempo.simulation import FeePayerShort, refusal, rehearse
from providers.tempo.transactions import MAX_CALLS, MAX_WINDOW, ChainTerms, reference_of

# What nodes say about a transaction they already have. It is in their hands, so handing it over again succeeded.
_ALREADY_THERE: Final = ("already known", "already imported")


class TempoProvider:
    """The Tempo rail."""

    name = "tempo"
    rail = "tempo"

    def __init__(
        self,
        endpoints: Endpoints,
        signer: Signer,
        terms: ChainTerms,
        *,
        clock: Clock,
        window: timedelta,
        max_head_drift: timedelta,
    ) -> None:
        assert window <= MAX_WINDOW, f"an expiring nonce is valid for less than {MAX_WINDOW.total_seconds():.0f} s"
        self._endpoints, self._signer, self._terms = endpoints, signer, terms
        self._clock, self._max_head_drift = clock, max_head_drift
        self.assets = terms.tokens.assets
        self.limits = ProviderLimits(max_movements=MAX_CALLS, window=window)

    async def prepare(self, movements: Sequence[Movement]) -> Preparation | Retryable:
        assert 0 < len(movements) <= self.limits.max_movements, "the planner keeps to the limits"
        try:
            head = await self._current_head()
            sieved = await sieve(movements, lambda batch: self._rehearse(head, batch))
            refusals = [await self._refusal(head, movement, data) for movement, data in sieved.failures]
        except (ProviderUnavailable, RpcError) as fault:
            return Retryable(f"nothing signed: {fault}")
        except FeePayerShort as fault:
            return Retryable(f"nothing signed: the fee payer cannot pay ({fault})", retry_after=timedelta(seconds=30))
        try:
            attempt = await self._transfer_attempt(head, sieved.passing) if sieved.passing else None
        except SignerUnavailable as fault:
            return Retryable(f"nothing signed: {fault}", retry_after=fault.retry_after)
        return Preparation(attempt, tuple(refusals), tuple(movement.item_id for movement in sieved.deferred))

    async def prepare_activation(self, consumer: Party, assets: Sequence[Asset]) -> Preparation | Retryable:
        try:
            head = await self._current_head()
            valid_before = self._valid_before(head)
            signed = await self._signer.sign_activation(consumer, assets, valid_before=valid_before)
        except (ProviderUnavailable, SignerUnavailable) as fault:
            return Retryable(f"nothing signed: {fault}")
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

    async def prepare_sale(self, sale: Sale, *, least_micros: int) -> PreparedSale | Retryable:
        if not isinstance(self._signer, LocalSigner):
            return Retryable("the signer signs no sales", retry_after=timedelta(hours=1))
        try:
            head = await self._current_head()
        except ProviderUnavailable as fault:
            return Retryable(f"nothing signed: {fault}")
        valid_before = self._valid_before(head)
        signed = await self._signer.sign_sale(sale, least_micros=least_micros, valid_before=valid_before)
        attempt = PreparedAttempt(
            kind=AttemptKind.SALE,
            payload=signed.payload,
            reference=signed.reference,
            valid_before=valid_before,
            signed_at_block=head.number,
            assets=(sale.sell_asset, sale.buy_asset),
        )
        return PreparedSale(attempt, least_micros)

    async def submit(self, payload: bytes) -> Accepted | OutcomeUnknown:
        """Broadcast to one endpoint after the other until one takes it.

        A refusal is as unknown as silence: another node may hold the transaction, or this one may take it later. The
        other way round, a hash is only a hash; nodes return it for transactions they drop.
        """
        reference, raw = reference_of(payload), "0x" + payload.hex()
        faults = []
        for endpoint in self._endpoints.in_order():
            try:
                await endpoint.call("eth_sendRawTransaction", [raw])
                return Accepted(reference)
            except RpcError as error:
                if any(phrase in error.message.lower() for phrase in _ALREADY_THERE):
                    return Accepted(reference)
                faults.append(f"{endpoint.name}: {error}")
            except ProviderUnavailable as unavailable:
                faults.append(str(unavailable))
        return OutcomeUnknown("; ".join(faults))

    async def probe(self) -> Probe | Retryable:
        started = self._clock.monotonic()
        try:
            head = await self._current_head()
        except ProviderUnavailable as fault:
            return Retryable(str(fault))
        return Probe(latency=timedelta(seconds=self._clock.monotonic() - started), head=head)

    async def _current_head(self) -> Head:
        """A head near enough to the wall clock to stamp `valid_before` from (money rule 5).

        Nor below one seen before: such a node lags, or its chain is not the one it was (money rule 14).
        """
        head = await self._endpoints.head()
        if self._endpoints.has_fallen_behind(head):
            raise ProviderUnavailable(f"{head.endpoint}: the head {head.number} is lower than one seen before")
        drift = self._clock.now() - head.time
        if abs(drift) > self._max_head_drift:
            raise ProviderUnavailable(f"{head.endpoint}: clock skew, the head is {drift.total_seconds():.1f} s old")
        return head

    def _valid_before(self, head: Head) -> datetime:
        whole_seconds = int(head.time.timestamp())
        return datetime.fromtimestamp(whole_seconds, UTC) + self.limits.window

    async def _rehearse(self, head: Head, movements: Sequence[Movement]) -> list[str | None]:
        operator, fee_payer = self._signer.operator_address, self._signer.fee_payer_address
        endpoint = self._endpoints.named(head.endpoint)
        return await rehearse(endpoint, head, movements, self._terms, operator=operator, fee_payer=fee_payer)

    async def _refusal(self, head: Head, movement: Movement, data: str) -> Refusal:
        return await refusal(self._endpoints.named(head.endpoint), head, movement, data, self._terms)

    async def _transfer_attempt(self, head: Head, movements: tuple[Movement, ...]) -> PreparedAttempt:
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
