"""One request and its answer, overheard between the client and the application."""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope, Send


class Exchange:
    """Passes everything on, but the answer only where the client is to hear it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send | None) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.status = 0
        self._headers: list[tuple[str, str]] = []
        self._asked = b""
        self._answered = b""

    async def receive(self) -> Message:
        message = await self._receive()
        self._asked += message.get("body", b"")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = _text(message["headers"])
        self._answered += message.get("body", b"")
        if self._send:
            await self._send(message)

    def told(self) -> dict[str, Any]:
        """All of it, without the key."""
        headers = [(name, _without_key(name, value)) for name, value in _text(self._scope["headers"])]
        return {
            "method": self._scope["method"],
            "path": self._scope["path"],
            "query": self._scope["query_string"].decode("latin-1"),
            "headers": headers,
            "body": self._asked.decode(errors="replace"),
            "answer": {
                "status": self.status,
                "headers": self._headers,
                "body": self._answered.decode(errors="replace"),
            },
        }


def _text(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _without_key(name: str, value: str) -> str:
    return value.partition(" ")[0] + " -" if name == "authorization" else value
