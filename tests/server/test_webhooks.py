"""The webhook listener over HTTP: what is genuine is kept before it is answered, and nothing else changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select, text

from providers.events import EventVerifier
from sandbox.component import free_port
from server.http import HttpServer
from server.webhooks import MAX_AT_ONCE, MAX_BODY_BYTES, Webhooks
from storage import inbox
from storage.database import Engine, create_engine
from storage.schema import inbox as inbox_table
from tests.providers.circle.senders import EVENT, KEY_ID, TRANSACTION, Senders

WALLETS, MINT = "/webhooks/circle/wallets", "/webhooks/circle/mint"


class Listener:
    """A process' HTTP side with both endpoints, and the senders that it is to believe."""

    def __init__(self, engine: Engine, client: httpx.AsyncClient, registry: CollectorRegistry) -> None:
        self.engine = engine
        self.client = client
        self.registry = registry
        self.senders = Senders()

    async def kept(self) -> list[tuple[str, str, str]]:
        async with self.engine.connect() as tx:
            rows = await tx.execute(
                select(inbox_table.c.id, inbox_table.c.subject, inbox_table.c.reference).order_by(inbox_table.c.id)
            )
            return [tuple(row) for row in rows]

    def counted(self, kind: str, result: str) -> float:
        return self.registry.get_sample_value("webhook_events_total", {"kind": kind, "result": result}) or 0.0

    async def post_wallets(self, body: bytes, **headers: str) -> int:
        signed = {**self.senders.wallets_headers(body), **headers}
        return (await self.client.post(WALLETS, content=body, headers=signed)).status_code

    async def post_mint(self, body: bytes) -> int:
        plain = {"Content-Type": "text/plain; charset=UTF-8"}
        return (await self.client.post(MINT, content=body, headers=plain)).status_code


@asynccontextmanager
async def listening(engine: Engine, senders: Senders, registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    verifiers: dict[str, EventVerifier] = {
        "circle/wallets": senders.events.wallets,
        "circle/mint": senders.events.mint,
    }
    webhooks = Webhooks(engine=engine, verifiers=verifiers, clock=senders.clock, registry=registry)
    port, stop = free_port(), asyncio.Event()
    server = HttpServer(f"127.0.0.1:{port}", offset=0, registry=registry, routes=webhooks.routes)
    serving = asyncio.create_task(server.run(stop))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        stop.set()
        await serving


@pytest.fixture
async def listener(database: str) -> AsyncIterator[Listener]:
    engine, registry, senders = create_engine(database), CollectorRegistry(), Senders()
    async with listening(engine, senders, registry) as client:
        listener = Listener(engine, client, registry)
        listener.senders = senders
        yield listener
    await engine.dispose()


async def test_a_genuine_event_is_in_the_inbox_when_it_is_answered(listener: Listener) -> None:
    assert await listener.post_wallets(listener.senders.wallets_event()) == 200
    assert await listener.post_mint(listener.senders.mint_event()) == 200
    assert await listener.kept() == [
        (f"circle:mint:{EVENT}", "payout", TRANSACTION),
        (f"circle:wallets:{EVENT}", "transaction", TRANSACTION),
    ]
    assert listener.counted("circle/wallets", "accepted") == listener.counted("circle/mint", "accepted") == 1


async def test_a_copy_is_answered_alike_and_changes_nothing(listener: Listener) -> None:
    """At least once is what providers promise; anything but 200 would make them send it for ever."""
    body = listener.senders.wallets_event()
    assert [await listener.post_wallets(body) for _ in range(3)] == [200, 200, 200]
    assert len(await listener.kept()) == 1
    assert listener.counted("circle/wallets", "duplicate") == 2


async def test_a_copy_of_what_was_looked_into_is_not_looked_into_again(listener: Listener) -> None:
    """A replay of an event of this morning is genuine in every way, and is nothing new."""
    body = listener.senders.wallets_event()
    await listener.post_wallets(body)
    now = listener.senders.clock.now()
    async with listener.engine.begin() as tx:
        await inbox.finish(tx, f"circle:wallets:{EVENT}", state=inbox.DONE, now=now)
    assert await listener.post_wallets(body) == 200
    async with listener.engine.connect() as tx:
        assert await inbox.counts(tx) == {}


async def test_what_is_forged_stale_or_malformed_is_refused_counted_and_kept_nowhere(listener: Listener) -> None:
    senders = listener.senders
    honest, other = senders.wallets_event(), senders.wallets_event(notificationId=TRANSACTION)
    nonsense = b"{}"
    assert await listener.post_wallets(honest, **{"x-circle-signature": "AAAA"}) == 403
    assert await listener.post_wallets(other, **senders.wallets_headers(honest)) == 403
    assert await listener.post_wallets(honest, **{"x-circle-key-id": "1"}) == 400
    assert await listener.post_wallets(nonsense) == 400
    old_wallets, old_mint = senders.wallets_event(), senders.mint_event()
    senders.clock.advance(3 * 86_400)
    assert await listener.post_wallets(old_wallets) == 400
    assert await listener.post_mint(old_mint) == 400
    evil = senders.mint_event(SigningCertURL="https://evil.test/c.pem")
    assert await listener.post_mint(evil) == 403
    assert await listener.post_mint(b"[" * 200_000) == 400
    assert await listener.kept() == []
    counted = {name: listener.counted("circle/wallets", name) for name in ("forged", "stale", "malformed")}
    assert counted == {"forged": 2, "stale": 1, "malformed": 2}
    assert (listener.counted("circle/mint", "forged"), listener.counted("circle/mint", "stale")) == (1, 1)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_larger_than_any_event_is_not_read_to_its_end(listener: Listener, chunked: bool) -> None:
    """Also where no header says how large it is going to be."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 16_384

    content = endless() if chunked else b"x" * (MAX_BODY_BYTES + 1)
    headers = {"x-circle-key-id": KEY_ID, "x-circle-signature": "AAAA"}
    answer = await listener.client.post(WALLETS, content=content, headers=headers)
    assert answer.status_code == 413
    assert listener.counted("circle/wallets", "too_large") == 1
    assert listener.senders.circle.asked == []


async def test_while_the_database_is_away_the_sender_is_asked_to_come_again(listener: Listener) -> None:
    """200 would be a promise that nobody could keep, and 4xx would be for ever."""
    async with listener.engine.begin() as tx:
        await tx.execute(text("ALTER TABLE inbox RENAME TO away"))
    body = listener.senders.wallets_event()
    failed = await listener.client.post(WALLETS, content=body, headers=listener.senders.wallets_headers(body))
    assert failed.status_code >= 500
    async with listener.engine.begin() as tx:
        await tx.execute(text("ALTER TABLE away RENAME TO inbox"))
    assert await listener.post_wallets(body) == 200


async def test_while_circle_is_away_an_unknown_key_is_no_verdict(listener: Listener) -> None:
    listener.senders.circle.away = True
    body = listener.senders.wallets_event()
    assert await listener.post_wallets(body) == 503
    assert listener.counted("circle/wallets", "unavailable") == 1
    listener.senders.circle.away = False
    assert await listener.post_wallets(body) == 200


async def test_the_endpoint_says_that_somebody_is_here_and_serves_nothing_else(listener: Listener) -> None:
    """Circle asks with HEAD before it accepts an endpoint."""
    assert (await listener.client.head(WALLETS)).status_code == 200
    assert (await listener.client.get(WALLETS)).status_code == 405
    assert (await listener.client.post("/webhooks/circle")).status_code == 404
    assert (await listener.client.get("/metrics")).status_code == 200


async def test_a_crowd_of_senders_is_bounded(listener: Listener) -> None:
    """Whoever holds many connections open keeps the others waiting for a moment, and the process alive."""
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await release.wait()
        yield b"}"

    crowded = MAX_AT_ONCE + 8
    limits = httpx.Limits(max_connections=crowded)
    headers = {"x-circle-key-id": KEY_ID, "x-circle-signature": "AAAA"}
    base_url = listener.client.base_url
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=30, trust_env=False) as crowd:
        held = [asyncio.create_task(crowd.post(WALLETS, content=slow(), headers=headers)) for _ in range(crowded)]
        for _ in range(500):
            if listener.counted("circle/wallets", "overloaded") == crowded - MAX_AT_ONCE:
                break
            await asyncio.sleep(0.02)
        status = await listener.post_wallets(listener.senders.wallets_event())
        release.set()
        # The last of them found the house full themselves.
        await asyncio.gather(*held, return_exceptions=True)
    assert status == 503
    assert await listener.post_wallets(listener.senders.wallets_event()) == 200
