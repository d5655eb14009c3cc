"""The one way in: what happens around every rpc before and after its handler.

Address, identity, rate, scope, wallet, fields and deadline are checked here, in this order, and the call's end is
counted and logged here, once. A handler is wrapped when it is registered. A gRPC interceptor would do the same but is
asked anew for each call; and since nothing is registered except through `server.py`, there is no way past this module.

It is on the hot path: a call of a known token costs a few dozen microseconds here, most of them for validating the
fields and writing the line.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from domain.clock import Clock, Entropy
from domain.errors import DatabaseUnavailable, ShuttingDown, TokenExpired, TokenInvalid, TokenMissing, WalletError
from server.api import validation
from server.api.access import NOBODY, Access, Call, Caller
from server.api.errors import DETAILS_KEY, ApiError, api_error, internal_error, is_internal
from server.api.gate import Gate
from server.api.tokens import TokenVerifier
from server.telemetry import MethodMetrics, RpcMetrics

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Call], Awaitable[Message]]
Stream = Callable[[Any, Call], AsyncIterator[Message]]

_CALL_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OK = grpc.StatusCode.OK.name
_CANCELLED = grpc.StatusCode.CANCELLED.name
_DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED.name


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service, as the edge sees it."""

    service: str
    method: str
    access: Access
    metrics: MethodMetrics
    streams: bool

    @property
    def name(self) -> str:
        return f"{self.service.rpartition('.')[2]}/{self.method}"


class Edge:
    """Wraps handlers. One for each server."""

    def __init__(
        self,
        *,
        tokens: TokenVerifier,
        gate: Gate,
        metrics: RpcMetrics,
        clock: Clock,
        entropy: Entropy,
        default_deadline_seconds: float,
        longest_deadline_seconds: float = math.inf,
    ) -> None:
        self._tokens = tokens
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._default_deadline = default_deadline_seconds
        self._longest_deadline = longest_deadline_seconds
        # Made from a counter, because a random id for each call costs more than the rest of its bookkeeping.
        self._call_prefix = entropy.token_bytes(6).hex()
        self._call_numbers = itertools.count(1)
        self._streams: set[asyncio.Timeout] = set()
        self._draining = False

    def rpc(self, method: MethodDescriptor) -> Rpc:
        """A method of the contract, to wrap a handler for."""
        service = method.containing_service.full_name
        metrics = self._metrics.method(service, method.name)
        return Rpc(service, method.name, Access.declared(method), metrics, method.server_streaming)

    def unary(self, rpc: Rpc, behaviour: Unary) -> Callable[[Any, Context], Awaitable[Message]]:
        """A handler of one answer."""

        async def handle(request: Any, context: Context) -> Message:
            started = self._clock.monotonic()
            call, token = self._begin(context, started)
            try:
                await self._admit(rpc, call, token, request, context)
                if call.deadline_is_ours:
                    async with asyncio.timeout(call.deadline - started):
                        answer = await behaviour(request, call)
                else:
                    answer = await behaviour(request, call)
            except asyncio.CancelledError:
                self._cancelled(rpc, call, started)
                raise
            except Exception as error:
                refusal = self._refusal(rpc, call, error)
                self._end(rpc, call, refusal.code.name, started, refusal.reason)
                await _abort(context, call, refusal)
            self._end(rpc, call, _OK, started)
            return answer

        return handle

    def stream(self, rpc: Rpc, behaviour: Stream) -> Callable[[Any, Context], Awaitable[None]]:
        """A handler of many answers. It ends when its token runs out and when the server drains."""

        async def handle(request: Any, context: Context) -> None:
            started = self._clock.monotonic()
            call, token = self._begin(context, started)
            try:
                await self._admit(rpc, call, token, request, context)
                async with self._open(call.caller), aclosing(behaviour(request, call)) as answers:  # type: ignore[type-var]
                    async for answer in answers:
                        await context.write(answer)
            except asyncio.CancelledError:
                self._cancelled(rpc, call, started)
                raise
            except Exception as error:
                refusal = self._refusal(rpc, call, error)
                self._end(rpc, call, refusal.code.name, started, refusal.reason)
                await _abort(context, call, refusal)
            else:
                self._end(rpc, call, _OK, started)

        return handle

    @asynccontextmanager
    async def open_to(self, access: Access, context: Context) -> AsyncIterator[None]:
        """Around a handler that is not ours (health, reflection): a token where one is demanded, and the drain."""
        call, token = self._begin(context, self._clock.monotonic())
        try:
            if not access.public:
                self._gate.origins.require_allowed(call.peer)
                call.caller = await self._identify(token)
                self._gate.admit(call.caller, context)
                access.admit(call.caller)
            async with self._open(call.caller):
                yield
        except WalletError as error:
            await _abort(context, call, api_error(error))

    @property
    def open_streams(self) -> int:
        """How many streams are open now."""
        return len(self._streams)

    def drain(self) -> None:
        """End all open streams, so that their clients go elsewhere while calls in flight finish."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for stream in self._streams:
            # One whose token has just run out is ending already.
            if not stream.expired():
                stream.reschedule(now)

    def _begin(self, context: Context, now: float) -> tuple[Call, str | None]:
        """Read what the call brings beside its message."""
        token = call_id = None
        forwarded: list[str] = []
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                token = value
            elif key == "x-request-id":
                call_id = value
            elif key == "x-forwarded-for" and isinstance(value, str):
                forwarded.append(value)
        if not (isinstance(call_id, str) and _CALL_ID.fullmatch(call_id)):
            call_id = f"{self._call_prefix}-{next(self._call_numbers)}"
        peer = context.peer()
        if forwarded:
            peer = self._gate.origins.origin(peer, forwarded)
        remaining = cast("float | None", context.time_remaining())
        if remaining is None:
            call = Call(call_id, now + self._default_deadline, deadline_is_ours=True, peer=peer)
        elif remaining > self._longest_deadline:
            call = Call(call_id, now + self._longest_deadline, deadline_is_ours=True, peer=peer)
        else:
            call = Call(call_id, now + remaining, peer=peer)
        context.set_trailing_metadata((("request-id", call_id),))
        return call, token if isinstance(token, str) else None

    async def _admit(self, rpc: Rpc, call: Call, token: str | None, request: Any, context: Context) -> None:
        """Let the call in, or raise why not."""
        access = rpc.access
        self._gate.origins.require_allowed(call.peer)
        if not access.public:
            call.caller = await self._identify(token)
            self._gate.admit(call.caller, context)
            access.admit(call.caller)
        validation.require_message(request)
        call.wallet = access.wallet(call.caller, request)
        validation.check(request)

    async def _identify(self, authorization: str | None) -> Caller:
        if not authorization:
            raise TokenMissing()
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenInvalid()
        return self._tokens.known(token) or await self._tokens.verify(token)

    @asynccontextmanager
    async def _open(self, caller: Caller) -> AsyncIterator[None]:
        """The life of a stream: until its token runs out or the server drains."""
        if self._draining:
            raise ShuttingDown()
        loop = asyncio.get_running_loop()
        lasts = None
        if caller is not NOBODY:
            lasts = loop.time() + caller.expires_at - self._clock.now().timestamp()
        timeout = asyncio.timeout_at(lasts)
        self._streams.add(timeout)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            if self._draining:
                raise ShuttingDown() from None
            raise TokenExpired(datetime.fromtimestamp(caller.expires_at, UTC)) from None
        finally:
            self._streams.discard(timeout)

    def _refusal(self, rpc: Rpc, call: Call, error: Exception) -> ApiError:
        """What the client is told. What it must not be told is logged under the id that it gets."""
        if isinstance(error, TimeoutError) and call.deadline_is_ours and self._clock.monotonic() >= call.deadline:
            # Only the ledger writer can say that a command was dropped; what we stop waiting for may still happen.
            return api_error(DatabaseUnavailable())
        if isinstance(error, WalletError) and not is_internal(error):
            return api_error(error)
        log.error("rpc.failed", rpc=rpc.name, call=call.id, exc_info=error)
        return internal_error()

    def _cancelled(self, rpc: Rpc, call: Call, started: float) -> None:
        """The client went away, or its deadline passed: gRPC cancels the handler for both."""
        passed = not call.deadline_is_ours and self._clock.monotonic() >= call.deadline
        self._end(rpc, call, _DEADLINE_EXCEEDED if passed else _CANCELLED, started)

    def _end(self, rpc: Rpc, call: Call, code: str, started: float, reason: str | None = None) -> None:
        seconds = self._clock.monotonic() - started
        rpc.metrics.handled(code, None if rpc.streams else seconds)
        facts: dict[str, Any] = {"rpc": rpc.name, "code": code, "ms": round(seconds * 1000, 2), "call": call.id}
        if reason is not None:
            facts["reason"] = reason
        if call.caller is not NOBODY:
            facts["caller"] = call.caller.name
        if call.wallet is not None:
            facts["consumer_id"] = str(call.wallet)
        log.info("rpc", **facts)


async def _abort(context: Context, call: Call, refusal: ApiError) -> NoReturn:
    trailers = (("request-id", call.id), (DETAILS_KEY, refusal.status().SerializeToString()), *refusal.trailers)
    await context.abort(refusal.code, refusal.message, trailers)
