"""The conformance driver of the Python client for threads. tests/sdks/driver.py says what it is asked."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from google.protobuf import json_format

from monay.wallet import Options, WalletError, decimal
from monay.wallet.sync import WalletClient, connect
from monay.wallet.v1 import messages
from tests.sdks.drivers.python_async import HandlerFailed, Json, error_json, parsed, snake


class Watch:
    """A watched stream in a thread of its own, all it has seen, and where it stands."""

    def __init__(self, client: WalletClient, command: Json) -> None:
        self.events: list[Json] = []
        self.cursor = command["request"].get("resumeCursor", "")
        self.error: Json | None = None
        self.stop = threading.Event()
        self._client, self._command = client, command
        self._calls, self._fail_at = 0, command.get("failAt")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                self._once()
            except HandlerFailed:
                continue
            except WalletError as error:
                self.error = error_json(error)
                return

    def _once(self) -> None:
        consumer_id = self._command["request"].get("consumerId", "")
        if self._command["rpc"] == "WatchBalances":
            self._client.watch_balances(self._handle, consumer_id=consumer_id, stop=self.stop)
        else:
            self._client.watch_transactions(
                self._handle,
                consumer_id=consumer_id,
                resume_cursor=self.cursor,
                save_cursor=self._save,
                stop=self.stop,
            )

    def _handle(self, event: Any) -> None:
        self._calls += 1
        if self._calls == self._fail_at:
            raise HandlerFailed
        self.events.append(json_format.MessageToDict(event))

    def _save(self, cursor: str) -> None:
        self.cursor = cursor


class Driver:
    """What the commands have made so far."""

    def __init__(self) -> None:
        self._clients: dict[str, WalletClient] = {}
        self._watches: dict[str, Watch] = {}

    def do(self, command: Json) -> Json:
        answer: Json = getattr(self, f"_{command['do']}")(command)
        return answer

    def _connect(self, command: Json) -> Json:
        tokens = list(command["tokens"])
        options = Options(timeout=command["timeout"])
        client = connect(
            command["target"], lambda: tokens.pop(0) if tokens[1:] else tokens[0], tls=False, options=options
        )
        self._clients[command["client"]] = client
        return {}

    def _call(self, command: Json) -> Json:
        client = self._clients[command["client"]]
        face: Any = client.sandbox if command["rpc"] == "Faucet" else client
        request = json_format.ParseDict(command["request"], getattr(messages, command["rpc"] + "Request")())
        try:
            answer = getattr(face, snake(command["rpc"]))(request, timeout=command.get("timeout"))
        except WalletError as error:
            return {"error": error_json(error)}
        return {"answer": json_format.MessageToDict(answer)}

    def _each(self, command: Json) -> Json:
        client: Any = self._clients[command["client"]]
        request = json_format.ParseDict(command["request"], getattr(messages, command["rpc"] + "Request")())
        iterate = getattr(client, snake(command["rpc"]).replace("list_", "iterate_"))
        return {"items": [json_format.MessageToDict(item) for item in iterate(request)]}

    def _watch(self, command: Json) -> Json:
        self._watches[command["watch"]] = Watch(self._clients[command["client"]], command)
        return {}

    def _seen(self, command: Json) -> Json:
        watch = self._watches[command["watch"]]
        return {"events": watch.events, "cursor": watch.cursor, "error": watch.error}

    def _unwatch(self, command: Json) -> Json:
        self._watches[command["watch"]].stop.set()
        return {}

    def _parse(self, command: Json) -> Json:
        return parsed(command)

    def _format(self, command: Json) -> Json:
        return {"amount": decimal(int(command["micros"]))}


def main() -> None:
    driver = Driver()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(driver.do(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
