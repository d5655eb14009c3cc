"""A proxy between an SDK and the wallet that knows enough of HTTP/2 to fail where it hurts.

Faults lie between a request that has arrived and its answer: that is where a client has to say "unknown", and where a
second try must not become a second payment. Frames are told apart by their heads; nothing in them is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HEADERS = 0x1
FRAME_HEAD = 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class FaultProxy:
    """Between one listening port and one server."""

    def __init__(self, upstream: str) -> None:
        self._host, _, port = upstream.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._drops = 0
        self._delay = 0.0
        self.requests = 0
        """How many calls were begun through this proxy, tries included."""

    @property
    def target(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def drop_next_answer(self) -> None:
        """Let the next request through, and cut the connection when its answer comes back."""
        self._drops += 1

    def hold_answers(self, seconds: float) -> None:
        """From now on, whatever the server says arrives so much later."""
        self._delay = seconds

    def mend(self) -> None:
        """No more faults."""
        self._drops, self._delay = 0, 0.0

    def cut(self) -> None:
        """End every connection in the middle of whatever it carries."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            to_client.transport.abort()
            return
        pair = {to_client, to_server}
        self._writers |= pair
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await asyncio.gather(self._requests(client, to_server), self._answers(server, to_client))
        for writer in pair:
            writer.transport.abort()
        self._writers -= pair

    async def _requests(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        to_server.write(await client.readexactly(len(PREFACE)))
        async for frame in frames(client):
            self.requests += frame[3] == HEADERS
            to_server.write(frame)
            await to_server.drain()

    async def _answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async for frame in frames(server):
            if frame[3] == HEADERS and self._drops:
                self._drops -= 1
                raise ConnectionResetError
            if self._delay:
                await asyncio.sleep(self._delay)
            to_client.write(frame)
            await to_client.drain()


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """HTTP/2 frames, whole, until the connection ends."""
    while True:
        head = await reader.readexactly(FRAME_HEAD)
        yield head + await reader.readexactly(int.from_bytes(head[:3], "big"))


@asynccontextmanager
async def fault_proxy(upstream: str) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(upstream)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
