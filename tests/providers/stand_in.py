"""A node that is not well: an HTTP server in front of the real one, which spoils answers as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web

Answer = dict[str, Any]
Request = dict[str, Any]
Spoil = Callable[[Request, Answer], Answer]


class StandIn:
    """Passes JSON-RPC on to a node. The switches act on whole requests, `spoil` on each answer in them."""

    def __init__(self, node_url: str) -> None:
        self._node_url = node_url
        self.url = ""
        self.failing = False
        self.silent = False
        self.losing_answers = False
        self.spoil: Spoil = lambda request, answer: answer
        self.requests: list[Request] = []
        self.posts = 0
        self.largest_batch = 0
        self.headers: dict[str, str] = {}
        self.connections: set[object] = set()

    async def handle(self, request: web.Request) -> web.Response:
        self.posts += 1
        self.headers = dict(request.headers)
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        if self.failing:
            raise web.HTTPServiceUnavailable
        if self.silent:
            await asyncio.sleep(60)
        body = await request.json()
        asked: list[Request] = body if isinstance(body, list) else [body]
        self.requests += asked
        self.largest_batch = max(self.largest_batch, len(asked))
        async with ClientSession() as session, session.post(self._node_url, json=body) as response:
            answers = json.loads(await response.text())
        if self.losing_answers:
            request.transport.abort()
        if isinstance(answers, list):
            by_id = {question["id"]: question for question in asked}
            return web.json_response([self.spoil(by_id[answer["id"]], answer) for answer in answers])
        return web.json_response(self.spoil(body, answers))

    def freeze_head(self, header: Answer) -> None:
        """Lag: answer with this header as the finalized one, and know nothing beyond it."""
        height = int(header["number"], 16)

        def spoil(request: Request, answer: Answer) -> Answer:
            method, params = request["method"], request["params"]
            if method == "eth_getBlockByNumber" and params[0] == "finalized":
                return {**answer, "result": header}
            if method == "eth_getBlockByNumber" and int(params[0], 16) > height:
                return {**answer, "result": None}
            if method == "eth_getTransactionReceipt":
                return {**answer, "result": None}
            return answer

        self.spoil = spoil


@asynccontextmanager
async def stand_in(node_url: str) -> AsyncIterator[StandIn]:
    """One such server on a free port."""
    server = StandIn(node_url)
    application = web.Application()
    application.router.add_post("/", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
