"""Webhooks of both kinds: who hears them, when, how often, and what can go wrong with them on purpose."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from tests.sandbox.circle.conftest import Customer, Endpoint, Json

OUTSIDE = "0x1111111111111111111111111111111111111111"
STATES = ["INITIATED", "CLEARED", "QUEUED", "SENT", "COMPLETE"]
SUBSCRIPTIONS_OF_WALLETS, SUBSCRIPTIONS_OF_MINT = "/v2/notifications/subscriptions", "/v1/notifications/subscriptions"


def pay(customer: Customer) -> str:
    """One transfer from beginning to end, with all its events delivered."""
    transaction_id = customer.transfer(OUTSIDE)
    customer.circle.advance(10)
    return transaction_id


def test_each_state_of_a_transaction_is_told_once(customer: Customer, subscribed: Endpoint) -> None:
    transaction_id = pay(customer)
    assert subscribed.states() == STATES
    events = subscribed.wallets_events()
    assert {event["notification"]["id"] for event in events} == {transaction_id}
    assert len({event["notificationId"] for event in events}) == len(events)


def test_both_sides_of_a_transfer_between_our_wallets_are_told(customer: Customer, subscribed: Endpoint) -> None:
    customer.transfer(customer.new_wallet()["address"])
    customer.circle.advance(10)
    told = [(one["notificationType"], one["notification"]["state"]) for one in subscribed.wallets_events()]
    assert told.count(("transactions.outbound", "COMPLETE")) == told.count(("transactions.inbound", "COMPLETE")) == 1


def test_an_endpoint_that_does_not_answer_head_is_refused(customer: Customer) -> None:
    refused = customer.wallets.post(SUBSCRIPTIONS_OF_WALLETS, json={"endpoint": "http://127.0.0.1:1/hook"})
    assert (refused.status_code, refused.json()["errors"][0]["location"]) == (400, "endpoint")


def test_a_new_endpoint_is_tested_and_a_disabled_or_deleted_one_hears_nothing(
    customer: Customer, endpoint: Endpoint
) -> None:
    customer.circle.freeze()
    made = customer.wallets.post(SUBSCRIPTIONS_OF_WALLETS, json={"endpoint": endpoint.url})
    path = f"{SUBSCRIPTIONS_OF_WALLETS}/{made.json()['data']['id']}"
    customer.circle.deliver_webhooks()
    assert [one.json["notificationType"] for one in endpoint.heard] == ["webhooks.test"]
    assert customer.wallets.patch(path, json={"enabled": False}).json()["data"]["enabled"] is False
    pay(customer)
    customer.wallets.patch(path, json={"enabled": True})
    assert customer.wallets.delete(path).status_code == 204
    pay(customer)
    assert endpoint.states() == []


def test_mint_says_nothing_before_its_subscription_is_confirmed(customer: Customer, endpoint: Endpoint) -> None:
    customer.circle.freeze()
    made = customer.mint.post(SUBSCRIPTIONS_OF_MINT, json={"endpoint": endpoint.url}).json()["data"]
    customer.new_bank()
    customer.circle.advance(1)
    (confirmation,) = [one.json for one in endpoint.heard]
    assert (confirmation["Type"], made["subscriptionDetails"][0]["status"]) == ("SubscriptionConfirmation", "pending")
    assert confirmation["TopicArn"] == made["subscriptionDetails"][0]["url"]
    wrong = confirmation["SubscribeURL"].replace(confirmation["Token"], "0" * 64)
    assert httpx.get(wrong, trust_env=False).status_code == 400
    assert httpx.get(confirmation["SubscribeURL"], trust_env=False).status_code == 200
    (listed,) = customer.mint.get(SUBSCRIPTIONS_OF_MINT).json()["data"]
    assert listed["subscriptionDetails"][0]["status"] == "confirmed"
    customer.new_bank(accountNumber="55550000")
    customer.circle.advance(1)
    assert [(one["notificationType"], one["wire"]["status"]) for one in endpoint.mint_events()] == [
        ("wire", "pending"),
        ("wire", "complete"),
    ]


def test_the_money_at_the_bank_is_told_by_its_topics(customer: Customer, subscribed: Endpoint) -> None:
    circle = customer.circle
    bank = customer.new_bank()
    circle.advance(1)
    circle.send_wire(bank["id"], "10.00")
    payout: Json = customer.payout(bank["id"], "6.21").json()["data"]
    circle.advance(60)
    told = [(one["notificationType"], _status(one)) for one in subscribed.mint_events()]
    assert told == [
        ("wire", "pending"),
        ("wire", "complete"),
        ("payouts", "pending"),
        ("deposits", "pending"),
        ("payouts", "complete"),
        ("deposits", "complete"),
        ("payouts", "return pending"),
        ("payouts", "return complete"),
    ]
    last = subscribed.mint_events()[-1]
    assert last["payout"]["return"]["payoutId"] == payout["id"]
    assert last["clientId"] == last["customAttributes"]["clientId"]


def _status(event: Json) -> str:
    resource = next(event[key] for key in ("wire", "deposit", "payout") if key in event)
    return f"return {resource['return']['status']}" if "return" in resource else str(resource["status"])


def test_mint_takes_three_subscriptions_and_gives_up_none_that_is_pending(
    customer: Customer, endpoint: Endpoint
) -> None:
    asked = {"endpoint": endpoint.url}
    made = [customer.mint.post(SUBSCRIPTIONS_OF_MINT, json=asked) for _ in range(4)]
    assert [one.status_code for one in made] == [200, 200, 200, 400]
    path = f"{SUBSCRIPTIONS_OF_MINT}/{made[0].json()['data']['id']}"
    assert customer.mint.delete(path).status_code == 400
    customer.circle.deliver_webhooks()
    for one in endpoint.heard:
        httpx.get(one.json["SubscribeURL"], trust_env=False)
    assert customer.mint.delete(path).status_code == 200


def test_a_lost_event_never_comes_and_the_state_is_what_it_is(customer: Customer, subscribed: Endpoint) -> None:
    customer.circle.set_webhook_fault("lose", times=None)
    transaction_id = pay(customer)
    customer.circle.advance(86_400)
    assert subscribed.heard == []
    assert customer.transaction(transaction_id)["state"] == "COMPLETE"
    customer.circle.clear_faults()
    pay(customer)
    assert subscribed.states() == STATES


def test_a_duplicate_is_the_same_event_byte_for_byte(customer: Customer, subscribed: Endpoint) -> None:
    customer.circle.set_webhook_fault("duplicate")
    pay(customer)
    assert Counter(subscribed.states())["INITIATED"] == 2
    first, second = subscribed.heard[:2]
    assert first.body == second.body


def test_events_come_in_the_wrong_order(customer: Customer, subscribed: Endpoint) -> None:
    customer.circle.set_webhook_fault("reorder", times=5)
    pay(customer)
    assert subscribed.states() == STATES[::-1]


def test_events_that_are_held_back_go_out_when_the_fault_is_taken_away(
    customer: Customer, subscribed: Endpoint
) -> None:
    customer.circle.set_webhook_fault("reorder", times=50)
    pay(customer)
    assert subscribed.states() == []
    customer.circle.clear_faults()
    customer.circle.deliver_webhooks()
    assert sorted(subscribed.states()) == sorted(STATES)


def test_a_late_event_comes_when_its_time_has_come(customer: Customer, subscribed: Endpoint) -> None:
    customer.circle.set_webhook_fault("delay", seconds=300)
    pay(customer)
    assert subscribed.states() == STATES[1:]
    customer.circle.advance(300)
    assert subscribed.states() == [*STATES[1:], "INITIATED"]


@pytest.mark.parametrize("status", [400, 500])
def test_what_was_not_taken_is_sent_again_until_it_is(customer: Customer, subscribed: Endpoint, status: int) -> None:
    subscribed.status = status
    customer.transfer(OUTSIDE)
    customer.circle.deliver_webhooks()
    assert subscribed.states() == ["INITIATED"]
    subscribed.status = 200
    customer.circle.advance(10)
    ids = Counter(event["notificationId"] for event in subscribed.wallets_events())
    assert sorted(ids.values()) == [1, 1, 1, 1, 2]


def test_mint_gives_up_after_a_minute_and_its_event_is_lost(customer: Customer, subscribed: Endpoint) -> None:
    """Which is why polling is the truth and webhooks are a hint."""
    subscribed.status = 503
    customer.circle.configure(pace={"wire_verification": 3600})
    customer.new_bank()
    customer.circle.advance(61)
    assert len(subscribed.mint_events()) == 4
    subscribed.status = 200
    customer.circle.advance(60)
    assert len(subscribed.mint_events()) == 4
    (given_up,) = [one for one in customer.circle.webhooks() if one["state"] == "given up"]
    customer.circle.ask("POST", f"/webhooks/{given_up['number']}/again")
    customer.circle.deliver_webhooks()
    assert len(subscribed.mint_events()) == 5
