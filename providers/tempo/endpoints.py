"""The RPC endpoints of one chain: a pooled connection set each, and a memory of which are sick or lagging.

Plain JSON-RPC through web3's provider, with its own retries off: after a broadcast a silent retry would blur what is
known. Three traps of web3 8: the session it makes by itself closes its connection after each request; it hands every
request to a thread and back, to look a session up, which costs more than the request; and it retries reads for seconds
while a node is down. So each endpoint brings a session of its own, and posts through it directly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint

from domain.clock import Clock
from providers.base import Head, ProviderUnavailable

Call = tuple[str, list[Any]]
T = TypeVar("T")

MAX_BATCH: Final = 100
_CONNECTIONS: Final = 16
_KEEPALIVE_SECONDS: Final = 75

# An endpoint that failed is passed over for half a second, then for twice as long each time, up to this.
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 15.0

# Endpoints behind one another by a block or two are all well; by more than this, one of them lags.
_LAG_BLOCKS: Final = 6


class RpcError(Exception):
    """The node answered, with an error. What that means depends on what was asked."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code: int = error.get("code", 0)
        self.message: str = str(error.get("message", ""))
        self.data: str = str(error.get("data", ""))


class _PooledProvider(AsyncHTTPProvider):
    """web3's provider over one pooled, keep-alive connection set."""

    _pool: ClientSession | None = None

    async def make_batch_request(self, batch_requests: list[tuple[RPCEndpoint, Any]]) -> Any:
        response: Any = self.decode_rpc_response(await self._post(self.encode_batch_rpc_request(batch_requests)))
        # Nodes may answer in any order, and what one could not read it answers without an id.
        return sorted(response, key=lambda answer: answer.get("id") or 0) if isinstance(response, list) else response

    async def disconnect(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        return await self._post(request_data)

    async def _post(self, body: bytes) -> bytes:
        if self._pool is None:
            connector = TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS)
            self._pool = ClientSession(connector=connector, raise_for_status=True)
        async with self._pool.post(str(self.endpoint_uri), data=body, **self.get_request_kwargs()) as response:
            return await response.read()


class Endpoint:
    """One RPC address."""

    def __init__(self, url: str, *, api_key: str | None, timeout: timedelta, clock: Clock) -> None:
        address = urlsplit(url)
        # Addresses of hosted nodes carry keys in their path; names go into logs and rows.
        self.name = f"{address.hostname}:{address.port}" if address.port else str(address.hostname)
        headers = {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        request = {
            "headers": headers,
            "timeout": ClientTimeout(total=timeout.total_seconds()),
            # A redirect would carry the request, and perhaps the key, to a host nobody configured.
            "allow_redirects": False,
        }
        self._provider = _PooledProvider(url, request_kwargs=request, exception_retry_configuration=None)
        self._clock = clock
        self._failures = 0
        self._passed_over_until = 0.0

    @property
    def usable(self) -> bool:
        return self._clock.monotonic() >= self._passed_over_until

    def pass_over(self) -> None:
        """Prefer others for a while: longer each time in a row."""
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**self._failures, _LONGEST_PAUSE_SECONDS)
        self._failures += 1
        self._passed_over_until = self._clock.monotonic() + pause

    def welcome(self) -> None:
        """It answered, and from a current head."""
        self._failures, self._passed_over_until = 0, 0.0

    async def call(self, method: str, params: list[Any]) -> Any:
        """One call. Raises `RpcError` for an error answer and `ProviderUnavailable` for none."""
        result = _result(await self._exchange(self._provider.make_request(RPCEndpoint(method), params)))
        if isinstance(result, RpcError):
            raise result
        return result

    async def batch(self, calls: Sequence[Call]) -> list[Any | RpcError]:
        """Many calls in as few requests as the bound allows; answers in order, an error answer in its place."""
        results: list[Any | RpcError] = []
        for start in range(0, len(calls), MAX_BATCH):
            part = [(RPCEndpoint(method), params) for method, params in calls[start : start + MAX_BATCH]]
            answers = await self._exchange(self._provider.make_batch_request(part))
            if not isinstance(answers, list) or len(answers) != len(part):
                raise self._unavailable(f"a batch was answered with {str(answers)[:200]}")
            results += [_result(answer) for answer in answers]
        return results

    async def close(self) -> None:
        await self._provider.disconnect()

    async def _exchange(self, request: Awaitable[Any]) -> Any:
        try:
            return await request
        except (ClientError, OSError, TimeoutError, ValueError) as fault:
            raise self._unavailable(type(fault).__name__) from fault

    def _unavailable(self, reason: str) -> ProviderUnavailable:
        self.pass_over()
        return ProviderUnavailable(f"{self.name}: {reason}")


def _result(answer: Any) -> Any | RpcError:
    if isinstance(answer, dict) and "error" in answer:
        return RpcError(answer["error"])
    return answer["result"] if isinstance(answer, dict) else RpcError({"message": "not a JSON-RPC answer"})


def head_of(header: dict[str, Any], endpoint: str) -> Head:
    """A block header as a head."""
    return Head(endpoint, int(header["number"], 16), header["hash"], block_time(header))


def block_time(header: dict[str, Any]) -> datetime:
    """Tempo's headers know milliseconds. The protocol judges by whole seconds, which order the same way."""
    if millis := header.get("timestampMillis"):
        return datetime.fromtimestamp(int(millis, 16) / 1000, UTC)
    return datetime.fromtimestamp(int(header["timestamp"], 16), UTC)


class Endpoints:
    """All endpoints of one chain, in the order of preference in which they are configured."""

    def __init__(self, endpoints: Sequence[Endpoint], *, clock: Clock, max_head_drift: timedelta) -> None:
        assert endpoints, "a chain needs an endpoint"
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        assert len(self._endpoints) == len(endpoints), "each endpoint is named once"
        self._clock = clock
        self._max_head_drift = max_head_drift
        self._highest_block = 0

    def named(self, name: str) -> Endpoint:
        return self._endpoints[name]

    def in_order(self) -> list[Endpoint]:
        """The usable ones first; the others after them, because a sick endpoint beats none."""
        return sorted(self._endpoints.values(), key=lambda endpoint: not endpoint.usable)

    async def head(self, name: str | None = None) -> Head:
        """The finalized head of the named endpoint, or of the first that keeps up with the clock and the others.

        When none keeps up the highest head is the answer, because a halted chain still has one. What it is good for
        is the caller's question: nothing is signed on an old head, but a finished block can be read.
        """
        if name is not None:
            return await self._read_head(self.named(name))
        highest: Head | None = None
        for endpoint in self.in_order():
            try:
                head = await self._read_head(endpoint)
            except ProviderUnavailable:
                continue
            if self._is_current(endpoint, head):
                return head
            if highest is None or head.number > highest.number:
                highest = head
        if highest is None:
            raise ProviderUnavailable("no endpoint answers")
        return highest

    def has_fallen_behind(self, head: Head) -> bool:
        """Whether a higher head has been seen before, from this endpoint or another."""
        return head.number < self._highest_block

    async def read(self, ask: Callable[[Endpoint], Awaitable[T]], *, name: str | None = None) -> T:
        """Ask the named endpoint, or one after the other until one can answer."""
        if name is not None:
            return await ask(self.named(name))
        fault: Exception = ProviderUnavailable("no endpoint answers")
        for endpoint in self.in_order():
            try:
                return await ask(endpoint)
            except ProviderUnavailable as unavailable:
                fault = unavailable
        raise fault

    async def close(self) -> None:
        for endpoint in self._endpoints.values():
            await endpoint.close()

    async def _read_head(self, endpoint: Endpoint) -> Head:
        try:
            header = await endpoint.call("eth_getBlockByNumber", ["finalized", False])
        except RpcError as error:
            endpoint.pass_over()
            raise ProviderUnavailable(f"{endpoint.name}: {error}") from error
        if header is None:
            raise ProviderUnavailable(f"{endpoint.name}: no finalized block yet")
        head = head_of(header, endpoint.name)
        self._highest_block = max(self._highest_block, head.number)
        return head

    def _is_current(self, endpoint: Endpoint, head: Head) -> bool:
        behind = self._highest_block - head.number
        drift = abs(self._clock.now() - head.time)
        if behind > _LAG_BLOCKS or drift > self._max_head_drift:
            endpoint.pass_over()
            return False
        endpoint.welcome()
        # A head must not seem to go backwards because two healthy endpoints are a block apart.
        return behind == 0
