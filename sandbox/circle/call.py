"""One request, as those see it who answer it, and their answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel

from sandbox.circle.clock import milliseconds
from sandbox.circle.queries import PageQuery
from sandbox.circle.refusals import Refusal
from sandbox.circle.simulator import Simulator
from sandbox.circle.store import Listed, Page, UnknownCursor, public

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Call:
    # The URL without its query, and the query's parameters as they came.
    url: str
    parameters: Sequence[tuple[str, str]]
    id: str = ""
    body: BaseModel | None = None
    query: BaseModel | None = None

    def body_of(self, model: type[Model]) -> Model:
        assert isinstance(self.body, model)
        return self.body

    def query_of(self, model: type[Model]) -> Model:
        assert isinstance(self.query, model)
        return self.query


@dataclass(frozen=True)
class Answer:
    """`data`, or nothing at all."""

    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


def listing(
    simulator: Simulator,
    call: Call,
    kind: str,
    query: PageQuery,
    filters: Mapping[str, str | Sequence[str] | None],
    *,
    under: str | None = None,
) -> Answer:
    """One page of a list. Wallets put it under a name and links without brackets, Mint does neither."""
    wanted = {
        name: [value] if isinstance(value, str) else value for name, value in filters.items() if value is not None
    }
    page = Page(
        size=query.page_size or (10 if under else 50),
        after=query.page_after,
        before=query.page_before,
        since=milliseconds(query.from_) if query.from_ else None,
        until=milliseconds(query.to) if query.to else None,
        ascending=query.ascending,
    )
    if page.after and page.before:
        raise Refusal(400, 156014, "pageBefore and pageAfter exclude each other")
    try:
        listed = simulator.store.page(kind, page, wanted)
    except UnknownCursor:
        raise Refusal(400, 156012, "The cursor is not valid") from None
    bodies = [public(body) for body in listed.bodies]
    links = _links(call, listed)
    shown = [f"{url}; rel={name}" if under else f'<{url}>; rel="{name}"' for name, url in links.items()]
    return Answer({under: bodies} if under else bodies, headers={"Link": ", ".join(shown)})


def _links(call: Call, listed: Listed) -> dict[str, str]:
    fixed = [(name, value) for name, value in call.parameters if name not in ("pageAfter", "pageBefore")]

    def url(*more: tuple[str, str]) -> str:
        query = urlencode([*fixed, *more])
        return f"{call.url}?{query}" if query else call.url

    links = {"self": url(*(pair for pair in call.parameters if pair not in fixed)), "first": url()}
    if listed.bodies and listed.more_after:
        links["next"] = url(("pageAfter", listed.bodies[-1]["id"]))
    if listed.bodies and listed.more_before:
        links["prev"] = url(("pageBefore", listed.bodies[0]["id"]))
    return links
