"""The client for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import NoReturn, Self, cast

import grpc

from monay.wallet.connection import CHANNEL_OPTIONS, Options, bearer, credentials
from monay.wallet.errors import wallet_error
from monay.wallet.retries import Tries, backoff
from monay.wallet.rpc import Request, Response, Rpc, name_intent
from monay.wallet.v1.calls import (
    WATCH_BALANCES,
    WATCH_TRANSACTIONS,
    ConsumerWalletCalls,
    OperationsCalls,
    SandboxCalls,
)
from monay.wallet.v1.money_pb2 import Balance, WatchBalancesRequest
from monay.wallet.v1.transaction_pb2 import WatchTransactionsRequest, WatchTransactionsResponse
from monay.wallet.watching import Newest, final

Token = str | Callable[[], str | Awaitable[str]]


def connect(
    target: str, token: Token, *, tls: bool | grpc.ChannelCredentials = True, options: Options | None = None
) -> WalletClient:
    """Open a client: `async with connect("wallet.example.com:443", token) as wallet`.

    `token` is a token, or a function (also an async one) that is asked before every try for one that is valid now.
    Connecting itself happens with the first call.
    """
    secured = credentials(tls)
    if secured is None:
        channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    else:
        channel = grpc.aio.secure_channel(target, secured, options=CHANNEL_OPTIONS)
    return WalletClient(channel, token, options=options)


class WalletClient(ConsumerWalletCalls):
    """Every rpc of ConsumerWalletService as a method; `operations` and `sandbox` have those of the other services.

    A call is given a request id before its first try, which is written into the request; it has a deadline that all its
    tries share; what is UNAVAILABLE or says when to come back is sent again, and a token that has expired is replaced
    once. Whatever else happens is raised as WalletError.
    """

    def __init__(self, channel: grpc.aio.Channel, token: Token, *, options: Options | None = None) -> None:
        self._channel = channel
        self._calls = _Caller(channel, token, options or Options())
        super().__init__(self._calls)
        self.operations = OperationsCalls(self._calls)
        self.sandbox = SandboxCalls(self._calls)

    async def watch_balances(self, handler: Callable[[Balance], Awaitable[None]], *, consumer_id: str = "") -> NoReturn:
        """Hand over each balance of the wallet, and each newer one as it changes, until cancelled.

        Connects anew whenever the stream ends or falls silent. What was handed over already is not repeated, and an
        exception of the handler ends the watch.
        """
        newest = Newest()
        request = WatchBalancesRequest(consumer_id=consumer_id)
        async with aclosing(self._calls.messages(WATCH_BALANCES, lambda: request)) as messages:
            async for message in messages:
                for balance in newest.among(message):
                    await handler(balance)
        raise AssertionError("a watched stream has no end")

    async def watch_transactions(
        self,
        handler: Callable[[WatchTransactionsResponse], Awaitable[None]],
        *,
        consumer_id: str = "",
        resume_cursor: str = "",
        save_cursor: Callable[[str], Awaitable[None]] | None = None,
    ) -> NoReturn:
        """Hand over each transaction and settlement update behind the cursor, until cancelled.

        Connects anew whenever the stream ends or falls silent, at the cursor of the last message that was dealt with.
        The cursor moves on, and is given to `save_cursor`, only after the handler has returned, so a message whose
        handling failed comes again. An exception of the handler ends the watch.
        """
        request = WatchTransactionsRequest(consumer_id=consumer_id, resume_cursor=resume_cursor)
        async with aclosing(self._calls.messages(WATCH_TRANSACTIONS, lambda: request)) as messages:
            async for message in messages:
                if message.WhichOneof("event") != "heartbeat":
                    await handler(message)
                request.resume_cursor = message.cursor
                if save_cursor is not None:
                    await save_cursor(message.cursor)
        raise AssertionError("a watched stream has no end")

    async def close(self) -> None:
        """Close the connection. Calls under way end with CANCELLED."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Caller:
    """Carries the calls of one client."""

    def __init__(self, channel: grpc.aio.Channel, token: Token, options: Options) -> None:
        self._channel = channel
        self._token = token
        self._options = options

    async def unary(self, rpc: Rpc[Request, Response], request: Request, timeout: float | None) -> Response:
        request_id = name_intent(request)
        tries = Tries(self._options.retries, timeout or self._options.timeout, rpc.repeatable)
        expired = ""
        while True:
            token = await self._current_token()
            try:
                return await self._try(rpc, request, token, tries.remaining())
            except grpc.aio.AioRpcError as ended:
                error = wallet_error(ended, request_id)
            if error.token_expired and not expired:
                expired = token
                if await self._current_token() != expired:
                    continue
            pause = tries.pause_after(error)
            if pause is None:
                raise error
            await asyncio.sleep(pause)

    async def stream(
        self, rpc: Rpc[Request, Response], request: Request, timeout: float | None
    ) -> AsyncGenerator[Response, None]:
        call = self._open(rpc, request, await self._current_token(), timeout or self._options.stream_timeout)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as ended:
            raise wallet_error(ended) from ended
        finally:
            call.cancel()

    async def messages(
        self, rpc: Rpc[Request, Response], request: Callable[[], Request]
    ) -> AsyncGenerator[Response, None]:
        """The messages of a stream without end, over as many connections as it takes."""
        policy, failures, expired = self._options.retries, 0, ""
        while True:
            token = await self._current_token()
            call = self._open(rpc, request(), token, None)
            try:
                async for message in self._until_silent(call):
                    failures, expired = 0, ""
                    yield message
            except grpc.aio.AioRpcError as ended:
                error = wallet_error(ended)
                if final(error, token=token, expired=expired):
                    raise error from ended
                expired = token if error.token_expired else ""
            finally:
                call.cancel()
            failures += 1
            await asyncio.sleep(backoff(failures, policy.first_pause, policy.stream_pause))

    async def _until_silent(self, call: grpc.aio.UnaryStreamCall[Request, Response]) -> AsyncGenerator[Response, None]:
        """The messages of one connection, for as long as the server is heard."""
        while True:
            try:
                message = await asyncio.wait_for(call.read(), self._options.silence)
            except TimeoutError:
                return
            if message is grpc.aio.EOF:
                return
            yield cast(Response, message)

    async def _try(self, rpc: Rpc[Request, Response], request: Request, token: str, timeout: float) -> Response:
        call = self._channel.unary_unary(
            rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
        )
        answer: Response = await call(request, timeout=timeout, metadata=bearer(token))
        return answer

    def _open(
        self, rpc: Rpc[Request, Response], request: Request, token: str, timeout: float | None
    ) -> grpc.aio.UnaryStreamCall[Request, Response]:
        call = self._channel.unary_stream(
            rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
        )
        return cast(
            "grpc.aio.UnaryStreamCall[Request, Response]", call(request, timeout=timeout, metadata=bearer(token))
        )

    async def _current_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token
