"""A payment's way from the call to the final block, read from what a collector of OpenTelemetry received."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest
from monay.wallet.v1.transfer_pb2 import TransferResponse
from sandbox.component import free_port
from sandbox.narrator import UNIT
from tests.sandbox.wallet_run import Run, alice, command, new_run
from tests.server.people import transfer
from tests.workers.house import until

pytestmark = pytest.mark.timeout(600)

Spans = list[Any]
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"


@asynccontextmanager
async def collecting(port: int) -> AsyncIterator[Spans]:
    """A collector that keeps all spans it is sent."""
    spans: Spans = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            for resource in request.resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.aio.server()
    # Generated without types.
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(Collector(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield spans
    finally:
        await server.stop(0)


@pytest.fixture
def run(sandbox_folder: Path) -> Iterator[Run]:
    yield from new_run(sandbox_folder)


async def pay(run: Run) -> TransferResponse:
    """A transfer of Alice's by a backend that traces itself."""
    metadata = (
        ("authorization", f"Bearer {command(run, 'sandbox.token').stdout.strip()}"),
        ("traceparent", f"00-{TRACE_ID}-{CALLERS_SPAN}-01"),
    )
    async with grpc.aio.insecure_channel(run.addresses["GRPC_LISTEN"]) as channel:
        wallet = ConsumerWalletServiceStub(channel)
        somebody = OnboardRequest(email="traced@example.com", phone="+14155552671")
        recipient = (await wallet.Onboard(somebody, metadata=metadata[:1])).consumer.id
        request = transfer(uuid.UUID(recipient), UNIT, consumer_id=alice(run.said), memo="a secret of theirs")
        paid: TransferResponse = await wallet.Transfer(request, metadata=metadata)
        # For the id of the item, which is the memo on the chain.
        ask = GetTransactionRequest(consumer_id=alice(run.said), transaction_id=paid.transaction.id)
        answer = await wallet.GetTransaction(ask, metadata=metadata[:1])
        paid.transaction.CopyFrom(answer.transaction)
        return paid


def named(spans: Spans, name: str, trace_id: str) -> Any:
    """The one span of that name in the trace; None while it has not come."""
    found = [span for span in spans if span.name == name and span.trace_id.hex() == trace_id]
    assert len(found) <= 1
    return found[0] if found else None


async def test_a_payment_is_one_story_from_the_call_to_the_final_block(run: Run) -> None:
    """The caller's trace goes on into the ledger, the item's ends in the block, and each links to the other."""
    port = free_port()
    async with collecting(port) as spans:
        run.start(TEMPO_MOCK_MODE="true", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
        await asyncio.to_thread(run.wait_greeting)
        paid = await pay(run)
        item = uuid.UUID(paid.transaction.settlements[0].item_id).hex

        async def settled() -> bool:
            return named(spans, "settlement", item) is not None and named(spans, "payment", item) is not None

        await until(settled, seconds=90)
    call = named(spans, "monay.wallet.v1.ConsumerWalletService/Transfer", TRACE_ID)
    commit = named(spans, "ledger.commit", TRACE_ID)
    payment, settlement = named(spans, "payment", item), named(spans, "settlement", item)
    assert call.parent_span_id.hex() == CALLERS_SPAN
    assert commit.parent_span_id == call.span_id
    assert [link.trace_id.hex() for link in commit.links] == [item]
    assert [link.span_id for link in payment.links] == [commit.span_id]
    assert settlement.parent_span_id == payment.span_id
    attributes = {attribute.key: attribute.value.string_value for attribute in settlement.attributes}
    assert attributes["wallet.state"] == "CONFIRMED"
    assert attributes["chain.transaction"].startswith("0x")
    assert call.start_time_unix_nano <= commit.start_time_unix_nano <= commit.end_time_unix_nano
    assert settlement.start_time_unix_nano <= settlement.end_time_unix_nano


async def test_spans_carry_no_personal_data(run: Run) -> None:
    """What people write to each other, who they are and what lets them in is nobody's at the collector."""
    port = free_port()
    async with collecting(port) as spans:
        run.start(TEMPO_MOCK_MODE="true", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
        await asyncio.to_thread(run.wait_greeting)
        await pay(run)
        assert run.process is not None
        # Told to stop, every process sends what it still has.
        run.process.terminate()
        assert await asyncio.to_thread(run.ends) == 0
    assert named(spans, "ledger.commit", TRACE_ID) is not None
    text = "".join(str(span) for span in spans)
    for secret in ("secret of theirs", "example.com", "+1415", "eyJ", "Bearer"):
        assert secret not in text
