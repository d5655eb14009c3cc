"""The conformance driver of the Python client for asyncio. tests/sdks/driver.py says what it is asked."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

from google.protobuf import json_format

from monay.wallet import Options, WalletClient, WalletError, connect, decimal, money
from monay.wallet.v1 import messages

Json = dict[str, Any]


class HandlerFailed(Exception):
    """What a handler raises to see whether its event comes again."""


class Watch:
    """A watched stream, all it has seen, and where it stands."""

    def __init__(self, client: WalletClient, command: Json) -> None:
        self.events: list[Json] = []
        self.cursor = command["request"].get("resumeCursor", "")
        self.error: Json | None = None
        self._client, self._command = client, command
        self._calls, self._fail_at = 0, command.get("failAt")
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._once()
            except HandlerFailed:
                continue
            except WalletError as error:
                self.error = error_json(error)
                return

    async def _once(self) -> None:
        consumer_id = self._command["request"].get("consumerId", "")
        if self._command["rpc"] == "WatchBalances":
            await self._client.watch_balances(self._handle, consumer_id=consumer_id)
        else:
            await self._client.watch_transactions(
                self._handle, consumer_id=consumer_id, resume_cursor=self.cursor, save_cursor=self._save
            )

    async def _handle(self, event: Any) -> None:
        self._calls += 1
        if self._calls == self._fail_at:
            raise HandlerFailed
        self.events.append(json_format.MessageToDict(event))

    async def _save(self, cursor: str) -> None:
        self.cursor = cursor


class Driver:
    """What the commands have made so far."""

    def __init__(self) -> None:
        self._clients: dict[str, WalletClient] = {}
        self._watches: dict[str, Watch] = {}

    async def do(self, command: Json) -> Json:
        answer: Json = await getattr(self, f"_{command['do']}")(command)
        return answer

    async def _connect(self, command: Json) -> Json:
        tokens = list(command["tokens"])
        options = Options(timeout=command["timeout"])
        client = connect(
            command["target"], lambda: tokens.pop(0) if tokens[1:] else tokens[0], tls=False, options=options
        )
        self._clients[command["client"]] = client
        return {}

    async def _call(self, command: Json) -> Json:
        client = self._clients[command["client"]]
        face: Any = client.sandbox if command["rpc"] == "Faucet" else client
        request = json_format.ParseDict(command["request"], getattr(messages, command["rpc"] + "Request")())
        try:
            answer = await getattr(face, snake(command["rpc"]))(request, timeout=command.get("timeout"))
        except WalletError as error:
            return {"error": error_json(error)}
        return {"answer": json_format.MessageToDict(answer)}

    async def _each(self, command: Json) -> Json:
        client: Any = self._clients[command["client"]]
        request = json_format.ParseDict(command["request"], getattr(messages, command["rpc"] + "Request")())
        iterate = getattr(client, snake(command["rpc"]).replace("list_", "iterate_"))
        return {"items": [json_format.MessageToDict(item) async for item in iterate(request)]}

    async def _watch(self, command: Json) -> Json:
        self._watches[command["watch"]] = Watch(self._clients[command["client"]], command)
        return {}

    async def _seen(self, command: Json) -> Json:
        watch = self._watches[command["watch"]]
        return {"events": watch.events, "cursor": watch.cursor, "error": watch.error}

    async def _unwatch(self, command: Json) -> Json:
        self._watches[command["watch"]].task.cancel()
        return {}

    async def _parse(self, command: Json) -> Json:
        return parsed(command)

    async def _format(self, command: Json) -> Json:
        return {"amount": decimal(int(command["micros"]))}


def parsed(command: Json) -> Json:
    try:
        return {"micros": str(money(command["asset"], command["amount"]).micros)}
    except ValueError:
        return {"refused": True}


def error_json(error: WalletError) -> Json:
    """An error in the words that all drivers use."""
    return {
        "code": error.code.name,
        "reason": error.reason_name,
        "facts": error.facts,
        "definite": error.definite,
        "requestId": error.request_id,
        "violations": [one.field for one in error.violations],
    }


def snake(rpc: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc).lower()


async def main() -> None:
    driver = Driver()
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await driver.do(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
