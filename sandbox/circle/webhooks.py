"""Telling subscribers what happened: signed, at least once, and as badly as a test wants it.

Two kinds. Wallets post JSON signed with ECDSA (version 2); Mint publishes through Amazon SNS (version 1), whose
envelope is signed with the key of a certificate. What is sent is stored first, so that a restart loses nothing.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from itertools import groupby
from typing import Any

import httpx

from sandbox.circle.clock import Clock
from sandbox.circle.keys import Keys
from sandbox.circle.sns import Sns
from sandbox.circle.store import Body, Store, public
from sandbox.circle.webhook_faults import WebhookFaults

WALLETS_SUBSCRIPTION, MINT_SUBSCRIPTION = "wallets subscription", "mint subscription"
TIMEOUT_SECONDS = 5.0
# Seconds from one attempt to the next. Circle publishes none for Wallets: these are a sister product's in its sandbox.
WALLETS_RETRIES = (1, 10, 30, 60, 900, 3600)
# Amazon's default: three, twenty seconds apart. After a minute of silence an event of Mint is lost.
MINT_RETRIES = (20, 20, 20)


class Webhooks:
    def __init__(self, store: Store, clock: Clock, keys: Keys, sns: Sns, *, client_id: str) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._sns = sns
        self._client_id = client_id
        self.faults = WebhookFaults(store, clock)
        self._changed = asyncio.Event()
        self._delivering = asyncio.Lock()
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)

    # What happened.

    def tell_wallets(self, notification_type: str, notification: Body, **changes: Any) -> None:
        """An event of Wallets, to every endpoint that wants its type."""
        for subscription in self._store.all(WALLETS_SUBSCRIPTION):
            if subscription["enabled"] and _wanted(subscription, notification_type):
                self.send_wallets_event(subscription, notification_type, {**public(notification), **changes})

    def send_wallets_event(self, subscription: Body, notification_type: str, notification: Body) -> None:
        event = {
            "subscriptionId": subscription["id"],
            "notificationId": self._store.new_id(),
            "notificationType": notification_type,
            "notification": notification,
            # Nanoseconds, as Circle writes them here and nowhere else.
            "timestamp": self._clock.timestamp().replace("Z", "000000Z"),
            "version": 2,
        }
        body = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        headers = {
            "Content-Type": "application/json",
            "X-Circle-Key-Id": self._keys.webhook_key_id,
            "X-Circle-Signature": self._keys.sign_webhook(body.encode()),
        }
        self._add(subscription, event["notificationId"], notification_type, headers, body)

    def tell_mint(self, topic: str, key: str, resource: Body) -> None:
        """An event of Mint, to every confirmed endpoint: there is no filter."""
        message = {
            "clientId": self._client_id,
            "notificationType": topic,
            "version": 1,
            "customAttributes": {"clientId": self._client_id},
            key: public(resource),
        }
        for subscription in self._store.all(MINT_SUBSCRIPTION):
            if _confirmed(subscription):
                envelope = self._sns.notification(json.dumps(message), message_id=self._store.new_id())
                self._add_sns(subscription, envelope, topic)

    def ask_confirmation(self, subscription: Body) -> None:
        """What a new endpoint of Mint hears first, and alone until it has answered."""
        envelope = self._sns.confirmation(subscription["_token"], message_id=self._store.new_id())
        self._add_sns(subscription, envelope, "SubscriptionConfirmation")

    def _add_sns(self, subscription: Body, envelope: dict[str, str], event_type: str) -> None:
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "x-amz-sns-message-type": envelope["Type"],
            "x-amz-sns-message-id": envelope["MessageId"],
            "x-amz-sns-topic-arn": envelope["TopicArn"],
        }
        self._add(subscription, envelope["MessageId"], event_type, headers, json.dumps(envelope, indent=2))

    def _add(self, subscription: Body, event: str, event_type: str, headers: dict[str, str], body: str) -> None:
        # Confirmations and test events are no news: faults are for what a test waits to lose.
        plain = event_type in ("SubscriptionConfirmation", "webhooks.test")
        for state, due in [("waiting", self._clock.now())] if plain else self.faults.copies():
            self._store.execute(
                "INSERT INTO deliveries (subscription, event, type, state, due, attempts, answer, headers, body)"
                " VALUES (?, ?, ?, ?, ?, 0, '', ?, ?)",
                *(subscription["id"], event, event_type, state, due, json.dumps(headers), body),
            )
        self.faults.release_held()
        self._changed.set()

    # Delivery.

    async def run(self) -> None:
        """Deliver what is due until cancelled."""
        while True:
            self._changed.clear()
            await self.deliver_due()
            try:
                await asyncio.wait_for(self._changed.wait(), self._seconds_until_next())
            except TimeoutError:
                continue

    async def close(self) -> None:
        await self._http.aclose()

    def clock_changed(self) -> None:
        self._changed.set()

    async def deliver_due(self) -> None:
        """Return when nothing is due any more; endpoints beside each other, each in its own order."""
        async with self._delivering:
            while due := self._due():
                by_endpoint = [list(group) for _, group in groupby(due, key=lambda row: row["subscription"])]
                await asyncio.gather(*(self._deliver_in_order(rows) for rows in by_endpoint))

    async def finish(self) -> None:
        """Return when no delivery is under way, whatever is due."""
        async with self._delivering:
            return

    async def _deliver_in_order(self, rows: list[sqlite3.Row]) -> None:
        for row in rows:
            await self._deliver(row)

    async def _deliver(self, row: sqlite3.Row) -> None:
        subscription = self._store.get(WALLETS_SUBSCRIPTION, row["subscription"])
        schedule = WALLETS_RETRIES if subscription else MINT_RETRIES
        subscription = subscription or self._store.get(MINT_SUBSCRIPTION, row["subscription"])
        if subscription is None:
            self._note(row, state="lost", answer="the subscription is gone")
            return
        answer = await self._post(subscription["endpoint"], json.loads(row["headers"]), row["body"])
        if answer.startswith("2"):
            self._note(row, state="delivered", answer=answer)
        elif row["attempts"] >= len(schedule):
            self._note(row, state="given up", answer=answer)
        else:
            self._note(row, state="waiting", answer=answer, due=row["due"] + schedule[row["attempts"]] * 1000)

    async def _post(self, endpoint: str, headers: dict[str, str], body: str) -> str:
        try:
            response = await self._http.post(endpoint, content=body.encode(), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"no answer: {type(error).__name__}"
        return str(response.status_code)

    async def head(self, endpoint: str) -> bool:
        """Whether the endpoint answers a HEAD request, as Circle wants to know before it accepts one."""
        try:
            response = await self._http.head(endpoint)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return response.status_code < 400

    def _due(self) -> list[sqlite3.Row]:
        rows = self._store.execute(
            "SELECT * FROM deliveries WHERE state = 'waiting' AND due <= ? ORDER BY subscription, due, number",
            self._clock.now(),
        )
        return rows.fetchall()

    def _note(self, row: sqlite3.Row, *, state: str, answer: str, due: int | None = None) -> None:
        self._store.execute(
            "UPDATE deliveries SET state = ?, answer = ?, attempts = attempts + 1, due = ? WHERE number = ?",
            *(state, answer, row["due"] if due is None else due, row["number"]),
        )

    def _seconds_until_next(self) -> float:
        row = self._store.execute("SELECT min(due) AS due FROM deliveries WHERE state = 'waiting'").fetchone()
        if row["due"] is None or self._clock.frozen:
            return 60.0
        return min(60.0, max(0.001, (int(row["due"]) - self._clock.now()) / 1000))

    # For whoever tests.

    def deliveries(self) -> list[dict[str, Any]]:
        rows = self._store.execute("SELECT * FROM deliveries ORDER BY number")
        return [{**dict(row), "headers": json.loads(row["headers"])} for row in rows]

    def send_again(self, number: int) -> bool:
        """As the button in Circle's console."""
        again = self._store.execute(
            "UPDATE deliveries SET state = 'waiting', attempts = 0, due = ? WHERE number = ?",
            *(self._clock.now(), number),
        )
        self._changed.set()
        return again.rowcount > 0


def _wanted(subscription: Body, notification_type: str) -> bool:
    family = f"{notification_type.partition('.')[0]}.*"
    return not {"*", family, notification_type}.isdisjoint(subscription["notificationTypes"])


def _confirmed(subscription: Body) -> bool:
    return any(detail["status"] == "confirmed" for detail in subscription["subscriptionDetails"])
