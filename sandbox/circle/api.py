"""Circle's side of the simulator: from an HTTP request to the operation that answers it.

In this order: faults that come first, the key, the rate limit, the body, the entity secret, the idempotency key, the
operation with its one database transaction, faults that come after.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any, get_args, get_origin
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.circle import subscriptions
from sandbox.circle.bodies import Keyed, Signed
from sandbox.circle.call import Answer, Call
from sandbox.circle.network import FaultyNetwork
from sandbox.circle.operations import OPERATIONS, PING, Operation
from sandbox.circle.refusals import Refusal, invalid_fields
from sandbox.circle.simulator import Simulator
from sandbox.circle.sns import CERTIFICATE_NAME
from sandbox.circle.store import Body

_CREDENTIALS = re.compile(r"Bearer ([A-Z]+_API_KEY:[^:\s]+:[^:\s]+)")


class Api:
    """The application that listens where Circle would."""

    def __init__(self, simulator: Simulator, *, record: bool = False) -> None:
        self._simulator = simulator
        sns = [
            Route(f"/sns/{CERTIFICATE_NAME}", self._certificate),
            Route("/sns/", self._confirm_subscription),
        ]
        routes = [*(self._route(operation) for operation in OPERATIONS), *sns]
        handlers = {404: self._unknown, 405: self._unknown}
        self.app = FaultyNetwork(Starlette(routes=routes, exception_handlers=handlers), simulator.faults, record=record)

    def _route(self, operation: Operation) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                answer = await self._answer(operation, request)
            except Refusal as refusal:
                return refused(refusal, request)
            return answered(answer, request, wrapped=operation is not PING)

        return Route(operation.path, endpoint, methods=[operation.method])

    async def _answer(self, operation: Operation, request: Request) -> Answer:
        self._authenticate(operation, request)
        call = await _call(operation, request)
        if isinstance(call.body, Signed):
            self._spend_ciphertext(call.body.entity_secret_ciphertext)
        if operation.prepare:
            await operation.prepare(self._simulator, call)
        # States that were due by now are entered before anybody looks at them.
        self._simulator.schedule.run_due()
        with self._simulator.store.transaction():
            if operation.handle:
                return operation.handle(self._simulator, call)
            return self._once(operation, call)

    def _authenticate(self, operation: Operation, request: Request) -> None:
        if operation.product == "both":
            return
        found = _CREDENTIALS.fullmatch(request.headers.get("Authorization", ""))
        if not found:
            raise Refusal(401, 401, "Malformed authorization. Are the credentials properly encoded?")
        credentials = self._simulator.credentials
        expected = credentials.wallets_key if operation.product == "wallets" else credentials.mint_key
        if not hmac.compare_digest(found[1].encode(), expected.encode()):
            raise Refusal(401, 156007 if operation.product == "wallets" else 401, "Invalid credentials.")
        self._simulator.limits.take(expected, per_second=operation.per_second)

    def _spend_ciphertext(self, ciphertext: str) -> None:
        """Whatever comes of the request, its ciphertext is used up."""
        secret = self._simulator.keys.entity_secret(ciphertext)
        if secret is None or not hmac.compare_digest(secret.hex(), self._simulator.credentials.entity_secret.hex()):
            raise Refusal(400, 156013, "The provided entity secret is invalid")
        digest = hashlib.sha256(ciphertext.encode()).hexdigest()
        spent = self._simulator.store.execute("INSERT OR IGNORE INTO ciphertexts VALUES (?)", digest)
        if not spent.rowcount:
            raise Refusal(400, 156004, "The entity secret ciphertext was used before")

    def _once(self, operation: Operation, call: Call) -> Answer:
        assert operation.create and operation.render and isinstance(call.body, Keyed)
        key, digest = call.body.idempotency_key.lower(), _digest(operation, call)
        store = self._simulator.store
        known = store.execute(
            "SELECT digest, ids FROM requests WHERE product = ? AND key = ?", operation.product, key
        ).fetchone()
        if known and known["digest"] != digest:
            raise _other_request(operation)
        if known:
            status = 200 if operation.product == "wallets" else operation.created_status
            return _with_status(operation.render(self._simulator, json.loads(known["ids"])), status)
        ids = operation.create(self._simulator, call)
        store.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", operation.product, key, digest, json.dumps(ids))
        return _with_status(operation.render(self._simulator, ids), operation.created_status)

    # What is Amazon's, not Circle's.

    async def _certificate(self, _request: Request) -> Response:
        return Response(self._simulator.keys.certificate_pem, media_type="application/x-pem-file")

    async def _confirm_subscription(self, request: Request) -> Response:
        with self._simulator.store.transaction():
            confirmed = subscriptions.confirm(self._simulator, request.query_params.get("Token", ""))
        answer = "ConfirmSubscriptionResponse" if confirmed else "ErrorResponse"
        return PlainTextResponse(f"<{answer}/>", status_code=200 if confirmed else 400, media_type="text/xml")

    async def _unknown(self, request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        response = refused(Refusal(status, status, "Resource not found"), request)
        allowed = getattr(error, "headers", None)
        response.headers.update(allowed or {})
        return response


async def _call(operation: Operation, request: Request) -> Call:
    resource_id = str(request.path_params.get("id", ""))
    if "id" in request.path_params:
        _require_uuid(resource_id)
    return Call(
        url=str(request.url.replace(query="")),
        parameters=request.query_params.multi_items(),
        id=resource_id.lower(),
        body=_parsed(operation.body, await _json(request)) if operation.body else None,
        query=_parsed(operation.query, _query(operation.query, request)),
    )


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refusal(400, 2, "There is an error in the JSON format passed in the request") from None


def _query(model: type[BaseModel], request: Request) -> Body:
    """Each parameter once, those that are lists as often as they were given."""
    names = {field.alias or name: field for name, field in model.model_fields.items()}
    found: Body = {}
    for name, value in request.query_params.multi_items():
        if name in names and any(get_origin(part) is list for part in get_args(names[name].annotation)):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def _parsed(model: type[BaseModel], given: Any) -> BaseModel:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid_fields(error.errors()) from None


def _require_uuid(text: str) -> None:
    try:
        canonical = str(UUID(text))
    except ValueError:
        canonical = ""
    if canonical != text.lower():
        raise Refusal(400, 2, "Fail to bind request to parameter: invalid UUID format")


def _digest(operation: Operation, call: Call) -> str:
    assert isinstance(call.body, Keyed)
    compared = json.dumps([operation.path, call.id, call.body.compared()], sort_keys=True)
    return hashlib.sha256(compared.encode()).hexdigest()


def _other_request(operation: Operation) -> Refusal:
    if operation.product == "wallets":
        return Refusal(403, 156020, "Use a new idempotency key: this one was used for another request")
    return Refusal(409, 1083, "The idempotency key is bound to another request")


def _with_status(answer: Answer, status: int) -> Answer:
    return Answer(answer.data, answer.headers, status)


def answered(answer: Answer, request: Request, *, wrapped: bool) -> Response:
    headers = {**answer.headers, "X-Request-Id": request_id(request)}
    if answer.status == 204:
        return Response(status_code=204, headers=headers)
    bare = not wrapped or answer.data == {}
    return JSONResponse(answer.data if bare else {"data": answer.data}, answer.status, headers)


def refused(refusal: Refusal, request: Request) -> Response:
    headers = {"X-Request-Id": request_id(request)}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return JSONResponse(refusal.body, refusal.status, headers)


def request_id(request: Request) -> str:
    """The client's own, or a new one: the only thing here that is random."""
    return request.headers.get("X-Request-Id") or str(uuid4())
