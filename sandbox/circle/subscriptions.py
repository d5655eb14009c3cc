"""Who is told of events: endpoints of Wallets, and endpoints of Mint behind Amazon SNS."""

from __future__ import annotations

import hashlib

from sandbox.circle.bodies import CreateMintSubscription, CreateWalletsSubscription, UpdateWalletsSubscription
from sandbox.circle.call import Answer, Call
from sandbox.circle.refusals import Refusal, invalid_field, not_found
from sandbox.circle.simulator import Simulator
from sandbox.circle.sns import TOPIC_ARN
from sandbox.circle.store import Body, public
from sandbox.circle.webhooks import MINT_SUBSCRIPTION, WALLETS_SUBSCRIPTION

MOST_WALLETS_SUBSCRIPTIONS = 20
# In the sandbox; production allows one.
MOST_MINT_SUBSCRIPTIONS = 3


async def probe_endpoint(simulator: Simulator, call: Call) -> None:
    """Circle looks at an endpoint before it accepts it."""
    endpoint = call.body_of(CreateWalletsSubscription).endpoint
    if not await simulator.webhooks.head(endpoint):
        raise invalid_field("endpoint", "invalid_value", "does not answer a HEAD request", endpoint)


def create_wallets_subscription(simulator: Simulator, call: Call) -> Answer:
    asked, now = call.body_of(CreateWalletsSubscription), simulator.clock.timestamp()
    if len(simulator.store.all(WALLETS_SUBSCRIPTION)) >= MOST_WALLETS_SUBSCRIPTIONS:
        raise Refusal(400, 2, "There are twenty subscriptions already")
    body: Body = {
        "id": simulator.store.new_id(),
        "name": f"Subscription {simulator.store.next_number('subscription')}",
        "endpoint": asked.endpoint,
        "enabled": True,
        "restricted": asked.notification_types != ["*"],
        "notificationTypes": asked.notification_types,
        "createDate": now,
        "updateDate": now,
    }
    simulator.store.add(WALLETS_SUBSCRIPTION, body, created=simulator.clock.now())
    simulator.webhooks.send_wallets_event(body, "webhooks.test", {"hello": "world"})
    return Answer(body, status=201)


def list_wallets_subscriptions(simulator: Simulator, call: Call) -> Answer:
    return Answer(simulator.store.all(WALLETS_SUBSCRIPTION))


def show_wallets_subscription(simulator: Simulator, call: Call) -> Answer:
    return Answer(_wallets_subscription(simulator, call.id))


def update_wallets_subscription(simulator: Simulator, call: Call) -> Answer:
    changes = call.body_of(UpdateWalletsSubscription).given()
    body = {**_wallets_subscription(simulator, call.id), **changes, "updateDate": simulator.clock.timestamp()}
    simulator.store.update(body)
    return Answer(body)


def delete_wallets_subscription(simulator: Simulator, call: Call) -> Answer:
    simulator.store.remove(_wallets_subscription(simulator, call.id)["id"])
    return Answer(status=204)


def show_public_key(simulator: Simulator, call: Call) -> Answer:
    keys = simulator.keys
    if call.id.lower() != keys.webhook_key_id:
        raise not_found(156007, "Cannot find the public key")
    return Answer({"id": keys.webhook_key_id, "algorithm": "ECDSA_SHA_256", "publicKey": keys.webhook_public_key})


def create_mint_subscription(simulator: Simulator, call: Call) -> Answer:
    asked = call.body_of(CreateMintSubscription)
    if len(simulator.store.all(MINT_SUBSCRIPTION)) >= MOST_MINT_SUBSCRIPTIONS:
        raise Refusal(400, 2, "There are three subscriptions already")
    subscription_id = simulator.store.new_id()
    body: Body = {
        "id": subscription_id,
        "endpoint": asked.endpoint,
        "subscriptionDetails": [{"url": TOPIC_ARN, "status": "pending"}],
        "_token": hashlib.sha256(f"token {subscription_id}".encode()).hexdigest(),
    }
    simulator.store.add(MINT_SUBSCRIPTION, body, created=simulator.clock.now())
    simulator.webhooks.ask_confirmation(body)
    return Answer(public(body))


def confirm(simulator: Simulator, token: str) -> bool:
    """The endpoint has fetched the SubscribeURL that was sent to it."""
    for body in simulator.store.all(MINT_SUBSCRIPTION):
        if body["_token"] == token:
            body["subscriptionDetails"][0]["status"] = "confirmed"
            simulator.store.update(body)
            return True
    return False


def list_mint_subscriptions(simulator: Simulator, call: Call) -> Answer:
    return Answer([public(body) for body in simulator.store.all(MINT_SUBSCRIPTION)])


def delete_mint_subscription(simulator: Simulator, call: Call) -> Answer:
    body = simulator.store.get(MINT_SUBSCRIPTION, call.id)
    if body is None:
        raise not_found(message="Subscription not found")
    if body["subscriptionDetails"][0]["status"] == "pending":
        raise Refusal(400, 2, "A subscription that is pending cannot be deleted")
    simulator.store.remove(body["id"])
    return Answer({})


def _wallets_subscription(simulator: Simulator, subscription_id: str) -> Body:
    body = simulator.store.get(WALLETS_SUBSCRIPTION, subscription_id)
    if body is None:
        raise not_found(message="Subscription not found")
    return body
