"""The rpcs of a contract as the generators of typed calls see them: names, types, prose and what may be repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    MethodOptions,
)

# Places in a file's source information are paths of field numbers, as descriptor.proto counts them.
SERVICES, METHODS = 6, 2


@dataclass(frozen=True)
class Page:
    """A list rpc's answer, as far as reading all pages of it needs to know."""

    field: str
    item: str


@dataclass(frozen=True)
class Rpc:
    """One rpc. Types are the simple names of messages; `files` says which proto file declares each."""

    name: str
    path: str
    request: str
    response: str
    prose: str
    streaming: bool
    repeatable: bool
    page: Page | None

    @property
    def snake(self) -> str:
        """`ListBankAccounts` as `list_bank_accounts`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()

    @property
    def camel(self) -> str:
        """`ListBankAccounts` as `listBankAccounts`."""
        return self.name[0].lower() + self.name[1:]

    @property
    def watched(self) -> bool:
        """A stream without an end, which the hand-written part of a client keeps alive."""
        return self.streaming and self.name.startswith("Watch")


@dataclass(frozen=True)
class Service:
    name: str
    prose: str
    rpcs: tuple[Rpc, ...]


@dataclass(frozen=True)
class Contract:
    """All services in the files that were asked for, and the file of every message and enum."""

    services: tuple[Service, ...]
    files: dict[str, str]


def contract(request: CodeGeneratorRequest) -> Contract:
    """What protoc's plugin protocol hands over, in these words."""
    wanted = [file for file in request.proto_file if file.name in request.file_to_generate]
    messages = {message.name: message for file in wanted for message in file.message_type}
    files = {declared.name: file.name for file in wanted for declared in (*file.message_type, *file.enum_type)}
    services = [service for file in wanted for service in _services(file, messages)]
    return Contract(tuple(services), files)


def _services(file: FileDescriptorProto, messages: dict[str, DescriptorProto]) -> Iterator[Service]:
    prose = {tuple(place.path): _prose(place.leading_comments) for place in file.source_code_info.location}
    for index, service in enumerate(file.service):
        path = f"/{file.package}.{service.name}"
        rpcs = [
            _rpc(method, path, prose.get((SERVICES, index, METHODS, number), ""), messages)
            for number, method in enumerate(service.method)
        ]
        yield Service(service.name, prose.get((SERVICES, index), ""), tuple(rpcs))


def _rpc(method: MethodDescriptorProto, service: str, prose: str, messages: dict[str, DescriptorProto]) -> Rpc:
    request, response = (name.rpartition(".")[2] for name in (method.input_type, method.output_type))
    has_id = any(field.name == "request_id" for field in messages[request].field)
    declared = method.options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    return Rpc(
        name=method.name,
        path=f"{service}/{method.name}",
        request=request,
        response=response,
        prose=prose,
        streaming=method.server_streaming,
        repeatable=declared or has_id,
        page=_page(messages[request], messages[response]),
    )


def _page(request: DescriptorProto, response: DescriptorProto) -> Page | None:
    if not any(field.name == "page_token" for field in request.field):
        return None
    (field,) = (field for field in response.field if field.label == FieldDescriptorProto.LABEL_REPEATED)
    return Page(field.name, field.type_name.rpartition(".")[2])


def _prose(comment: str) -> str:
    return "\n".join(line.removeprefix(" ") for line in comment.strip("\n").split("\n")).strip()
