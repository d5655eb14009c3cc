"""Webhooks: what providers tell us, verified on the bytes they sent, kept, and answered. Nothing is acted on here.

An event is answered with 200 only when its row in the inbox is committed, so that a sender who hears anything else, or
nothing, sends it again. A copy of an event that is there already is answered the same way and changes nothing. What is
forged, stale or malformed is refused and counted; a full house or an absent database is 503, which senders try again.

    POST /webhooks/circle/wallets    Circle's Wallets (HEAD says that somebody is here)
    POST /webhooks/circle/mint       Circle Mint, through Amazon SNS
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domain.clock import Clock
from domain.errors import DatabaseUnavailable
from providers.base import ProviderUnavailable
from providers.events import EventRefused, EventVerifier, ProviderEvent, RefusalCause
from storage import inbox
from storage.database import Engine, writing
from storage.inbox import ReceivedEvent

log = structlog.get_logger()

# SNS sends at most this much; Circle's events are far smaller.
MAX_BODY_BYTES = 256 * 1024
MAX_AT_ONCE = 64

_STATUS = {RefusalCause.FORGED: 403, RefusalCause.STALE: 400, RefusalCause.MALFORMED: 400}


class BodyTooLarge(Exception):
    """More than any event has."""


class Webhooks:
    """Endpoints for events, one for each verifier."""

    def __init__(
        self, *, engine: Engine, verifiers: Mapping[str, EventVerifier], clock: Clock, registry: CollectorRegistry
    ) -> None:
        """`verifiers` by the path below /webhooks/."""
        self._engine = engine
        self._verifiers = verifiers
        self._clock = clock
        self._under_way = 0
        self._events = Counter(
            "webhook_events_total", "Events received, and what became of them.", ("kind", "result"), registry=registry
        )

    @property
    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route(f"/webhooks/{kind}", self._endpoint(kind, verifier), methods=["POST", "HEAD"])
            for kind, verifier in self._verifiers.items()
        ]

    def _endpoint(self, kind: str, verifier: EventVerifier) -> Callable[[Request], Awaitable[Response]]:
        async def receive(request: Request) -> Response:
            if request.method == "HEAD":
                return Response(status_code=200)
            status, result = await self._receive(request, verifier)
            self._events.labels(kind, result).inc()
            return Response(status_code=status)

        return receive

    async def _receive(self, request: Request, verifier: EventVerifier) -> tuple[int, str]:
        """The status to answer with, and the result to count."""
        if self._under_way >= MAX_AT_ONCE:
            return 503, "overloaded"
        self._under_way += 1
        try:
            event = await verifier.verify(request.headers, await _body(request))
            return 200, "accepted" if await self._keep(event) else "duplicate"
        except BodyTooLarge:
            return 413, "too_large"
        except EventRefused as refused:
            log.warning("webhook.refused", cause=refused.cause, detail=str(refused))
            return _STATUS[refused.cause], refused.cause
        except (ProviderUnavailable, DatabaseUnavailable) as fault:
            log.warning("webhook.postponed", error=str(fault)[:200])
            return 503, "unavailable"
        except ClientDisconnect:
            return 400, "broken_off"
        finally:
            self._under_way -= 1

    async def _keep(self, event: ProviderEvent) -> bool:
        """Whether it is new. Committed when this returns."""
        received = ReceivedEvent(
            id=event.id,
            source=event.source,
            subject=event.subject,
            reference=event.reference,
            occurred_at=event.occurred_at,
        )
        async with writing(self._engine) as tx:
            return event.id in await inbox.receive(tx, [received], now=self._clock.now())


async def _body(request: Request) -> bytes:
    """The very bytes, and no more of them than an event has, whatever its headers say."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
    return bytes(body)
