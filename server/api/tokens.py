"""Bearer tokens: from text to `Caller`, verified once and remembered until they run out.

Verifying a signature costs 100 µs, as much as the rest of a call's edge together, so verified tokens are kept by their
text. Their time is checked at each use all the same, and all are forgotten when the issuer's keys change.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwt import JWTClaimsRegistry

from domain.clock import Clock
from domain.errors import TokenExpired, TokenInvalid
from domain.identity import ConsumerId, is_consumer
from server.api.access import Caller, CallerKind
from server.token_keys import KeySource

MAX_TOKEN_LENGTH = 8_192
REMEMBERED_TOKENS = 50_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


class TokenVerifier:
    """Knows which tokens are good."""

    def __init__(
        self, keys: KeySource, *, audience: str, issuer: str | None, leeway_seconds: float, clock: Clock
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._leeway = leeway_seconds
        self._required: dict[str, Any] = {
            "exp": {"essential": True},
            "sub": {"essential": True},
            "aud": {"essential": True, "value": audience},
        }
        if issuer is not None:
            self._required["iss"] = {"essential": True, "value": issuer}
        self._known: dict[str, Caller] = {}
        self._generation = keys.generation

    def known(self, token: str) -> Caller | None:
        """The caller of a token that was verified before and has not run out."""
        caller = self._known.get(token)
        if caller is None or self._generation != self._keys.generation:
            return None
        if caller.expires_at + self._leeway <= self._clock.now().timestamp():
            del self._known[token]
            raise TokenExpired(datetime.fromtimestamp(caller.expires_at, UTC))
        return caller

    async def verify(self, token: str) -> Caller:
        """The caller, or why the token is not accepted."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenInvalid()
        try:
            caller = self._caller(await self._claims(token))
        except (JoseError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise TokenInvalid() from error
        self._remember(token, caller)
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        header = jws.extract_compact(token.encode("ascii")).protected
        key = await self._keys.find(header.get("kid"))
        if key is None:
            raise TokenInvalid()
        # The registry is the key's own: it admits the key's algorithms and no other.
        claims = jwt.decode(token, key.key, registry=key.registry).claims
        try:
            now = int(self._clock.now().timestamp())
            JWTClaimsRegistry(now=now, leeway=int(self._leeway), **self._required).validate(claims)
        except ExpiredTokenError as error:
            raise TokenExpired(datetime.fromtimestamp(claims["exp"], UTC)) from error
        return claims

    def _caller(self, claims: dict[str, Any]) -> Caller:
        kind = CallerKind(claims["token_use"])
        subject, scope, expires_at = claims["sub"], claims.get("scope", ""), float(claims["exp"])
        if kind is CallerKind.NOBODY or not math.isfinite(expires_at) or not isinstance(scope, str):
            raise TokenInvalid()
        scopes = frozenset(scope.split())
        if kind is not CallerKind.CONSUMER:
            if not _NAME.fullmatch(subject):
                raise TokenInvalid()
            return Caller(kind, subject, scopes, expires_at)
        consumer_id = ConsumerId(UUID(subject))
        if not is_consumer(consumer_id):
            raise TokenInvalid()
        return Caller(kind, str(consumer_id), scopes, expires_at, consumer_id)

    def _remember(self, token: str, caller: Caller) -> None:
        if self._generation != self._keys.generation:
            self._known.clear()
            self._generation = self._keys.generation
        if len(self._known) >= REMEMBERED_TOKENS:
            # The oldest goes. It is verified again when it comes back, and nothing else follows from it.
            del self._known[next(iter(self._known))]
        self._known[token] = caller
