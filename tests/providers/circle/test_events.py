"""Webhooks of Circle's: believed when they are signed by whom they should be, fresh, and about something; else refused.

Signatures here are made with keys of our own. That our judgement is the rest of the world's, too, is shown by Circle's
published example, and by the simulator, whose signatures Amazon's own library has accepted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from domain.clock import SystemClock
from providers.base import ProviderUnavailable
from providers.circle import EventRules, connect
from providers.circle.keys import FETCHES_A_MINUTE
from providers.events import EventRefused, ProviderEvent, RefusalCause
from tests.providers.worlds import ManualClock

from .senders import CONFIRMING_URL, ENTITY, EVENT, KEY_ID, TRANSACTION, Senders

GOLDEN = Path(__file__).parents[4] / "shared" / "data" / "golden-webhook-v2.json"


@pytest.fixture
def world() -> Senders:
    return Senders()


async def refused(judging: Any) -> RefusalCause:
    with pytest.raises(EventRefused) as caught:
        await judging
    return caught.value.cause


# --- Wallets ----------------------------------------------------------------------------------------------------------


async def test_a_signed_event_names_what_to_look_at_and_nothing_else(world: Senders) -> None:
    body = world.wallets_event()
    event = await world.events.wallets.verify(world.wallets_headers(body), body)
    assert event == ProviderEvent(
        id=f"circle:wallets:{EVENT}",
        source="circle",
        subject="transaction",
        reference=TRANSACTION,
        occurred_at=event.occurred_at,
    )
    assert event.occurred_at == world.clock.now() + timedelta(microseconds=779834)


async def test_the_published_example_is_verified_on_its_raw_bytes() -> None:
    """Written again by a JSON library it would not be: that is how samples of Circle's own came to fail."""
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN.name} is not here")
    golden = json.loads(GOLDEN.read_text())
    world = Senders()
    world.circle.keys[golden["keyId"]] = golden["publicKey"]
    world.clock.advance((datetime(2024, 1, 26, 18, 23, tzinfo=UTC) - world.clock.now()).total_seconds())
    headers = {"x-circle-key-id": golden["keyId"], "x-circle-signature": golden["signature"]}
    event = await world.events.wallets.verify(headers, golden["rawBody"].encode())
    assert (event.subject, event.reference) == ("", ""), "a test event is about nothing"
    for changed in (json.dumps(json.loads(golden["rawBody"])), golden["rawBody"] + " "):
        assert await refused(world.events.wallets.verify(headers, changed.encode())) is RefusalCause.FORGED


async def test_another_key_or_another_body_is_a_forgery(world: Senders) -> None:
    body = world.wallets_event()
    stranger = world.wallets_headers(body, key=ec.generate_private_key(ec.SECP256R1()))
    assert await refused(world.events.wallets.verify(stranger, body)) is RefusalCause.FORGED
    honest = world.wallets_headers(body)
    changed = body.replace(TRANSACTION.encode(), EVENT.encode())
    assert await refused(world.events.wallets.verify(honest, changed)) is RefusalCause.FORGED


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", base64.b64encode(b"x" * 70).decode()])
async def test_a_signature_that_is_none_is_a_forgery(world: Senders, signature: str) -> None:
    body = world.wallets_event()
    headers = {**world.wallets_headers(body), "x-circle-signature": signature}
    assert await refused(world.events.wallets.verify(headers, body)) is RefusalCause.FORGED


@pytest.mark.parametrize("key_id", ["", "x", "../../v1/w3s/wallets", KEY_ID + "/..", "?"])
async def test_what_is_no_keys_name_is_asked_of_nobody(world: Senders, key_id: str) -> None:
    """A header of a stranger's becomes part of a path that is asked for with our key."""
    body = world.wallets_event()
    headers = {**world.wallets_headers(body), "x-circle-key-id": key_id}
    assert await refused(world.events.wallets.verify(headers, body)) is RefusalCause.MALFORMED
    assert world.circle.asked == []


async def test_a_key_is_asked_for_once(world: Senders) -> None:
    body = world.wallets_event()
    for _ in range(3):
        await world.events.wallets.verify(world.wallets_headers(body), body)
    assert len(world.circle.asked) == 1


async def test_keys_that_nobody_has_are_not_asked_for_without_end(world: Senders) -> None:
    """Each costs a request of the budget that settlements need. Beyond the bound, the sender may try again."""
    body = world.wallets_event()

    def headers(number: int) -> dict[str, str]:
        return {**world.wallets_headers(body), "x-circle-key-id": f"{number:08d}-0000-4000-8000-000000000000"}

    for number in range(FETCHES_A_MINUTE):
        assert await refused(world.events.wallets.verify(headers(number), body)) is RefusalCause.FORGED
    with pytest.raises(ProviderUnavailable):
        await world.events.wallets.verify(headers(999), body)
    assert len(world.circle.asked) == FETCHES_A_MINUTE
    world.clock.advance(61)
    await world.events.wallets.verify(world.wallets_headers(body), body)


async def test_without_circle_there_is_no_verdict(world: Senders) -> None:
    """Refusing would make the sender give up on a genuine event."""
    world.circle.away = True
    body = world.wallets_event()
    with pytest.raises(ProviderUnavailable):
        await world.events.wallets.verify(world.wallets_headers(body), body)


async def test_an_event_of_last_week_is_stale_and_one_of_yesterday_is_not(world: Senders) -> None:
    """Circle goes on trying for a day and a half."""
    body = world.wallets_event()
    world.clock.advance(36 * 3_600)
    await world.events.wallets.verify(world.wallets_headers(body), body)
    world.clock.advance(24 * 3_600)
    assert await refused(world.events.wallets.verify(world.wallets_headers(body), body)) is RefusalCause.STALE


@pytest.mark.parametrize(
    "changes",
    [
        {"notificationId": "1"},
        {"notificationId": None},
        {"timestamp": "yesterday"},
        {"timestamp": None},
        {"notification": {"id": "../x"}},
        {"notification": {}},
        {"notification": []},
    ],
    ids=str,
)
async def test_a_signed_event_without_what_it_needs_is_malformed(world: Senders, changes: dict[str, Any]) -> None:
    body = world.wallets_event(**changes)
    assert await refused(world.events.wallets.verify(world.wallets_headers(body), body)) is RefusalCause.MALFORMED


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b"[" * 100_000])
async def test_signed_nonsense_is_malformed(world: Senders, body: bytes) -> None:
    assert await refused(world.events.wallets.verify(world.wallets_headers(body), body)) is RefusalCause.MALFORMED


async def test_kinds_of_events_that_we_do_not_know_are_about_nothing(world: Senders) -> None:
    body = world.wallets_event(notificationType="weather.changed", notification={"temperature": 20})
    event = await world.events.wallets.verify(world.wallets_headers(body), body)
    assert (event.subject, event.reference) == ("", "")


# --- Mint -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_notification_of_mint_names_what_to_look_at(world: Senders, version: str) -> None:
    event = await world.events.mint.verify({}, world.mint_event(SignatureVersion=version))
    assert (event.id, event.subject, event.reference) == (f"circle:mint:{EVENT}", "payout", TRANSACTION)


@pytest.mark.parametrize(
    ("said", "subject"),
    [
        ({"notificationType": "deposits", "deposit": {"id": TRANSACTION}}, "deposit"),
        ({"notificationType": "wire", "wire": {"id": TRANSACTION}}, "bank_link"),
        ({"notificationType": "returns", "return": {"id": EVENT, "payoutId": TRANSACTION}}, "payout"),
    ],
    ids=["deposit", "wire", "return"],
)
async def test_each_resource_of_mint_has_its_subject(world: Senders, said: dict[str, Any], subject: str) -> None:
    event = await world.events.mint.verify({}, world.mint_event({"clientId": ENTITY, **said}))
    assert (event.subject, event.reference) == (subject, TRANSACTION)


async def test_a_subject_line_is_part_of_what_is_signed(world: Senders) -> None:
    body = world.mint_event(Subject="News")
    await world.events.mint.verify({}, body)
    assert await refused(world.events.mint.verify({}, body.replace(b"News", b"Lies"))) is RefusalCause.FORGED


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.us-west-2.amazonaws.com.evil.test/c.pem",
        "https://evil.test/sns.us-west-2.amazonaws.com/c.pem",
        "http://sns.us-west-2.amazonaws.com/c.pem",
        "https://sns.us-west-2.amazonaws.com@evil.test/c.pem",
        "https://sns.us-west-2.amazonaws.com:444/c.pem",
        "https://s3.us-west-2.amazonaws.com/c.pem",
        "https://sns.us-west-2.amazonaws.com/c.txt",
        "https://sns.us-west-2.amazonaws.com:port/c.pem",
        "http://169.254.169.254/c.pem",
        "file:///etc/passwd.pem",
        "",
    ],
)
async def test_certificates_come_from_amazon_and_from_nowhere_else(world: Senders, url: str) -> None:
    """The signature would be right: with the key of a certificate that the sender has made."""
    assert await refused(world.events.mint.verify({}, world.mint_event(SigningCertURL=url))) is RefusalCause.FORGED
    assert world.amazon_asked == []


async def test_a_topic_that_circle_does_not_name_is_refused_before_anything_is_fetched(world: Senders) -> None:
    """Everybody has a topic at Amazon, with Amazon's signature."""
    body = world.mint_event(TopicArn="arn:aws:sns:us-west-2:666666666666:evil")
    assert await refused(world.events.mint.verify({}, body)) is RefusalCause.FORGED
    assert world.amazon_asked == []


@pytest.mark.parametrize("field", ["Message", "MessageId", "Timestamp", "Type"])
async def test_a_changed_envelope_is_a_forgery(world: Senders, field: str) -> None:
    envelope = json.loads(world.mint_event())
    other = {
        "Message": json.dumps({"clientId": ENTITY, "notificationType": "payouts", "payout": {"id": EVENT}}),
        "MessageId": TRANSACTION,
        "Timestamp": (world.clock.now() + timedelta(seconds=1)).isoformat(),
        "Type": "UnsubscribeConfirmation",
    }
    forged = {**envelope, field: other[field], "SubscribeURL": CONFIRMING_URL, "Token": "abc"}
    assert await refused(world.events.mint.verify({}, json.dumps(forged).encode())) is RefusalCause.FORGED


async def test_a_certificate_that_has_expired_signs_nothing(world: Senders) -> None:
    world.clock.advance(31 * 86_400)
    assert await refused(world.events.mint.verify({}, world.mint_event())) is RefusalCause.FORGED


async def test_what_was_said_more_than_an_hour_ago_is_stale(world: Senders) -> None:
    """SNS has given up by then; whoever sends it now is somebody else."""
    body = world.mint_event()
    world.clock.advance(3_599)
    await world.events.mint.verify({}, body)
    world.clock.advance(2)
    assert await refused(world.events.mint.verify({}, body)) is RefusalCause.STALE


async def test_an_event_about_another_entity_is_refused(world: Senders) -> None:
    """The topic is shared by all of Circle's customers."""
    body = world.mint_event({"clientId": EVENT, "notificationType": "payouts", "payout": {"id": TRANSACTION}})
    assert await refused(world.events.mint.verify({}, body)) is RefusalCause.FORGED


@pytest.mark.parametrize(
    "change",
    [
        lambda e: {**e, "Type": "Something"},
        lambda e: {**e, "MessageId": "1"},
        lambda e: {**e, "Signature": None},
        lambda e: {name: value for name, value in e.items() if name != "TopicArn"},
        lambda e: [],
    ],
    ids=["type", "id", "signature", "topic", "list"],
)
async def test_what_is_no_envelope_is_malformed(world: Senders, change: Callable[[Any], Any]) -> None:
    body = json.dumps(change(json.loads(world.mint_event()))).encode()
    assert await refused(world.events.mint.verify({}, body)) is RefusalCause.MALFORMED


async def test_a_question_leads_to_a_worker_that_answers_at_amazon(world: Senders) -> None:
    event = await world.events.mint.verify({}, world.question())
    assert (event.subject, event.reference) == ("subscription_confirmation", CONFIRMING_URL)
    await world.events.mint.confirm(event.reference)
    assert world.amazon_asked[-1] == CONFIRMING_URL


@pytest.mark.parametrize("url", ["https://evil.test/?Action=ConfirmSubscription", "http://127.0.0.1:5432/"])
async def test_a_question_that_is_to_be_answered_elsewhere_is_refused_twice(world: Senders, url: str) -> None:
    """A request to wherever a stranger likes, from inside our network, is what such questions are good for."""
    assert await refused(world.events.mint.verify({}, world.question(SubscribeURL=url))) is RefusalCause.FORGED
    assert await refused(world.events.mint.confirm(url)) is RefusalCause.FORGED


async def test_other_hosts_are_believed_only_where_they_are_named(world: Senders) -> None:
    """The simulator has its certificate on this machine. Production refuses to start with such a host."""
    local = "http://127.0.0.1:58080/c.pem"
    body = world.mint_event(SigningCertURL=local)
    assert await refused(world.events.mint.verify({}, body)) is RefusalCause.FORGED
    rules = EventRules(entity_id=ENTITY, certificate_hosts=frozenset({"127.0.0.1:58080"}))
    events = connect(replace(world.config, events=rules), clock=world.clock).events
    events.mint._http = world.events.mint._http
    assert (await events.mint.verify({}, body)).reference == TRANSACTION


def test_the_clock_of_these_tests_is_not_the_machines() -> None:
    assert abs((SystemClock().now() - ManualClock().now()).days) > 1
