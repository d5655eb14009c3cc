"""What becomes of requests: sent or not, answered or not, refused or not, and nothing in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.money import Asset
from providers.base import OutcomeUnknown, ProviderUnavailable, Rejected, Retryable
from providers.circle import CircleConfig, CircleRail, EventRules, connect, known_tokens
from providers.circle.client import NoAnswer, NotSent, Refused
from providers.circle.outcomes import outcome_of
from providers.custodian import CustodyWallet, OrderState

from .conftest import CHAIN, CLOCK, order

SOURCE = CustodyWallet("11111111-1111-4111-8111-111111111111", "0x" + "11" * 20)
ELSEWHERE = "0x" + "ab" * 20
SECRET = bytes(range(32))
SOMEBODY = UUID(int=7)


class Scripted(httpx.AsyncBaseTransport):
    """Answers that no simulator gives: those of proxies, of other versions, of nobody."""

    def __init__(self, answer: httpx.Response | Exception, *, key: str) -> None:
        self.answer = answer
        self.key = key
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/publicKey"):
            return httpx.Response(200, json={"data": {"publicKey": self.key}})
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(scope="module")
def public_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    # Circle's own, around the same bytes.
    return pem.replace("PUBLIC KEY", "RSA PUBLIC KEY")


def scripted(answer: httpx.Response | Exception, public_key: str) -> tuple[CircleRail, Scripted]:
    transport = Scripted(answer, key=public_key)
    config = CircleConfig(
        wallets_url="https://circle.test",
        mint_url="https://circle.test",
        api_key="TEST_API_KEY:id:secret",
        entity_secret=SECRET,
        wallet_set="22222222-2222-4222-8222-222222222222",
        chain=CHAIN,
        tokens=known_tokens(CHAIN),
        events=EventRules(),
        transport=transport,
    )
    return connect(config, clock=CLOCK), transport


UNKNOWN: dict[str, httpx.Response | Exception] = {
    "a server error": httpx.Response(500, json={"code": -1, "message": "Something went wrong"}),
    "a gateway's page": httpx.Response(502, text="<html>Bad Gateway</html>"),
    "code -1 with any status": httpx.Response(400, json={"code": -1, "message": "?"}),
    "a refusal that is not Circle's": httpx.Response(404, text="<html>nginx</html>"),
    "a redirect": httpx.Response(302, headers={"Location": "https://elsewhere.test"}),
    "success without a body": httpx.Response(201, text=""),
    "success without an id": httpx.Response(201, json={"data": {"state": "INITIATED"}}),
    "an id that is a path": httpx.Response(201, json={"data": {"id": "../../x", "state": "INITIATED"}}),
    "silence": httpx.ReadTimeout("timed out"),
    "a cut connection": httpx.ReadError("reset"),
    "half an answer": httpx.RemoteProtocolError("peer closed"),
    "a conflict": httpx.Response(409, json={"code": 409, "message": "conflict"}),
    "a key bound to another request": httpx.Response(403, json={"code": 156020, "message": "use a new key"}),
}


@pytest.mark.parametrize("answer", UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_whatever_leaves_it_open_if_the_order_was_executed_is_unknown(
    answer: httpx.Response | Exception, public_key: str
) -> None:
    """Taking any of these for a no, and paying another way, would pay twice."""
    rail, transport = scripted(answer, public_key)
    assert isinstance(await rail.wallets.start(order(SOURCE, ELSEWHERE)), OutcomeUnknown)
    assert len(transport.asked) == 1, "one request, and whoever repeats it repeats it with the same key"
    assert all(request.url.host == "circle.test" for request in transport.asked)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ConnectTimeout("t"), httpx.PoolTimeout("t")])
async def test_what_never_left_may_be_tried_again(error: Exception, public_key: str) -> None:
    rail, _ = scripted(error, public_key)
    assert isinstance(await rail.wallets.start(order(SOURCE, ELSEWHERE)), Retryable)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (NotSent("no connection"), Retryable),
        (NoAnswer("no answer"), OutcomeUnknown),
        (Refused(429, 429, ""), Retryable),
        (Refused(401, 401, ""), Retryable),
        (Refused(403, 3, ""), Retryable),
        (Refused(400, 156004, ""), Retryable),
        (Refused(400, 156013, ""), Retryable),
        (Refused(400, 155264, ""), Retryable),
        (Refused(400, 155201, ""), Retryable),
        (Refused(409, 155501, ""), Retryable),
        (Refused(409, 1083, ""), OutcomeUnknown),
        (Refused(403, 156020, ""), OutcomeUnknown),
        (Refused(400, 155204, ""), Rejected),
        (Refused(400, 1093, ""), Rejected),
        (Refused(404, 156001, ""), Rejected),
        (Refused(400, 2, ""), Rejected),
    ],
    ids=str,
)
def test_there_are_exactly_three_outcomes(fault: Any, outcome: type) -> None:
    """A refusal of us, or of the moment, is no refusal of the order."""
    assert type(outcome_of(fault)) is outcome


async def test_unknown_values_crash_nothing(public_key: str) -> None:
    """Circle adds states, chains and fields; each of them once stopped somebody's wallet."""
    given = order(SOURCE, ELSEWHERE)
    transaction = {
        "id": "33333333-3333-4333-8333-333333333333",
        "state": "TELEPORTING",
        "transactionType": "OUTBOUND",
        "walletId": SOURCE.reference,
        "destinationAddress": ELSEWHERE,
        "amounts": ["1"],
        "refId": f"{given.item_id}:{given.key}",
        "blockchain": "NEWCHAIN",
        "tokenId": "of a new kind",
        "somethingNew": {"deeply": ["nested"]},
    }
    answer = httpx.Response(200, json={"data": {"transaction": transaction}})
    rail, _ = scripted(answer, public_key)
    seen = await rail.wallets.observe(given, transaction["id"])  # type: ignore[arg-type]
    assert seen.state is OrderState.UNRECOGNISED


@pytest.mark.parametrize(
    "body", [{}, {"data": None}, {"data": []}, {"data": {"tokenBalances": [{}]}}, {"data": {"tokenBalances": "many"}}]
)
async def test_an_answer_that_cannot_be_read_proves_nothing(body: Any, public_key: str) -> None:
    rail, _ = scripted(httpx.Response(200, json=body), public_key)
    with pytest.raises(ProviderUnavailable):
        await rail.wallets.positions(SOURCE)


@pytest.mark.parametrize(
    "link", ['<https://circle.test/next?pageAfter=abc>; rel="next"', "https://circle.test/next?pageAfter=abc; rel=next"]
)
async def test_the_next_page_is_found_with_and_without_angle_brackets(link: str, public_key: str) -> None:
    """Circle's documentation writes both. The page's host is left aside: the key goes to Circle only."""
    first = httpx.Response(200, json={"data": {"wallets": []}}, headers={"Link": link})
    rail, transport = scripted(first, public_key)

    async def handle(request: httpx.Request) -> httpx.Response:
        transport.asked.append(request)
        return first if len(transport.asked) == 1 else httpx.Response(200, json={"data": {"wallets": []}})

    transport.handle_async_request = handle  # type: ignore[method-assign]
    assert await rail.wallets.labelled(SOMEBODY) is None
    assert transport.asked[1].url.params["pageAfter"] == "abc"


async def test_a_rejection_of_a_changed_entity_secret_reads_circles_key_anew(config: CircleConfig) -> None:
    """The key may have been rotated at Circle while this process ran."""
    rail = connect(replace(config, entity_secret=bytes(32)), clock=CLOCK)
    outcome = await rail.wallets.start(order(SOURCE, ELSEWHERE))
    assert isinstance(outcome, Retryable), "our secret is wrong, and the order is not at fault"
    await rail.close()


def test_only_what_the_chain_carries_is_offered(config: CircleConfig) -> None:
    assert connect(config, clock=CLOCK).wallets.assets == {Asset.USDC, Asset.EURC}


async def test_a_check_is_not_waited_for_as_long_as_an_order(public_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A health row that is written too seldom is an old one, and says nothing."""
    rail, transport = scripted(httpx.Response(200, json={"data": {"appId": "x"}}), public_key)

    async def hang(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")

    monkeypatch.setattr(transport, "handle_async_request", hang)
    monkeypatch.setattr("providers.circle.client.CHECK_SECONDS", 0.1)
    outcome = await rail.check()
    assert isinstance(outcome, Retryable)
