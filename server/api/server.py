"""The gRPC server: the contract's services, wrapped by the edge, with health and reflection beside them.

Services are built from their descriptors: each rpc finds the noun that has a method of its name. What nobody has is
there all the same, behind the same checks, and answers NOT_IMPLEMENTED.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from domain.errors import NotImplementedHere, WalletDisabled
from monay.wallet.v1 import consumer_wallet_service_pb2, operations_service_pb2, sandbox_service_pb2
from server.api import validation
from server.api.access import Access, CallerKind
from server.api.certificates import Certificates
from server.api.edge import Context, Edge, Rpc
from server.api.health import Health
from server.process import StartRefused
from server.settings import Settings

if TYPE_CHECKING:
    from server.tracing import Tracing

log = structlog.get_logger()

CONSUMER_WALLET = consumer_wallet_service_pb2.DESCRIPTOR.services_by_name["ConsumerWalletService"]
OPERATIONS = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"]
SANDBOX = sandbox_service_pb2.DESCRIPTOR.services_by_name["SandboxService"]

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION_SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

OPEN = Access(public=True, kinds=frozenset(), scopes=frozenset(), names_wallet=False)
ANY_TOKEN = Access(
    public=False,
    kinds=frozenset({CallerKind.CONSUMER, CallerKind.SERVICE, CallerKind.OPERATOR}),
    scopes=frozenset(),
    names_wallet=False,
)

# grpc.aio cancels calls when about a thousand are pending, unless it is told otherwise.
_MAX_PENDING = 100_000
_KEEPALIVE_MS = 30_000
# Mobile networks want pings; more often than this they are an attack.
_LEAST_PING_INTERVAL_MS = 10_000


def services(settings: Settings) -> list[ServiceDescriptor]:
    """What this server offers. The sandbox's service does not exist outside a sandbox."""
    return [CONSUMER_WALLET, OPERATIONS, *([SANDBOX] if settings.sandbox else [])]


def service_names(settings: Settings) -> list[str]:
    """The full names of what this server offers."""
    return [service.full_name for service in services(settings)]


def disabled_names(settings: Settings) -> list[str]:
    """Those of them that refuse everything now."""
    return [] if settings.consumer_wallet_enabled else [CONSUMER_WALLET.full_name]


class GrpcServer:
    """The server with every rpc of the contract, from binding to the last answer."""

    def __init__(
        self,
        settings: Settings,
        *,
        edge: Edge,
        nouns: Sequence[object],
        health: Health,
        shares_port: bool,
        tracing: Tracing | None = None,
    ) -> None:
        self._edge = edge
        self._tracing = tracing
        self._health = health
        self._grace_seconds = settings.grace_seconds
        self._server = grpc.aio.server(options=_options(settings, shares_port=shares_port))
        self._register(settings, nouns)
        self.ports = _bind(self._server, settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; then send newcomers away, end the streams, and let calls in flight finish."""
        await self._health.read()
        await self._server.start()
        log.info("grpc.serving", ports=self.ports)
        try:
            await stop.wait()
        finally:
            log.info("grpc.draining", grace_seconds=self._grace_seconds)
            await self._health.leave()
            self._edge.drain()
            await self._server.stop(self._grace_seconds)

    def _register(self, settings: Settings, nouns: Sequence[object]) -> None:
        offered = services(settings)
        _check_nouns(nouns, [CONSUMER_WALLET, OPERATIONS, SANDBOX])
        enabled = settings.consumer_wallet_enabled
        for service in offered:
            handlers = {
                method.name: _handler(self._edge, method, nouns, enabled=enabled, tracing=self._tracing)
                for method in service.methods
            }
            self._add(grpc.method_handlers_generic_handler(service.full_name, handlers))
        self._add(_health_handler(self._edge, self._health))
        names = [*(service.full_name for service in offered), HEALTH_SERVICE.full_name, REFLECTION_V1]
        self._add(*_reflection_handlers(self._edge, names, ANY_TOKEN if settings.production else OPEN))

    def _add(self, *handlers: grpc.GenericRpcHandler) -> None:
        self._server.add_generic_rpc_handlers(handlers)


def _bind(server: grpc.aio.Server, settings: Settings) -> list[int]:
    """Listen, and say at which ports. With a certificate, TLS is all that is spoken; services can have their own."""
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None or key is None:
        return [_listen("GRPC_LISTEN", settings.grpc_listen, server.add_insecure_port)]

    def listen(name: str, address: str, client_authority: Path | None) -> int:
        credentials = Certificates(certificate, key, client_authority=client_authority).credentials()
        return _listen(name, address, lambda where: server.add_secure_port(where, credentials))

    ports = [listen("GRPC_LISTEN", settings.grpc_listen, None)]
    if settings.mtls_listen is not None:
        ports.append(listen("MTLS_LISTEN", settings.mtls_listen, settings.mtls_client_ca_file))
    return ports


def _listen(name: str, address: str, add: Callable[[str], int]) -> int:
    try:
        return add(address)
    except RuntimeError as error:
        raise StartRefused(f"gRPC cannot listen on {address} ({name}): is the port taken?") from error


def _options(settings: Settings, *, shares_port: bool) -> list[tuple[str, int]]:
    options = [
        # Shared only under a supervisor that holds the port: else a second server would take half the calls of the
        # first without any error.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_PENDING),
        ("grpc.max_receive_message_length", settings.grpc_max_message_bytes),
        ("grpc.max_concurrent_streams", settings.grpc_max_concurrent_streams),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_INTERVAL_MS),
    ]
    if settings.grpc_max_connection_age_seconds is not None:
        options.append(("grpc.max_connection_age_ms", int(settings.grpc_max_connection_age_seconds * 1000)))
        options.append(("grpc.max_connection_age_grace_ms", int(settings.grace_seconds * 1000)))
    return options


def method_name(rpc: str) -> str:
    """`GetBalance` as a noun calls it: `get_balance`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", rpc).lower()


def _check_nouns(nouns: Iterable[object], known: Iterable[ServiceDescriptor]) -> None:
    """Each public method of a noun is an rpc, and no rpc has two."""
    rpcs = {method_name(method.name) for service in known for method in service.methods}
    owners: dict[str, str] = {}
    for noun in nouns:
        name = type(noun).__name__
        for method in (method for method in dir(noun) if not method.startswith("_")):
            if method not in rpcs:
                raise ValueError(f"{name}.{method} is none of the contract's rpcs")
            if method in owners:
                raise ValueError(f"{name}.{method} is also {owners[method]}.{method}")
            owners[method] = name


def _handler(
    edge: Edge, method: MethodDescriptor, nouns: Sequence[object], *, enabled: bool, tracing: Tracing | None
) -> grpc.RpcMethodHandler[Any, Any]:
    rpc = edge.rpc(method)
    name = method_name(method.name)
    behaviour = next((getattr(noun, name) for noun in nouns if hasattr(noun, name)), None)
    if not enabled and _is_for_consumers(rpc):
        behaviour = _refusing(WalletDisabled, streaming=method.server_streaming)
    elif behaviour is None:
        behaviour = _refusing(NotImplementedHere, streaming=method.server_streaming)
    reads, writes = validation.reader(method.input_type), GetMessageClass(method.output_type).SerializeToString
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(edge.stream(rpc, behaviour), reads, writes)
    handler = edge.unary(rpc, behaviour)
    if tracing is not None:
        handler = tracing.unary(rpc.service, rpc.method, handler)
    return grpc.unary_unary_rpc_method_handler(handler, reads, writes)


def _is_for_consumers(rpc: Rpc) -> bool:
    """Whether the rpc is closed while the consumer wallet is switched off. Operations and health are not."""
    return not rpc.access.public and CallerKind.OPERATOR not in rpc.access.kinds


def _refusing(error: Callable[[], Exception], *, streaming: bool) -> Any:
    async def refuse(_request: Any, _call: Any) -> NoReturn:
        raise error()

    async def refuse_stream(_request: Any, _call: Any) -> AsyncIterator[Any]:
        # The loop makes this a stream; it never runs.
        for answer in list[Any]():
            yield answer
        raise error()

    return refuse_stream if streaming else refuse


def _health_handler(edge: Edge, health: Health) -> grpc.GenericRpcHandler:
    async def check(request: Any, context: Context) -> Any:
        return await health.servicer.Check(request, context)

    async def watch(request: Any, context: Context) -> None:
        async with edge.open_to(OPEN, context):
            await health.servicer.Watch(request, context)

    message = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(check, *message),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, *message),
    }
    return grpc.method_handlers_generic_handler(HEALTH_SERVICE.full_name, handlers)


def _reflection_handlers(edge: Edge, names: Sequence[str], access: Access) -> tuple[grpc.GenericRpcHandler, ...]:
    """Reflection in both versions: their messages are the same on the wire, and tools differ in which they ask for."""
    servicer = ReflectionServicer(names)

    async def info(requests: Any, context: Context) -> None:
        async with edge.open_to(access, context):
            answers = cast(AsyncIterator[Any], servicer.ServerReflectionInfo(requests, context))
            async for answer in answers:
                await context.write(answer)

    handler = grpc.stream_stream_rpc_method_handler(
        info,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
        for name in (REFLECTION_V1, REFLECTION_SERVICE.full_name)
    )
