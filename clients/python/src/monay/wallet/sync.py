"""The client for threads. One may be shared by many; each call, and each watch, takes the thread it is made in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Self

import grpc

from monay.wallet.connection import CHANNEL_OPTIONS, Options, bearer, credentials
from monay.wallet.errors import wallet_error
from monay.wallet.retries import Tries, backoff
from monay.wallet.rpc import Request, Response, Rpc, name_intent
from monay.wallet.v1.money_pb2 import Balance, WatchBalancesRequest
from monay.wallet.v1.sync_calls import (
    WATCH_BALANCES,
    WATCH_TRANSACTIONS,
    ConsumerWalletCalls,
    OperationsCalls,
    SandboxCalls,
)
from monay.wallet.v1.transaction_pb2 import WatchTransactionsRequest, WatchTransactionsResponse
from monay.wallet.watching import Newest, final

Token = str | Callable[[], str]

# How often a watch looks whether it was told to stop: a blocked read cannot be woken by an event.
_LOOK_SECONDS = 0.2


def connect(
    target: str, token: Token, *, tls: bool | grpc.ChannelCredentials = True, options: Options | None = None
) -> WalletClient:
    """Open a client: `with connect("wallet.example.com:443", token) as wallet`. As `monay.wallet.connect`."""
    secured = credentials(tls)
    if secured is None:
        channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    else:
        channel = grpc.secure_channel(target, secured, options=CHANNEL_OPTIONS)
    return WalletClient(channel, token, options=options)


class WalletClient(ConsumerWalletCalls):
    """Every rpc of ConsumerWalletService as a method, with the behaviour of `monay.wallet.WalletClient`."""

    def __init__(self, channel: grpc.Channel, token: Token, *, options: Options | None = None) -> None:
        self._channel = channel
        self._calls = _Caller(channel, token, options or Options())
        super().__init__(self._calls)
        self.operations = OperationsCalls(self._calls)
        self.sandbox = SandboxCalls(self._calls)

    def watch_balances(
        self, handler: Callable[[Balance], None], *, consumer_id: str = "", stop: threading.Event | None = None
    ) -> None:
        """Hand over each balance of the wallet, and each newer one as it changes, until `stop` is set.

        Connects anew whenever the stream ends or falls silent. What was handed over already is not repeated, and an
        exception of the handler ends the watch.
        """
        newest = Newest()
        request = WatchBalancesRequest(consumer_id=consumer_id)
        with closing(self._calls.messages(WATCH_BALANCES, lambda: request, stop or threading.Event())) as messages:
            for message in messages:
                for balance in newest.among(message):
                    handler(balance)

    def watch_transactions(
        self,
        handler: Callable[[WatchTransactionsResponse], None],
        *,
        consumer_id: str = "",
        resume_cursor: str = "",
        save_cursor: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Hand over each transaction and settlement update behind the cursor, until `stop` is set.

        Connects anew whenever the stream ends or falls silent, at the cursor of the last message that was dealt with.
        The cursor moves on, and is given to `save_cursor`, only after the handler has returned, so a message whose
        handling failed comes again. An exception of the handler ends the watch.
        """
        request = WatchTransactionsRequest(consumer_id=consumer_id, resume_cursor=resume_cursor)
        with closing(self._calls.messages(WATCH_TRANSACTIONS, lambda: request, stop or threading.Event())) as messages:
            for message in messages:
                if message.WhichOneof("event") != "heartbeat":
                    handler(message)
                request.resume_cursor = message.cursor
                if save_cursor is not None:
                    save_cursor(message.cursor)

    def close(self) -> None:
        """Close the connection. Calls under way end with CANCELLED."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Caller:
    """Carries the calls of one client."""

    def __init__(self, channel: grpc.Channel, token: Token, options: Options) -> None:
        self._channel = channel
        self._token = token
        self._options = options

    def unary(self, rpc: Rpc[Request, Response], request: Request, timeout: float | None) -> Response:
        request_id = name_intent(request)
        tries = Tries(self._options.retries, timeout or self._options.timeout, rpc.repeatable)
        expired = ""
        while True:
            token = self._current_token()
            try:
                return self._try(rpc, request, token, tries.remaining())
            except grpc.RpcError as ended:
                # Every error that a call raises is that call itself, with its code and trailers.
                error = wallet_error(ended, request_id)
            if error.token_expired and not expired:
                expired = token
                if self._current_token() != expired:
                    continue
            pause = tries.pause_after(error)
            if pause is None:
                raise error
            time.sleep(pause)

    def stream(self, rpc: Rpc[Request, Response], request: Request, timeout: float | None) -> Iterator[Response]:
        call = self._open(rpc, request, self._current_token(), timeout or self._options.stream_timeout)
        try:
            yield from call
        except grpc.RpcError as ended:
            raise wallet_error(ended) from ended
        finally:
            call.cancel()

    def messages(
        self, rpc: Rpc[Request, Response], request: Callable[[], Request], stop: threading.Event
    ) -> Generator[Response, None, None]:
        """The messages of a stream without end, over as many connections as it takes, until `stop` is set."""
        policy, failures, expired = self._options.retries, 0, ""
        while not stop.is_set():
            token = self._current_token()
            call = self._open(rpc, request(), token, None)
            try:
                with _Listening(call, stop, self._options.silence) as listening:
                    for message in call:
                        failures, expired = 0, ""
                        listening.heard()
                        yield message
                        if stop.is_set():
                            return
            except grpc.RpcError as ended:
                error = wallet_error(ended)
                if not listening.cancelled and final(error, token=token, expired=expired):
                    raise error from ended
                expired = token if error.token_expired else ""
            finally:
                call.cancel()
            failures += 1
            stop.wait(backoff(failures, policy.first_pause, policy.stream_pause))

    def _try(self, rpc: Rpc[Request, Response], request: Request, token: str, timeout: float) -> Response:
        call = self._channel.unary_unary(
            rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
        )
        answer: Response = call(request, timeout=timeout, metadata=bearer(token))
        return answer

    def _open(self, rpc: Rpc[Request, Response], request: Request, token: str, timeout: float | None) -> Any:
        call = self._channel.unary_stream(
            rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
        )
        return call(request, timeout=timeout, metadata=bearer(token))

    def _current_token(self) -> str:
        return self._token if isinstance(self._token, str) else self._token()


class _Listening:
    """Cancels a stream that has fallen silent, or whose reader was told to stop: a blocked read can do neither."""

    def __init__(self, call: Any, stop: threading.Event, silence: float) -> None:
        self.cancelled = False
        self._call, self._stop, self._silence = call, stop, silence
        self._heard_at = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="monay-wallet-watch", daemon=True)

    def heard(self) -> None:
        self._heard_at = time.monotonic()

    def _listen(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            if self._stop.is_set() or time.monotonic() - self._heard_at > self._silence:
                self.cancelled = True
                self._call.cancel()
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
