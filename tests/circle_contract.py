"""What is said to Circle and by it, compared with sandbox/circle/openapi.yaml.

A request that was carried out has to be one that the contract allows, so that the simulator is not more lenient than
Circle. An answer has to be one that the contract describes, whatever was asked.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

CONTRACT = Path(__file__).parent.parent / "sandbox" / "circle" / "openapi.yaml"
# The servers of Circle's own description of Mint, and of ours.
HOSTS = ("http://127.0.0.1:58080", "https://api-sandbox.circle.com")


@dataclass(kw_only=True)
class Answer:
    status_code: int
    headers: Headers
    data: bytes | None

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


@dataclass(kw_only=True)
class Exchange:
    """One request with its answer, in the shape that openapi-core reads."""

    method: str
    path: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None
    answer: Answer
    host_url: str = HOSTS[0]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path} {(self.body or b'').decode()} -> {self.answer.status_code}"


def exchange_of(told: Mapping[str, Any], *, host_url: str = HOSTS[0]) -> Exchange:
    """Out of what the simulator's admin port tells."""
    headers, answer = Headers(told["headers"]), told["answer"]
    query = ImmutableMultiDict(parse_qsl(told["query"], keep_blank_values=True))
    return Exchange(
        method=told["method"].lower(),
        path=told["path"],
        parameters=RequestParameters(query=query, header=headers),
        content_type=headers.get("content-type", "application/json"),
        body=told["body"].encode() or None,
        host_url=host_url,
        answer=Answer(
            status_code=answer["status"],
            headers=Headers(answer["headers"]),
            data=answer["body"].encode() or None,
        ),
    )


@functools.cache
def our_contract() -> OpenAPI:
    return OpenAPI.from_file_path(str(CONTRACT))


def require_contract(exchanges: Sequence[Exchange], contract: OpenAPI | None = None) -> None:
    """Fail with everything that the contract does not allow."""
    faults = [fault for one in exchanges for fault in faults_of(one, contract or our_contract())]
    assert not faults, "\n".join(faults)


def faults_of(exchange: Exchange, contract: OpenAPI) -> list[str]:
    """What is wrong with it, in words."""
    # Amazon's part, and paths that are nobody's.
    if exchange.path.startswith("/sns/") or _is_unknown(exchange):
        return []
    faults: list[str] = []
    if exchange.answer.status_code < 400:
        faults += [_words("request", exchange, error) for error in contract.iter_request_errors(exchange)]
    answers = contract.iter_response_errors(exchange, exchange.answer)
    return faults + [_words("answer", exchange, error) for error in answers]


def _is_unknown(exchange: Exchange) -> bool:
    return exchange.answer.status_code in (404, 405) and b"Resource not found" in (exchange.answer.data or b"")


def _words(part: str, exchange: Exchange, error: Exception) -> str:
    # The reasons of a schema's error are in what caused it.
    causes = getattr(error.__cause__, "schema_errors", None) or [error.__cause__ or error]
    reasons = "; ".join(str(cause).partition("\n")[0] for cause in causes)
    assert isinstance(error, OpenAPIError)
    return f"{part} of {exchange}: {reasons}"
