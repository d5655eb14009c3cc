"""What happens around every call: its fields, its deadline, its id, and faults of ours that stay ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from prometheus_client import CollectorRegistry, generate_latest

from domain.clock import SystemClock, SystemEntropy
from domain.errors import LimitExceeded, Overloaded, StateConflict, WalletError
from domain.money import Asset
from monay.wallet.v1.consumer_pb2 import GetConsumerRequest, GetConsumerResponse, KycEvidence, UpgradeKycRequest
from monay.wallet.v1.money_pb2 import GetBalanceRequest, Heartbeat, WatchBalancesRequest, WatchBalancesResponse
from monay.wallet.v1.provider_pb2 import GetHealthRequest, GetProviderStatusRequest
from monay.wallet.v1.transfer_pb2 import BatchTransferItem, BatchTransferRequest, Recipient
from server.api.access import Call
from server.api.edge import Edge
from server.api.gate import Gate
from server.api.health import Health
from server.api.rate_limits import RateLimits
from server.api.server import CONSUMER_WALLET, GrpcServer, _check_nouns, method_name
from server.api.tokens import TokenVerifier
from server.origins import Origins
from server.settings import Settings
from server.telemetry import RpcMetrics
from server.token_keys import ConfiguredKey
from storage.cache import Cache
from storage.database import create_engine
from storage.rate_counters import RateCounters

from .conftest import (
    ISSUER,
    SIGNING_KEY,
    Refusal,
    Wallet,
    consumer,
    operator,
    refused,
    serving,
    unpacked,
    wallet_settings,
)

SOMEBODY = "01890000-0000-7000-8000-000000000abc"


# --- fields -------------------------------------------------------------------------------------------------------


async def test_every_bad_field_is_named_by_its_path(wallet: Wallet) -> None:
    """An app shows the fault beside the field it belongs to."""
    items = [BatchTransferItem(), BatchTransferItem(recipient=Recipient(email="nobody"))]
    request = BatchTransferRequest(request_id="once", items=items)
    refusal = await refused(wallet.consumers.BatchTransfer(request, metadata=consumer(SOMEBODY)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    fields = {violation.field for violation in refusal.detail(error_details_pb2.BadRequest).field_violations}
    assert {"request_id", "items[0].recipient", "items[1].recipient.email", "items[1].amount"} <= fields
    assert refusal.metadata == {}


# --- ids and trailers ---------------------------------------------------------------------------------------------


async def test_a_thousand_bad_fields_are_told_by_the_first_that_a_trailer_holds(wallet: Wallet) -> None:
    """Of longer trailers a client would see nothing at all, not even what kind of error it was."""
    evidence = [KycEvidence(reference="x" * 300)] * 1_000
    request = UpgradeKycRequest(consumer_id=SOMEBODY, kyc_level=2, evidence=evidence)
    refusal = await refused(wallet.consumers.UpgradeKyc(request, metadata=consumer(SOMEBODY)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert len(refusal.detail(error_details_pb2.BadRequest).field_violations) > 10


async def test_a_value_that_is_repeated_in_an_error_is_cut(wallet: Wallet) -> None:
    request = GetBalanceRequest(consumer_id=SOMEBODY, asset="A" * 100_000)
    refusal = await refused(wallet.consumers.GetBalance(request, metadata=consumer(SOMEBODY)))
    assert refusal.reason == "ASSET_UNSUPPORTED"
    assert len(refusal.metadata["asset"]) == 300


async def test_every_answer_and_every_refusal_carries_an_id(wallet: Wallet) -> None:
    call = wallet.consumers.GetHealth(GetHealthRequest())
    await call
    answered = dict(await call.trailing_metadata())["request-id"]
    refusal = await refused(wallet.consumers.GetConsumer(GetConsumerRequest()))
    assert answered
    assert refusal.trailers["request-id"]
    assert refusal.trailers["request-id"] != answered


async def test_a_callers_own_id_is_used_if_it_is_a_plain_word(wallet: Wallet) -> None:
    """It ends up in log lines, where a line end or a quote would be an attack."""
    for given, echoed in (("trace-7.a_B", True), ("x" * 65, False), ("a b", False), ('"}', False)):
        call = wallet.consumers.GetHealth(GetHealthRequest(), metadata=(("x-request-id", given),))
        await call
        assert (dict(await call.trailing_metadata())["request-id"] == given) == echoed


# --- the whole service switched off -------------------------------------------------------------------------------


async def test_a_switched_off_wallet_refuses_consumers_and_nobody_else(database: str, tmp_path: Path) -> None:
    settings = wallet_settings(database, tmp_path, consumer_wallet_enabled=False)
    async with serving(settings) as wallet:
        call = wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=consumer(SOMEBODY))
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "WALLET_DISABLED")
        _, ending = await read(wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=consumer(SOMEBODY)))
        assert ending.reason == "WALLET_DISABLED"
        assert (await wallet.consumers.GetHealth(GetHealthRequest())).database == "connected"
        await wallet.consumers.GetProviderStatus(GetProviderStatusRequest(), metadata=operator())


# --- an edge with handlers that a test wrote ----------------------------------------------------------------------


def open_gate() -> Gate:
    """Lets everybody in, as often as they like."""
    limits = RateLimits({}, counters=RateCounters(Cache(None)), clock=SystemClock())
    return Gate(origins=Origins(), limits=limits, services_need_certificate=False)


class Probe:
    """An edge around one unary and one streaming handler, on a server of its own."""

    def __init__(
        self,
        unary: Any = None,
        stream: Any = None,
        *,
        gate: Gate | None = None,
        default_deadline_seconds: float = 5,
        longest_deadline_seconds: float = 60,
    ) -> None:
        clock = SystemClock()
        self.registry = CollectorRegistry()
        tokens = TokenVerifier(
            ConfiguredKey.public(SIGNING_KEY.as_pem(private=False).decode()),
            audience="monay-wallet",
            issuer=ISSUER,
            leeway_seconds=5,
            clock=clock,
        )
        self.edge = Edge(
            tokens=tokens,
            gate=gate or open_gate(),
            metrics=RpcMetrics(self.registry),
            clock=clock,
            entropy=SystemEntropy(clock),
            default_deadline_seconds=default_deadline_seconds,
            longest_deadline_seconds=longest_deadline_seconds,
        )
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        handlers = {}
        for name, behaviour in (("GetConsumer", unary), ("WatchBalances", stream)):
            if behaviour is not None:
                method = CONSUMER_WALLET.methods_by_name[name]
                rpc = self.edge.rpc(method)
                codec = (
                    GetMessageClass(method.input_type).FromString,
                    GetMessageClass(method.output_type).SerializeToString,
                )
                make = (
                    grpc.unary_stream_rpc_method_handler
                    if method.server_streaming
                    else grpc.unary_unary_rpc_method_handler
                )
                wrap = self.edge.stream if method.server_streaming else self.edge.unary
                handlers[name] = make(wrap(rpc, behaviour), *codec)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(CONSUMER_WALLET.full_name, handlers),)
        )

    async def __aenter__(self) -> Probe:
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        self.wallet = Wallet(None, self.channel, asyncio.Event())  # type: ignore[arg-type]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop(0)

    async def ask(self, **options: Any) -> Refusal:
        call = self.wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=consumer(SOMEBODY), **options)
        return await refused(call)

    @property
    def figures(self) -> str:
        return generate_latest(self.registry).decode()

    async def figures_show(self, text: str) -> None:
        """Wait for it: the handler ends a moment after its client heard of it."""
        while text not in self.figures:  # noqa: ASYNC110 - nothing tells when a counter changes
            await asyncio.sleep(0.01)


def raising(error: Exception) -> Any:
    async def handler(_request: Any, _call: Call) -> GetConsumerResponse:
        raise error

    return handler


async def test_a_fault_of_ours_tells_the_caller_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Texts of exceptions hold table names, addresses and worse; they stay in the log, under the id the caller has."""
    async with Probe(raising(RuntimeError("the key is 0xdeadbeef"))) as probe:
        refusal = await probe.ask()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL_ERROR")
    assert "deadbeef" not in refusal.message + str(refusal.metadata) + str(refusal.details)
    logged = capsys.readouterr().out
    assert refusal.trailers["request-id"] in logged
    assert "RuntimeError" in logged


async def test_a_refusal_that_the_contract_has_no_word_for_is_a_fault_of_ours() -> None:
    """What is not documented is nothing that a caller could act on."""
    error = StateConflict("item 7", "PENDING", "FAILED")
    vars(error)["reason"] = "UNHEARD_OF"
    async with Probe(raising(error)) as probe:
        refusal = await probe.ask()
    assert (refusal.reason, refusal.metadata) == ("INTERNAL_ERROR", {})


async def test_a_passed_limit_is_told_twice_with_its_reset_time() -> None:
    reset = SystemClock().now()
    error = LimitExceeded(1, 1_000_000_000, 999_000_000, 1_000_000, 2_000_000, reset)
    async with Probe(raising(error)) as probe:
        refusal = await probe.ask()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_EXCEEDED")
    assert refusal.metadata["remaining_usd_micros"] == "1000000"
    assert refusal.metadata["reset_time"] == reset.isoformat()
    assert refusal.has(error_details_pb2.QuotaFailure)
    assert not refusal.has(error_details_pb2.RetryInfo)


async def test_a_full_queue_says_when_to_come_back() -> None:
    async with Probe(raising(Overloaded(retry_after_ms=200))) as probe:
        refusal = await probe.ask()
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 200


async def test_nothing_else_carries_retry_info() -> None:
    """SDKs repeat what has it."""
    from domain.errors import AddressPoolEmpty, DatabaseUnavailable, InsufficientFunds, ShuttingDown

    errors: list[WalletError] = [
        AddressPoolEmpty(),
        DatabaseUnavailable(),
        ShuttingDown(),
        InsufficientFunds(Asset.USDC, 1, 2),
    ]
    for error in errors:
        async with Probe(raising(error)) as probe:
            assert not (await probe.ask()).has(error_details_pb2.RetryInfo)


async def test_a_call_without_a_deadline_gets_ours() -> None:
    """Nobody's call waits for ever; what it may have done, the same request id tells."""

    async def slow(_request: Any, _call: Call) -> GetConsumerResponse:
        await asyncio.sleep(30)
        return GetConsumerResponse()

    async with Probe(slow, default_deadline_seconds=0.2) as probe:
        refusal = await probe.ask()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert 'grpc_code="UNAVAILABLE"' in probe.figures


async def test_a_handler_knows_the_callers_deadline_and_is_cancelled_at_it() -> None:
    seen: list[float] = []
    cancelled = asyncio.Event()

    async def slow(_request: Any, call: Call) -> GetConsumerResponse:
        seen.append(call.deadline - SystemClock().monotonic())
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return GetConsumerResponse()

    async with Probe(slow) as probe:
        refusal = await probe.ask(timeout=0.3)
        assert refusal.code == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            await cancelled.wait()
            await probe.figures_show('grpc_code="DEADLINE_EXCEEDED"')
    assert 0 < seen[0] <= 0.3


async def test_a_timeout_inside_a_handler_is_not_the_callers_deadline() -> None:
    async with Probe(raising(TimeoutError("a provider"))) as probe:
        assert (await probe.ask()).reason == "INTERNAL_ERROR"


async def test_calls_are_counted_and_logged_once_without_personal_data() -> None:
    async def answer(_request: Any, _call: Call) -> GetConsumerResponse:
        return GetConsumerResponse()

    async with Probe(answer) as probe:
        with structlog.testing.capture_logs() as lines:
            headers = (*consumer(SOMEBODY), ("x-request-id", "call-7"))
            await probe.wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=headers)
        figures = probe.figures
    [line] = [line for line in lines if line["event"] == "rpc"]
    line.pop("ms")
    assert line == {
        "event": "rpc",
        "log_level": "info",
        "rpc": "ConsumerWalletService/GetConsumer",
        "code": "OK",
        "call": "call-7",
        "caller": "consumer",
        "consumer_id": SOMEBODY,
    }
    method = 'grpc_method="GetConsumer",grpc_service="monay.wallet.v1.ConsumerWalletService"'
    assert f'grpc_server_handled_total{{grpc_code="OK",{method}}} 1.0' in figures
    assert f"grpc_server_handling_seconds_count{{{method}}} 1.0" in figures


# --- streams ------------------------------------------------------------------------------------------------------


async def endless(_request: Any, _call: Call) -> AsyncIterator[WatchBalancesResponse]:
    while True:
        yield WatchBalancesResponse(heartbeat=Heartbeat())
        await asyncio.sleep(0.05)


async def read(stream: Any) -> tuple[int, Refusal]:
    """How many messages came, and how the stream ended."""
    count = 0
    try:
        async for _ in stream:
            count += 1
    except grpc.aio.AioRpcError as error:
        return count, unpacked(error)
    raise AssertionError("the stream ended without an error")


async def test_a_stream_ends_when_its_token_runs_out() -> None:
    """A stolen token must not listen for ever."""
    import time

    async with Probe(stream=endless) as probe:
        metadata = consumer(SOMEBODY, exp=int(time.time()) + 1)
        async with asyncio.timeout(10):
            count, refusal = await read(probe.wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=metadata))
    assert count > 0
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_streams_end_at_once_when_the_server_drains() -> None:
    """Their clients go to another server while this one finishes what it has."""
    async with Probe(stream=endless) as probe:
        streams = [
            asyncio.create_task(
                read(probe.wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=consumer(SOMEBODY)))
            )
            for _ in range(5)
        ]
        await asyncio.sleep(0.3)
        probe.edge.drain()
        async with asyncio.timeout(3):
            ends = await asyncio.gather(*streams)
        late = await read(probe.wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=consumer(SOMEBODY)))
    for count, refusal in ends:
        assert count > 0
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert (late[0], late[1].reason) == (0, "SHUTTING_DOWN")


async def test_a_stream_whose_client_left_is_closed() -> None:
    """Its generator's cleanup runs, or each lost phone would leave something behind."""
    closed = asyncio.Event()

    async def watched(request: Any, call: Call) -> AsyncIterator[WatchBalancesResponse]:
        try:
            async for message in endless(request, call):
                yield message
        finally:
            closed.set()

    async with Probe(stream=watched) as probe:
        stream = probe.wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=consumer(SOMEBODY))
        await stream.read()
        stream.cancel()
        async with asyncio.timeout(5):
            await closed.wait()
            await probe.figures_show('grpc_code="CANCELLED"')


# --- how nouns are found ------------------------------------------------------------------------------------------


def test_names_of_rpcs_and_methods_match() -> None:
    assert method_name("GetBalance") == "get_balance"
    assert method_name("UpgradeKyc") == "upgrade_kyc"


def test_a_noun_with_a_misspelt_method_stops_the_start() -> None:
    """It would answer NOT_IMPLEMENTED and nobody would know why."""

    class Misspelt:
        async def get_balanse(self) -> None: ...

    with pytest.raises(ValueError, match="get_balanse"):
        _check_nouns([Misspelt()], [CONSUMER_WALLET])


def test_two_nouns_with_one_rpc_stop_the_start() -> None:
    class One:
        async def get_balance(self) -> None: ...

    class Two(One): ...

    with pytest.raises(ValueError, match="also One"):
        _check_nouns([One(), Two()], [CONSUMER_WALLET])


async def test_an_rpc_that_no_noun_has_says_so_behind_the_same_checks(settings: Settings) -> None:
    """UNIMPLEMENTED without a token would tell strangers what we lack."""
    engine = create_engine(settings.database_url.get_secret_value())
    age = timedelta(seconds=15)
    health = Health(
        engine=engine, cache=Cache(None).answers, services=[], disabled=[], clock=SystemClock(), provider_max_age=age
    )
    server = GrpcServer(settings, edge=Probe().edge, nouns=[], health=health, shares_port=False)
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    async with grpc.aio.insecure_channel(settings.grpc_listen) as channel:
        wallet = Wallet(settings, channel, stop)
        refusal = await refused(wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=consumer(SOMEBODY)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
        refusal = await refused(wallet.consumers.GetConsumer(GetConsumerRequest()))
        assert refusal.reason == "TOKEN_MISSING"
        _, ending = await read(wallet.consumers.WatchBalances(WatchBalancesRequest(), metadata=consumer(SOMEBODY)))
        assert ending.reason == "NOT_IMPLEMENTED"
    stop.set()
    await running
    await engine.dispose()
