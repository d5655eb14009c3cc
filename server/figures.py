"""Figures about this process, looked up when they are asked for: nothing is counted for them on the way of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.ledger_writer import LedgerWriter
from storage.database import Engine


class ProcessFigures(Collector):
    """The ledger writer's queue and batches, the pool of connections, and the streams that are open."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        writer: LedgerWriter,
        engine: Engine,
        open_streams: Callable[[], int] | None = None,
    ) -> None:
        self._writer = writer
        self._engine = engine
        self._open_streams = open_streams
        registry.register(self)
        # Memory, processor time and open files, by the names that every dashboard knows.
        ProcessCollector(registry=registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus gets."""
        yield from self._ledger()
        # Untyped where it is declared: the engine promises a pool, and this kind counts.
        pool: Any = self._engine.pool
        connections = GaugeMetricFamily(
            "wallet_database_connections", "Connections of the pool for reads and small writes.", labels=["state"]
        )
        connections.add_metric(["in_use"], pool.checkedout())
        connections.add_metric(["idle"], pool.checkedin())
        yield connections
        yield GaugeMetricFamily(
            "wallet_database_connections_limit", "In use, more callers than this wait.", value=2 * pool.size()
        )
        if self._open_streams is not None:
            yield GaugeMetricFamily("wallet_streams_open", "Streams open now.", value=self._open_streams())

    def _ledger(self) -> Iterator[Metric]:
        work = self._writer.work
        yield GaugeMetricFamily(
            "wallet_ledger_queued", "Commands that wait for a committer.", value=self._writer.queued
        )
        yield GaugeMetricFamily(
            "wallet_ledger_queue_limit",
            "With more than these, callers are turned away.",
            value=self._writer.queue_limit,
        )
        yield CounterMetricFamily("wallet_ledger_batches", "Database transactions of the ledger.", value=work.batches)
        yield CounterMetricFamily("wallet_ledger_commands", "Commands decided and answered.", value=work.commands)
        yield CounterMetricFamily("wallet_ledger_seconds", "Time spent in batches.", value=work.seconds)
