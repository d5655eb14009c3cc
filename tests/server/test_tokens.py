"""Tokens: which are accepted, which are not, and why a caller is told so little about it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from domain.clock import SystemClock
from domain.errors import TokenExpired, TokenInvalid
from server.api.access import Caller, CallerKind
from server.api.tokens import REMEMBERED_TOKENS, TokenVerifier
from server.token_keys import ConfiguredKey, KeySource, KeysUnavailable, KeyUnusable, PublishedKeys

from .conftest import ISSUER, SIGNING_KEY, TOKEN_SECONDS, make_token

CONSUMER = "01890000-0000-7000-8000-000000000abc"
PEM = SIGNING_KEY.as_pem(private=False).decode()


class SettableClock(SystemClock):
    """Time that a test can move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()


def verifier(keys: KeySource | None = None, *, clock: SystemClock | None = None) -> TokenVerifier:
    return TokenVerifier(
        keys or ConfiguredKey.public(PEM),
        audience="monay-wallet",
        issuer=ISSUER,
        leeway_seconds=5,
        clock=clock or SystemClock(),
    )


def consumer_token(**changes: Any) -> str:
    return make_token(**{"sub": CONSUMER, "token_use": "consumer", **changes})


async def refused(token: str, tokens: TokenVerifier | None = None) -> None:
    with pytest.raises(TokenInvalid):
        await (tokens or verifier()).verify(token)


async def test_a_consumers_token_names_its_wallet() -> None:
    caller = await verifier().verify(consumer_token(scope="wallet:read wallet:write"))
    assert (caller.kind, str(caller.consumer_id)) == (CallerKind.CONSUMER, CONSUMER)
    assert caller.scopes == {"wallet:read", "wallet:write"}
    assert caller.name == "consumer"


async def test_a_services_token_names_the_service() -> None:
    caller = await verifier().verify(make_token(sub="payroll", token_use="service"))
    assert (caller.kind, caller.name, caller.consumer_id) == (CallerKind.SERVICE, "service:payroll", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-service"},
        {"aud": None},
        {"aud": []},
        {"iss": "https://somebody.else"},
        {"iss": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"nbf": int(time.time()) + 3_600},
        {"sub": None},
        {"sub": "not-a-uuid"},
        {"sub": 7},
        {"token_use": None},
        {"token_use": "nobody"},
        {"token_use": "administrator"},
        {"scope": 7},
        {"scope": ["wallet:read"]},
    ],
    ids=str,
)
async def test_a_claim_that_is_wrong_or_missing_refuses_the_token(changes: dict[str, Any]) -> None:
    await refused(consumer_token(**changes))


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_no_token_can_speak_for_the_operator_in_a_consumers_place(number: int) -> None:
    """The operator, its fee payer and the outside have fixed ids in the columns where consumers' ids stand."""
    await refused(consumer_token(sub=f"00000000-0000-0000-0000-00000000000{number}"))


async def test_several_audiences_are_fine_if_ours_is_one() -> None:
    await verifier().verify(consumer_token(aud=["other", "monay-wallet"]))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 101, "naïve"])
async def test_a_services_name_is_a_plain_word(name: str) -> None:
    """It becomes part of request keys and log lines."""
    await refused(make_token(sub=name, token_use="service"))


async def test_an_expired_token_says_when_it_ran_out() -> None:
    expired = int(time.time()) - 60
    with pytest.raises(TokenExpired) as caught:
        await verifier().verify(consumer_token(exp=expired))
    assert caught.value.expire_time.timestamp() == expired


async def test_clocks_may_differ_by_the_leeway() -> None:
    await verifier().verify(consumer_token(exp=int(time.time()) - 2))


async def test_a_remembered_token_runs_out_all_the_same() -> None:
    """The cache saves the signature's cost; it must not save the look at the clock."""
    clock = SettableClock()
    tokens = verifier(clock=clock)
    token = consumer_token()
    await tokens.verify(token)
    assert tokens.known(token) is not None
    clock.ahead = timedelta(seconds=2 * TOKEN_SECONDS)
    with pytest.raises(TokenExpired):
        tokens.known(token)


async def test_only_so_many_tokens_are_remembered() -> None:
    """Every login makes a new token; a cache without a bound would be a leak."""
    tokens = verifier()
    first = consumer_token()
    caller = await tokens.verify(first)
    for number in range(REMEMBERED_TOKENS):
        tokens._remember(f"token {number}", caller)
    assert tokens.known(first) is None


# --- the key decides the algorithm --------------------------------------------------------------------------------


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims() -> dict[str, Any]:
    now = int(time.time())
    return {"sub": CONSUMER, "token_use": "consumer", "aud": "monay-wallet", "iss": ISSUER, "exp": now + 60}


@pytest.mark.parametrize("secret", [PEM, PEM.strip(), PEM.encode().hex()])
async def test_a_public_key_is_not_accepted_as_the_secret_of_an_hmac(secret: str) -> None:
    """Algorithm confusion: everybody has the public key, so everybody could sign."""
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims())}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    await refused(f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS384", "RS256", "ES384", "EdDSA"])
async def test_a_header_cannot_choose_another_algorithm(algorithm: str) -> None:
    _, body, signature = consumer_token().split(".")
    await refused(f"{part({'alg': algorithm, 'typ': 'JWT'})}.{body}.{signature}")
    await refused(f"{part({'alg': algorithm})}.{body}.")


async def test_keys_inside_the_token_are_not_looked_at() -> None:
    """A header may carry a key (jwk) or say where one is (jku, x5u): an attacker's own, of course."""
    mallory = ECKey.generate_key("P-256")
    token = make_token(mallory, sub=CONSUMER, token_use="consumer")
    _, body, signature = token.split(".")
    for header in ({"jwk": mallory.as_dict(private=False)}, {"jku": "https://mallory.test/keys"}):
        await refused(f"{part({'alg': 'ES256', **header})}.{body}.{signature}")


async def test_another_key_does_not_sign_for_ours() -> None:
    await refused(make_token(ECKey.generate_key("P-256"), sub=CONSUMER, token_use="consumer"))


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "é.é.é", "x" * 9_000, "e30.e30.e30", f"{part({'alg': 'ES256'})}.{part({})}.AAAA"],
    ids=range(8),
)
async def test_what_is_no_token_is_refused(token: str) -> None:
    await refused(token)


async def test_altered_claims_break_the_signature() -> None:
    header, _, signature = consumer_token().split(".")
    await refused(f"{header}.{part({**claims(), 'scope': 'wallet:write'})}.{signature}")


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(ECKey.generate_key("P-256"), "ES256"), (OKPKey.generate_key("Ed25519"), "EdDSA")],
    ids=["ES256", "EdDSA"],
)
async def test_both_kinds_of_public_key_verify(key: Any, algorithm: str) -> None:
    tokens = verifier(ConfiguredKey.public(key.as_pem(private=False).decode().replace("\n", "\\n")))
    await tokens.verify(make_token(key, alg=algorithm, sub=CONSUMER, token_use="consumer"))


async def test_a_secret_verifies_hs256_only() -> None:
    secret = "a secret of at least thirty-two characters"
    tokens = verifier(ConfiguredKey.secret(secret))
    key = OctKey.import_key(secret)
    await tokens.verify(make_token(key, alg="HS256", sub=CONSUMER, token_use="consumer"))
    await refused(make_token(key, alg="HS512", sub=CONSUMER, token_use="consumer"), tokens)


@pytest.mark.parametrize("key", [ECKey.generate_key("P-384"), RSAKey.generate_key(2048)], ids=["P-384", "RSA"])
def test_other_kinds_of_key_are_not_configured_by_accident(key: Any) -> None:
    with pytest.raises(KeyUnusable):
        ConfiguredKey.public(key.as_pem(private=False).decode())


# --- a published set that rotates ---------------------------------------------------------------------------------


class Issuer:
    """A web server that publishes keys."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps({"keys": issuer.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def publish(self, *keys: Any) -> None:
        self.keys = [key.as_dict(private=False) for key in keys]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


def key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", parameters={"kid": name})


def signed_by(signer: ECKey, **changes: Any) -> str:
    from joserfc import jwt

    return jwt.encode({"alg": "ES256", "kid": signer.kid}, {**claims(), **changes}, signer)


async def test_a_token_is_verified_with_the_key_it_names(issuer: Issuer) -> None:
    old, new = key("old"), key("new")
    issuer.publish(old, new)
    keys = PublishedKeys(issuer.url, clock=SystemClock())
    await keys.load()
    for signer in (old, new):
        assert isinstance(await verifier(keys).verify(signed_by(signer)), Caller)


async def test_a_new_key_is_fetched_when_a_token_first_names_it(issuer: Issuer) -> None:
    """An issuer rotates without telling us; nobody is to be logged out by it."""
    old, new = key("old"), key("new")
    issuer.publish(old)
    clock = SettableClock()
    keys = PublishedKeys(issuer.url, clock=clock)
    await keys.load()
    issuer.publish(old, new)
    clock.ahead = timedelta(seconds=30)
    await verifier(keys, clock=clock).verify(signed_by(new))


async def test_strangers_cannot_make_us_ask_the_issuer_at_will(issuer: Issuer) -> None:
    issuer.publish(key("known"))
    keys = PublishedKeys(issuer.url, clock=SystemClock())
    await keys.load()
    for number in range(5):
        await refused(signed_by(key(f"unknown {number}")), verifier(keys))
    assert issuer.asked == 1


async def test_a_withdrawn_key_ends_the_tokens_remembered_under_it(issuer: Issuer) -> None:
    stolen, fresh = key("stolen"), key("fresh")
    issuer.publish(stolen, fresh)
    keys = PublishedKeys(issuer.url, clock=SystemClock())
    await keys.load()
    tokens = verifier(keys)
    token = signed_by(stolen)
    await tokens.verify(token)
    issuer.publish(fresh)
    await keys.load()
    assert tokens.known(token) is None
    await refused(token, tokens)


async def test_a_key_of_the_same_name_but_other_content_ends_them_too(issuer: Issuer) -> None:
    issuer.publish(key("same"))
    signer = key("same")
    issuer.publish(signer)
    keys = PublishedKeys(issuer.url, clock=SystemClock())
    await keys.load()
    tokens = verifier(keys)
    token = signed_by(signer)
    await tokens.verify(token)
    issuer.publish(key("same"))
    await keys.load()
    assert tokens.known(token) is None


async def test_secrets_and_foreign_kinds_in_a_published_set_are_left_out(issuer: Issuer) -> None:
    """A symmetric key in a public document would let every reader sign."""
    secret = OctKey.import_key("a secret of at least thirty-two characters", {"kid": "secret"})
    issuer.publish(key("good"), RSAKey.generate_key(2048, {"kid": "rsa"}))
    issuer.keys.append(secret.as_dict())
    keys = PublishedKeys(issuer.url, clock=SystemClock())
    await keys.load()
    assert await keys.find("good") is not None
    assert await keys.find("secret") is None
    assert await keys.find("rsa") is None


async def test_an_issuer_that_is_away_keeps_its_last_keys(issuer: Issuer) -> None:
    signer = key("only")
    issuer.publish(signer)
    keys = PublishedKeys(issuer.url, clock=SystemClock())
    await keys.load()
    issuer.keys = [{"not": "a key set"}]
    issuer.close()
    with pytest.raises(KeysUnavailable):
        await keys.load()
    await verifier(keys).verify(signed_by(signer))
