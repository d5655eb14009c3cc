"""What the process tells about itself: one JSON line for each event, and figures for Prometheus.

A line is an event name and facts. Personal data, keys and tokens are never facts. Libraries that use the standard
logging module come out in the same form.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10)


def configure_logging(level: str, *, process: str) -> None:
    """Set the form of every line of this process, which calls itself `process` in them."""
    shared: list[Any] = [structlog.processors.add_log_level, _dated, structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, _named(process), structlog.processors.JSONRenderer(serializer=_as_json)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _named(process),
                structlog.processors.JSONRenderer(serializer=_as_text),
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _dated(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    event["time"] = datetime.now(UTC)
    return event


def _named(process: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = process
        return event

    return add


def _as_json(event: dict[str, Any], **_: Any) -> bytes:
    """One line. A value that JSON does not know is told by its text."""
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def _as_text(event: dict[str, Any], **_: Any) -> str:
    return _as_json(event).decode()


class RpcMetrics:
    """How calls went, by method: the names are those that dashboards for gRPC already know."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("grpc_service", "grpc_method")
        self._handled = Counter(
            "grpc_server_handled_total", "Calls that ended, by status code.", (*labels, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long unary calls took.",
            labels,
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )

    def method(self, service: str, method: str) -> MethodMetrics:
        """The figures of one method, looked up once: a look-up by labels costs more than the call's counting."""
        return MethodMetrics(
            lambda code: self._handled.labels(service, method, code), self._seconds.labels(service, method)
        )


class MethodMetrics:
    """The counters of one method, bound when a status code is first seen."""

    def __init__(self, counter: Any, seconds: Any) -> None:
        self._counter = counter
        self._seconds = seconds
        self._by_code: dict[str, Any] = {}

    def handled(self, code: str, seconds: float | None) -> None:
        """A call ended. Streams bring no seconds: their length says nothing about us."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._counter(code)
        counter.inc()
        if seconds is not None:
            self._seconds.observe(seconds)
