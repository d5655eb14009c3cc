"""A protoc plugin for the typed calls of the Python client: one method for each rpc, with the contract's prose.

Writes `calls.py` for asyncio and `sync_calls.py` for threads; what a call does beside the bytes (deadline, token,
retries, errors) is hand-written in `monay.wallet`. List rpcs also get a method that reads all pages. `messages.py`
names all messages and enums in one place, so that nobody has to know which file declares which.
"""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from textwrap import indent

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from rpcs import Contract, Rpc, Service, contract

FOLDER = "monay/wallet/v1"
HEADING = "# Generated from the contract by proto/python_calls_plugin.py. Do not edit."


class Face:
    """One of the two files: how its methods are declared and how they wait."""

    def __init__(self, known: Contract, *, asynchronous: bool) -> None:
        self._contract = known
        self._async, self._await = ("async ", "await ") if asynchronous else ("", "")
        self._caller = "AsyncCaller" if asynchronous else "SyncCaller"
        self._iterator = "AsyncIterator" if asynchronous else "Iterator"

    def text(self) -> str:
        modules = sorted({self._module(name) for s in self._contract.services for r in s.rpcs for name in _types(r)})
        lines = [
            HEADING,
            '"""Every rpc of the wallet as a typed method."""',
            "",
            f"from collections.abc import {self._iterator}",
            "",
            f"from monay.wallet.rpc import {self._caller}, Rpc",
            f"from monay.wallet.v1 import {', '.join(modules)}",
        ]
        for service in self._contract.services:
            lines += ["", *self._service(service)]
        return "\n".join(lines) + "\n"

    def _service(self, service: Service) -> list[str]:
        lines = [f"{_constant(rpc)} = {self._described(rpc)}" for rpc in service.rpcs]
        lines += ["", "", f"class {service.name.removesuffix('Service')}Calls:", _docstring(service.prose, 4), ""]
        lines += [f"    def __init__(self, caller: {self._caller}) -> None:", "        self._caller = caller"]
        for rpc in service.rpcs:
            if not rpc.watched:
                lines += ["", *(self._stream(rpc) if rpc.streaming else self._unary(rpc))]
            if rpc.page:
                lines += ["", *self._pages(rpc, rpc.page.field, rpc.page.item)]
        return lines

    def _described(self, rpc: Rpc) -> str:
        return f'Rpc("{rpc.path}", {self._type(rpc.request)}, {self._type(rpc.response)}, repeatable={rpc.repeatable})'

    def _unary(self, rpc: Rpc) -> list[str]:
        return [
            f"    {self._async}def {rpc.snake}(",
            f"        self, request: {self._type(rpc.request)}, *, timeout: float | None = None",
            f"    ) -> {self._type(rpc.response)}:",
            _docstring(rpc.prose, 8),
            f"        return {self._await}self._caller.unary({_constant(rpc)}, request, timeout)",
        ]

    def _stream(self, rpc: Rpc) -> list[str]:
        return [
            f"    def {rpc.snake}(",
            f"        self, request: {self._type(rpc.request)}, *, timeout: float | None = None",
            f"    ) -> {self._iterator}[{self._type(rpc.response)}]:",
            _docstring(rpc.prose, 8),
            f"        return self._caller.stream({_constant(rpc)}, request, timeout)",
        ]

    def _pages(self, rpc: Rpc, field: str, item: str) -> list[str]:
        return [
            f"    {self._async}def iterate_{rpc.snake.removeprefix('list_')}(",
            f"        self, request: {self._type(rpc.request)}, *, timeout: float | None = None",
            f"    ) -> {self._iterator}[{self._type(item)}]:",
            f'        """Each of what {rpc.snake} lists, page after page. `timeout` is each page\'s."""',
            f"        page_request = {self._type(rpc.request)}()",
            "        page_request.CopyFrom(request)",
            "        while True:",
            f"            page = {self._await}self.{rpc.snake}(page_request, timeout=timeout)",
            f"            for item in page.{field}:",
            "                yield item",
            "            if not page.next_page_token:",
            "                return",
            "            page_request.page_token = page.next_page_token",
        ]

    def _module(self, message: str) -> str:
        return f"{PurePosixPath(self._contract.files[message]).stem}_pb2"

    def _type(self, message: str) -> str:
        return f"{self._module(message)}.{message}"


def messages(known: Contract) -> str:
    """All that a caller can put into a request or find in an answer, under one name."""
    modules: dict[str, list[str]] = {}
    for name, file in sorted(known.files.items()):
        modules.setdefault(f"{PurePosixPath(file).stem}_pb2", []).append(name)
    lines = [HEADING, '"""Every message and enum of the wallet."""', ""]
    for module, names in sorted(modules.items()):
        lines += [f"from monay.wallet.v1.{module} import (", *(f"    {name} as {name}," for name in names), ")"]
    return "\n".join(lines) + "\n"


def _types(rpc: Rpc) -> list[str]:
    return [rpc.request, rpc.response, *([rpc.page.item] if rpc.page else [])]


def _constant(rpc: Rpc) -> str:
    return rpc.snake.upper()


def _docstring(prose: str, spaces: int) -> str:
    return indent(f'"""{prose}\n"""' if "\n" in prose else f'"""{prose}"""', " " * spaces).replace(
        "\n" + " " * spaces + "\n", "\n\n"
    )


def main() -> None:
    """Answer protoc in its plugin protocol."""
    known = contract(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    texts = {
        "calls.py": Face(known, asynchronous=True).text(),
        "sync_calls.py": Face(known, asynchronous=False).text(),
        "messages.py": messages(known),
    }
    response = CodeGeneratorResponse(
        file=[CodeGeneratorResponse.File(name=f"{FOLDER}/{name}", content=text) for name, text in texts.items()],
        supported_features=CodeGeneratorResponse.Feature.FEATURE_PROTO3_OPTIONAL,
    )
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
