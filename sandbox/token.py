"""`make token`: development tokens, signed with the key under .data/keys that `make run` tells the server to trust.

make token CONSUMER=0190…                 that consumer, reading and writing
make token SERVICE=backend                a backend that acts for any consumer
make token OPERATOR=alice                 a person who runs the wallet
make token SERVICE=reports SCOPE="wallet:read"
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.jwk import ECKey

from sandbox.endpoints import data_folder
from sandbox.keys import DevelopmentKeys

ALL_SERVICE_SCOPES = "wallet:read wallet:write consumers:onboard"
SCOPES = {
    "consumer": "wallet:read wallet:write",
    "service": ALL_SERVICE_SCOPES,
    "operator": "operations:read operations:write",
}
DEFAULT_HOURS = 24 * 30


@dataclass(frozen=True)
class Claims:
    """Whom a token speaks for, and what it may do."""

    subject: str
    token_use: str
    scope: str
    seconds: int = DEFAULT_HOURS * 3600


def development_token(keys: DevelopmentKeys, claims: Claims) -> str:
    """Sign a token that the server of `make run` accepts."""
    now = int(time.time())
    body = {
        "sub": claims.subject,
        "token_use": claims.token_use,
        "scope": claims.scope,
        "aud": os.environ.get("JWT_AUDIENCE") or "monay-wallet",
        "iat": now,
        "exp": now + claims.seconds,
        "jti": str(uuid4()),
    }
    issuer = os.environ.get("JWT_ISSUER")
    if issuer:
        body["iss"] = issuer
    return jwt.encode({"alg": "ES256"}, body, ECKey.import_key(keys.jwt_private))


def main() -> int:
    """Print one token."""
    parser = argparse.ArgumentParser(prog="make token", description="A development token for the wallet of `make run`.")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--consumer", type=UUID, metavar="ID", help="a consumer's own token")
    whose.add_argument("--service", metavar="NAME", help="a backend's token; the default, named sandbox")
    whose.add_argument("--operator", metavar="NAME", help="an operator's token")
    parser.add_argument("--scope", help="space separated; all that fit by default")
    parser.add_argument("--hours", type=float, default=DEFAULT_HOURS, help="how long it is valid")
    options = parser.parse_args()
    use = "consumer" if options.consumer else "operator" if options.operator else "service"
    subject = str(options.consumer or options.operator or options.service or "sandbox")
    claims = Claims(subject, use, options.scope or SCOPES[use], seconds=int(options.hours * 3600))
    print(development_token(DevelopmentKeys(data_folder() / "keys"), claims))
    return 0


if __name__ == "__main__":
    sys.exit(main())
