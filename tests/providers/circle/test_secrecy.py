"""What must never be seen: keys, the entity secret and its ciphertexts, and what people wrote about their bank."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from providers.base import Rejected
from providers.circle import CircleConfig, CircleRail, connect
from providers.circle.client import redacted
from providers.custodian import BankLinkOrder, CustodyWallet, order_key
from tests.circle import API_KEY, ENTITY_SECRET, MINT_API_KEY, CircleSandbox

from .conftest import CLOCK, ENTROPY, Wire, consumer_wallet, order
from .test_mint import AMERICAN

SECRETS = (API_KEY, MINT_API_KEY, ENTITY_SECRET, bytes.fromhex(ENTITY_SECRET).decode("latin-1"))


def test_nothing_that_holds_a_secret_shows_it(config: CircleConfig) -> None:
    rail = connect(config, clock=CLOCK)
    shown = " ".join(
        [repr(config), str(config), repr(rail), *(repr(client) for client in rail.clients), repr(rail.wallets.__dict__)]
    )
    for secret in (*SECRETS, repr(bytes.fromhex(ENTITY_SECRET))):
        assert secret not in shown


async def test_no_log_line_holds_a_secret_or_what_was_sent(
    circle: CircleSandbox, rail: CircleRail, operator_wallet: CustodyWallet, wire: Wire
) -> None:
    """Successes, refusals and faults alike; the request's id is in each of them, for Circle's support."""
    with capture_logs() as lines:
        recipient = await consumer_wallet(rail)
        await rail.wallets.start(order(operator_wallet, recipient.address))
        await rail.wallets.start(order(recipient, operator_wallet.address))
        circle.set_fault("error", method="POST", path="transfer", status=401, code=401, message=f"key {API_KEY}?")
        await rail.wallets.start(order(operator_wallet, recipient.address))
    assert {line["event"] for line in lines} >= {"circle.answered", "circle.refused"}
    assert all(line["request_id"] for line in lines if "request_id" in line)
    ciphertexts = [body["entitySecretCiphertext"] for body in wire.bodies("/v1/w3s/developer/transactions/transfer")]
    for secret in (*SECRETS, *ciphertexts):
        assert secret not in repr(lines)


async def test_a_refusal_names_the_field_and_not_its_content(rail: CircleRail) -> None:
    """Circle repeats a wrong value in its answer, and a wrong account number is still somebody's."""
    assert rail.mint is not None
    wrong = replace(AMERICAN, routing_number="12345")
    with capture_logs() as lines:
        outcome = await rail.mint.link(BankLinkOrder(key=order_key(ENTROPY), details=wrong))
    assert isinstance(outcome, Rejected)
    assert "routingNumber" in outcome.reason
    for personal in (AMERICAN.account_number, "12345", AMERICAN.holder_name, AMERICAN.line1):
        assert personal not in outcome.reason + repr(lines)


@pytest.mark.parametrize(
    "text",
    ["account 1234567 is closed", "Bearer TEST_API_KEY:0123456789abcdef:secret", "x" * 684, "DE89370400440532013000"],
)
def test_long_numbers_and_long_words_are_left_out(text: str) -> None:
    assert max(len(word) for word in redacted(text).replace("…", " ").split() or [""]) < 24
    assert "1234567" not in redacted(text)
