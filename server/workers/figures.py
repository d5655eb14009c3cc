"""Figures about the whole wallet, read from the database now and then and shown by every worker process.

Each worker process shows the same figures, so dashboards and alerts take their maximum, never their sum. What
is asked for often is cheap; where a day holds much to add up, it is added up less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.clock import Clock
from storage import figures
from storage.database import Engine, Tx, reading
from storage.figures import Sample


@dataclass(frozen=True, slots=True)
class Figure:
    """One gauge, and the statement that its values come from."""

    name: str
    help: str
    read: Callable[[Tx, datetime], Awaitable[list[Sample]]]
    labels: tuple[str, ...] = ()


NOW = (
    Figure("wallet_provider_up", "1: answers, and its breaker is closed.", figures.providers_up, ("provider",)),
    Figure("wallet_provider_paused", "1: taken out by an operator.", figures.providers_paused, ("provider",)),
    Figure("wallet_provider_latency_seconds", "Median of its last minute.", figures.provider_latency, ("provider",)),
    Figure("wallet_provider_success_ratio", "Of its last minute's calls.", figures.provider_success, ("provider",)),
    Figure(
        "wallet_settlement_attempts_hour",
        "Attempts to settle of the last hour.",
        figures.recent_attempts,
        ("provider", "state"),
    ),
    Figure("wallet_float_micros", "The operator's own money.", figures.operator_float, ("rail", "asset")),
    Figure("wallet_provider_jobs_oldest_seconds", "Age of the oldest open provider job.", figures.waiting_jobs),
    Figure("wallet_settlement_items_open", "Items that are not final.", figures.open_items, ("state",)),
    Figure("wallet_settlement_oldest_seconds", "Age of the oldest unsettled item.", figures.oldest_unsettled),
    Figure("wallet_settlement_queue_seconds", "Age of the oldest item nobody has taken.", figures.oldest_queued),
    Figure("wallet_breaks_open", "Differences between ledger and rails.", figures.open_breaks),
    Figure("wallet_proof_clean", "1: the last proof found every balance backed.", figures.proof_clean),
    Figure("wallet_proof_age_seconds", "Age of the last proof.", figures.proof_age),
    Figure("wallet_owed_micros", "What consumers own, by the last proof.", figures.owed_to_consumers, ("asset",)),
    Figure("wallet_in_settlement_micros", "On its way, by the last proof.", figures.in_settlement, ("asset",)),
    Figure("wallet_chain_lag_seconds", "Age of the last block that was applied.", figures.chain_lag, ("chain",)),
    Figure("wallet_chain_halted", "1: settlement stands still for a reason.", figures.chain_halted, ("chain",)),
    Figure("wallet_addresses_free", "Addresses derived ahead for newcomers.", figures.free_addresses),
)

TODAY = (
    Figure("wallet_consumers", "Consumers, by KYC level.", figures.consumers_by_level, ("kyc_level",)),
    Figure("wallet_settlement_items_hour", "Items of the last hour's attempts.", figures.recent_items, ("provider",)),
    Figure("wallet_day_active_consumers", "Consumers active this UTC day.", figures.active_consumers),
    Figure("wallet_day_transactions", "Transactions this UTC day.", figures.day_transactions, ("kind", "asset")),
    Figure("wallet_day_volume_micros", "Their amounts.", figures.day_volume, ("kind", "asset")),
    Figure("wallet_day_settled_micros", "Settled this UTC day.", figures.day_settled, ("provider", "asset")),
    Figure("wallet_day_batches", "Batch transfers this UTC day.", figures.day_batches),
    Figure("wallet_day_batch_recipients", "Recipients paid by them.", figures.day_batch_recipients),
)


# What adds up a day may take a twentieth of one connection's time.
SPARING = 20


class WalletFigures(Collector):
    """Reads them, keeps the last values, shows them."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        engine: Engine,
        clock: Clock,
        interval_seconds: float = 5.0,
        day_seconds: float = 15.0,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._day_seconds = day_seconds
        self._samples: dict[str, list[Sample]] = {}
        self._read_at: float | None = None
        registry.register(self)

    async def run(self, stop: asyncio.Event) -> None:
        """Read them in their intervals until `stop` is set."""
        now_due = day_due = self._clock.monotonic()
        while not stop.is_set():
            began = self._clock.monotonic()
            if began >= now_due:
                await self.read(NOW)
                now_due = began + self._interval_seconds
            if began >= day_due:
                took = await self.read(TODAY)
                day_due = began + max(self._day_seconds, SPARING * took)
            await self._clock.sleep(0.2)

    async def read(self, group: tuple[Figure, ...]) -> float:
        """One look at each figure of a group; the seconds it took."""
        began, now = self._clock.monotonic(), self._clock.now()
        async with reading(self._engine) as tx:
            for figure in group:
                self._samples[figure.name] = await figure.read(tx, now)
        self._read_at = self._clock.monotonic()
        return self._read_at - began

    def collect(self) -> Iterator[Metric]:
        """What Prometheus gets. The age says how much to believe of it."""
        for figure in (*NOW, *TODAY):
            gauge = GaugeMetricFamily(figure.name, figure.help, labels=figure.labels)
            for labels, value in self._samples.get(figure.name, ()):
                gauge.add_metric(labels, value)
            yield gauge
        if self._read_at is not None:
            age = self._clock.monotonic() - self._read_at
            yield GaugeMetricFamily("wallet_figures_age_seconds", "Since these were read last.", value=age)
