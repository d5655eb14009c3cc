"""One product of Circle's over HTTP: what is sent, what is logged, and the three ways in which a request can go wrong.

`NotSent`: it never left. `NoAnswer`: it may have been executed. `Refused`: Circle said no, with a number. What any of
them means for an order is decided in `outcomes.py`. Reads are repeated a few times; a write is one request, and who
repeats it repeats it with the same idempotency key.

Nothing secret is in a log line, an exception or a repr: neither keys nor ciphertexts nor what was sent, and of Circle's
own words only what holds no long number.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import stamina
import structlog
from pydantic_core import from_json

from domain.clock import Clock
from providers.base import ProviderUnavailable, Retryable
from providers.circle.amounts import UnreadableAnswer
from providers.circle.budget import Kind, RateBudget

log = structlog.get_logger()

CHECK_SECONDS = 5.0
READ_TRIES = 3
READ_SECONDS = 30.0
LONGEST_PAUSE = timedelta(minutes=5)
LONGEST_READ_PAUSE = timedelta(seconds=2)
MAX_PAGES = 1_000

# The only errors that come before anything was sent.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Account numbers, keys and whatever else is long enough to mean somebody.
_LONG = re.compile(r"\d{6,}|[A-Za-z0-9+/=_:]{24,}")


class CircleFault(Exception):
    """A request that did not succeed."""


class NotSent(CircleFault):
    """Nothing reached Circle."""


class NoAnswer(CircleFault):
    """It was sent, and no answer says what became of it."""


class Refused(CircleFault):
    """Circle answered no. `code` is Circle's number, or the HTTP status where it gave none."""

    def __init__(self, status: int, code: int, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(f"HTTP {status}, code {code}: {message}")
        self.status = status
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its content, and where the next page is, if there is one."""

    status: int
    data: Any
    next_page: str | None
    request_id: str


def _worth_another_try(error: Exception) -> bool | timedelta:
    """Whether a read may be repeated, and after what pause where Circle has said so. A long one is the caller's."""
    if isinstance(error, Refused):
        pause = error.retry_after
        return pause if pause is not None and pause <= LONGEST_READ_PAUSE else False
    return isinstance(error, CircleFault)


class CircleClient:
    """Requests to one host with one key."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        budget: RateBudget,
        clock: Clock,
        timeout: timedelta,
        product: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._budget = budget
        self._clock = clock
        self._product = product
        self._base_url = base_url.rstrip("/")
        # A redirect would carry the key to where it leads.
        self._http = httpx.AsyncClient(
            base_url=self._base_url,
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            timeout=timeout.total_seconds(),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"CircleClient({self._product}, {self._base_url})"

    async def close(self) -> None:
        await self._http.aclose()

    # --- reads --------------------------------------------------------------------------------------------------------

    async def check(self, path: str) -> timedelta | Retryable:
        """One read, not waited for as long as others: how long it took, or why there was no answer."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.get(path, tries=1)
        except TimeoutError:
            return Retryable(f"circle: no answer within {CHECK_SECONDS:.0f} s")
        except (ProviderUnavailable, Refused) as fault:
            return Retryable(str(fault))
        return timedelta(seconds=self._clock.monotonic() - started)

    async def get(self, path: str, params: Mapping[str, str] | None = None, *, tries: int = READ_TRIES) -> Answer:
        """A read, tried a few times. Raises `Refused` for a definite no, else `ProviderUnavailable`."""
        try:
            async for attempt in stamina.retry_context(
                on=_worth_another_try, attempts=tries, timeout=READ_SECONDS, wait_initial=0.2, wait_jitter=0.1
            ):
                with attempt:
                    return await self._send("GET", path, Kind.READ, params=params)
        except Refused as refusal:
            if refusal.status != 429:
                raise
            raise ProviderUnavailable(f"circle: {refusal}") from refusal
        except CircleFault as fault:
            raise ProviderUnavailable(f"circle: {fault}") from fault
        raise AssertionError("the last try returns or raises")

    async def find(self, path: str) -> Any | None:
        """The content of one resource, or None where Circle says that there is none."""
        try:
            return (await self.get(path)).data
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise ProviderUnavailable(f"circle: {refusal}") from refusal

    async def pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Any]:
        """The content of each page of a list, one after the other."""
        page: Mapping[str, str] | None = {"pageSize": "50", **params}
        for _ in range(MAX_PAGES):
            try:
                answer = await self.get(path, page)
            except Refused as refusal:
                raise ProviderUnavailable(f"circle: {refusal}") from refusal
            yield answer.data
            if answer.next_page is None:
                return
            page = dict(httpx.URL(answer.next_page).params)
        raise UnreadableAnswer("a list has no end")

    # --- writes -------------------------------------------------------------------------------------------------------

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """One request, never repeated here."""
        return await self._send("POST", path, Kind.WRITE, body=body)

    async def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """One request, never repeated here."""
        return await self._send("PUT", path, Kind.WRITE, body=body)

    async def delete(self, path: str) -> Answer:
        """One request, never repeated here."""
        return await self._send("DELETE", path, Kind.WRITE)

    # --- one request --------------------------------------------------------------------------------------------------

    async def _send(
        self,
        method: str,
        path: str,
        kind: Kind,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        if not await self._budget.spend(kind):
            raise NotSent("our own rate budget is spent")
        started = self._clock.monotonic()
        try:
            reply = await self._http.request(method, path, params=params, json=body)
        except _BEFORE_SENDING as error:
            log.warning("circle.not_sent", product=self._product, method=method, path=path, error=type(error).__name__)
            raise NotSent(f"no connection ({type(error).__name__})") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            log.warning("circle.no_answer", product=self._product, method=method, path=path, error=type(error).__name__)
            raise NoAnswer(f"no answer ({type(error).__name__})") from error
        seconds = self._clock.monotonic() - started
        return self._read(method, path, reply, milliseconds=round(seconds * 1000))

    def _read(self, method: str, path: str, reply: httpx.Response, *, milliseconds: int) -> Answer:
        request_id = reply.headers.get("X-Request-Id", "")[:64]
        facts = {"product": self._product, "method": method, "path": path, "status": reply.status_code}
        facts |= {"request_id": request_id, "ms": milliseconds}
        if 200 <= reply.status_code < 300:
            log.debug("circle.answered", **facts)
            return Answer(reply.status_code, _content(reply), _next_page(reply), request_id)
        fault = _fault(reply, request_id)
        log.warning("circle.refused" if isinstance(fault, Refused) else "circle.failed", reason=str(fault), **facts)
        raise fault


def _content(reply: httpx.Response) -> Any:
    if reply.status_code == 204:
        return None
    body = _json(reply)
    if not isinstance(body, dict):
        # Something else answered, a proxy perhaps; for a write nobody knows what became of it.
        raise NoAnswer("the answer is no JSON object")
    return body.get("data", body)


def _fault(reply: httpx.Response, request_id: str) -> CircleFault:
    body = _json(reply)
    code, message = reply.status_code, ""
    if isinstance(body, dict):
        code = body["code"] if isinstance(body.get("code"), int) else code
        message = f"{redacted(str(body.get('message', '')))} {_places(body.get('errors'))}".strip()
    if reply.status_code == 429:
        # Whoever counts, nothing was executed: also where the body is a proxy's.
        return Refused(429, code, message or "too many requests", retry_after=_retry_after(reply))
    if not 400 <= reply.status_code < 500 or reply.status_code == 408 or code == -1 or not isinstance(body, dict):
        return NoAnswer(f"HTTP {reply.status_code}, code {code}: {message} (request {request_id})")
    return Refused(reply.status_code, code, f"{message} (request {request_id})")


def _json(reply: httpx.Response) -> Any:
    try:
        return from_json(reply.content)
    except ValueError:
        return None


def _places(errors: Any) -> str:
    """Which fields were wrong, without what was in them."""
    if not isinstance(errors, list):
        return ""
    named = [f"{one.get('location')}: {one.get('error')}" for one in errors if isinstance(one, dict)]
    return redacted("; ".join(named)[:200])


def redacted(text: str) -> str:
    """Words of Circle's that may be logged."""
    return _LONG.sub("…", text)[:200]


def _retry_after(reply: httpx.Response) -> timedelta:
    text = reply.headers.get("Retry-After", "")
    asked = timedelta(seconds=int(text)) if text.isdigit() and len(text) < 7 else timedelta(seconds=1)
    return min(asked, LONGEST_PAUSE)


_LINK = re.compile(r"<?(?P<url>[^<>,;\s]+)>?\s*;\s*rel=\"?next\"?")


def _next_page(reply: httpx.Response) -> str | None:
    """The next page. Circle writes the URL with and without angle brackets."""
    found = _LINK.search(reply.headers.get("Link", ""))
    return found["url"] if found else None
