"""Traces: a request, the ledger's commit inside it, and the settlement that follows, perhaps minutes later, elsewhere.

A request continues the trace that its caller sends (`traceparent`) or begins one. What it sets in motion settles in a
trace of its own, whose id is the item's: the memo on the chain leads to it, and nothing has to be stored for that. Both
are linked, so that one finds from each to the other. Spans carry ids and figures; never personal data, never a token.

All of this exists only where OTEL_EXPORTER_OTLP_ENDPOINT is set: elsewhere nothing is wrapped, so nothing is paid for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from domain.commands import Command, ItemTransition
from domain.ledger_state import Applied, Outcome
from domain.settlement import ItemState
from server.ledger_writer import LedgerWriter

Handler = Callable[[Any, Any], Awaitable[Any]]

_LOW_64 = (1 << 64) - 1
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# A batch transfer has as many items as recipients; a span with hundreds of links helps nobody.
_MOST_ITEMS = 32


class Tracing:
    """Makes spans and sends them away, beside the process' work."""

    def __init__(self, endpoint: str, *, process: str) -> None:
        """Export to an OTLP collector over gRPC; `http://` means without TLS."""
        self._ids = _Ids()
        resource = Resource.create({"service.name": "monay-wallet", "service.instance.id": process})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("monay.wallet")
        self._incoming = TraceContextTextMapPropagator()

    def unary(self, service: str, method: str, handler: Handler) -> Handler:
        """The handler of one rpc, in a span."""
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}

        async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            sent = {key: value for key, value in context.invocation_metadata() or () if key == "traceparent"}
            parent = self._incoming.extract(sent)
            name = f"{service}/{method}"
            with self._tracer.start_as_current_span(
                name,
                context=parent,
                kind=SpanKind.SERVER,
                attributes=attributes,
                # An error's text may quote what the client sent.
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    return await handler(request, context)
                finally:
                    _end(span, context)

        return traced

    def ledger(self) -> Any:
        """A span around the wait for the ledger, inside whatever span is open."""
        return self._tracer.start_as_current_span("ledger.commit", record_exception=False)

    def payments(self, command: Command, committed: Span) -> None:
        """Begin the trace of each item that the commit set in motion, and link it with the request's."""
        for item in command.items[:_MOST_ITEMS]:
            committed.add_link(_context(item.id))
            self._ids.choose(item.id)
            link = Link(committed.get_span_context())
            attributes = {"wallet.item_id": str(item.id), "wallet.asset": str(item.asset)}
            self._tracer.start_span("payment", context=Context(), links=[link], attributes=attributes).end()

    def settlements(self, transitions: Sequence[ItemTransition]) -> None:
        """What became final, or failed, on a rail: in the item's trace, from the item's beginning on."""
        for transition in transitions:
            if transition.state not in (ItemState.CONFIRMED, ItemState.FAILED, ItemState.BLOCKED):
                continue
            span = self._tracer.start_span(
                "settlement",
                context=trace.set_span_in_context(NonRecordingSpan(_context(transition.item_id))),
                kind=SpanKind.CONSUMER,
                start_time=_born(transition.item_id),
                attributes={"wallet.item_id": str(transition.item_id), "wallet.state": transition.state.value},
            )
            if transition.transaction_hash:
                span.set_attribute("chain.transaction", transition.transaction_hash)
            span.end(end_time=max(_nanoseconds(transition.at), _born(transition.item_id)) if transition.at else None)

    def close(self) -> None:
        """Send what is left, for a few seconds at the most."""
        self._provider.force_flush(3_000)
        self._provider.shutdown()


class TracedLedgerWriter(LedgerWriter):
    """The ledger writer of a process that traces."""

    def __init__(self, tracing: Tracing, **options: Any) -> None:
        super().__init__(**options)
        self._tracing = tracing

    async def submit(self, command: Command, *, deadline: float | None = None) -> Outcome:
        """As its parent, in a span; what was set in motion or became final gets its own."""
        with self._tracing.ledger() as span:
            outcome = await super().submit(command, deadline=deadline)
            self._tell(span, command, outcome)
        return outcome

    async def submit_all(
        self, commands: Sequence[Command], *, deadline: float | None = None
    ) -> list[Outcome | Exception]:
        """All of them in one span."""
        with self._tracing.ledger() as span:
            outcomes = await super().submit_all(commands, deadline=deadline)
            for command, outcome in zip(commands, outcomes, strict=True):
                self._tell(span, command, outcome)
        return outcomes

    def _tell(self, span: Span, command: Command, outcome: Outcome | Exception) -> None:
        span.set_attribute("wallet.outcome", type(outcome).__name__)
        if isinstance(outcome, Applied):
            self._tracing.payments(command, span)
            self._tracing.settlements(command.transitions)


class _Ids(RandomIdGenerator):
    """Random ids, but for the one span that is about to begin an item's trace."""

    def __init__(self) -> None:
        self._chosen: UUID | None = None

    def choose(self, item_id: UUID) -> None:
        self._chosen = item_id

    def generate_trace_id(self) -> int:
        """Asked first, and for the first span of a trace only."""
        return super().generate_trace_id() if self._chosen is None else self._chosen.int

    def generate_span_id(self) -> int:
        """Asked last, so the choice is used up."""
        chosen, self._chosen = self._chosen, None
        return super().generate_span_id() if chosen is None else chosen.int & _LOW_64


def _context(item_id: UUID) -> SpanContext:
    """Where the trace of an item begins, known to every process that knows the item."""
    return SpanContext(item_id.int, item_id.int & _LOW_64, is_remote=True, trace_flags=_SAMPLED)


def _born(item_id: UUID) -> int:
    """When an item was made, which its id begins with; in nanoseconds."""
    return (item_id.int >> 80) * 1_000_000


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000_000)


def _end(span: Span, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """How the call ended. A refusal that is right is no error of ours."""
    # The types say StatusCode; it is None or 0 as long as nobody has set one.
    code: Any = context.code()
    number = 0 if not code else code.value[0] if isinstance(code, grpc.StatusCode) else int(code)
    span.set_attribute("rpc.grpc.status_code", number)
    if number in _FAULTS:
        span.set_status(Status(StatusCode.ERROR))


_FAULTS = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
