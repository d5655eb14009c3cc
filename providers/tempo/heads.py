"""New heads, as a node announces them over a WebSocket: they wake the watcher, and that is all.

What a head says is not looked at. Truth is read by RPC, from finalized blocks, whether anybody was woken or not, so a
connection that is cut, late or lying costs a moment and nothing else.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import structlog
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType

from domain.clock import Clock

log = structlog.get_logger()

_SUBSCRIBE = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
_ANSWER_SECONDS = 10.0
# A connection that nobody answers on is as good as none, and would be noticed by nobody.
_HEARTBEAT_SECONDS = 15.0
_PAUSE_SECONDS = 2.0


class TempoHeads:
    """One subscription, begun again whenever it ends."""

    def __init__(self, url: str, *, api_key: str | None, wake: asyncio.Event, clock: Clock) -> None:
        self._url = url
        # Addresses of hosted nodes carry keys in their path.
        self._name = str(urlsplit(url).hostname)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._wake = wake
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen_on())
            await stop.wait()
            listening.cancel()

    async def _listen_on(self) -> None:
        while True:
            try:
                async with ClientSession(headers=self._headers) as session, asyncio.timeout(None) as timeout:
                    timeout.reschedule(asyncio.get_running_loop().time() + _ANSWER_SECONDS)
                    async with session.ws_connect(self._url, heartbeat=_HEARTBEAT_SECONDS) as socket:
                        await self._subscribe(socket)
                        timeout.reschedule(None)
                        await self._pass_on(socket)
            except (ClientError, TimeoutError, OSError, TypeError, ValueError) as fault:
                log.info("heads.away", endpoint=self._name, detail=type(fault).__name__)
            await self._clock.sleep(_PAUSE_SECONDS)

    async def _subscribe(self, socket: ClientWebSocketResponse) -> None:
        await socket.send_json(_SUBSCRIBE)
        answer = await socket.receive_json()
        if not (isinstance(answer, dict) and "result" in answer):
            raise ValueError("the node takes no subscription")
        log.info("heads.subscribed", endpoint=self._name)

    async def _pass_on(self, socket: ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self._wake.set()
