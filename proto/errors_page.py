"""docs/errors.md, made from error_reason.proto: its comments are the prose, its options the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import EnumValueDescriptorProto, FileDescriptorSet

if TYPE_CHECKING:
    from monay.wallet.v1.error_reason_pb2 import ErrorFacts

FILE = "monay/wallet/v1/error_reason.proto"

# Places in a file's source information are paths of field numbers, as descriptor.proto counts them.
SYNTAX = (12,)
FIRST_ENUM_VALUES = (5, 0, 2)


def errors_page(descriptors: bytes) -> str:
    """The page as Markdown, from a FileDescriptorSet with source information."""
    # Options are understood only once the module that declares them is imported, and that one is generated.
    from monay.wallet.v1 import error_reason_pb2

    (file,) = (file for file in FileDescriptorSet.FromString(descriptors).file if file.name == FILE)
    places = {tuple(place.path): place for place in file.source_code_info.location}
    page = [
        "# Errors",
        "<!-- Made by `make generate` from proto/monay/wallet/v1/error_reason.proto. Do not edit. -->",
        prose(places[SYNTAX].leading_comments),
    ]
    for index, value in enumerate(file.enum_type[0].value):
        place = places[(*FIRST_ENUM_VALUES, index)]
        page += [f"## {prose(title).rstrip('.')}" for title in place.leading_detached_comments]
        if value.number != error_reason_pb2.ERROR_REASON_UNSPECIFIED:
            facts = value.options.Extensions[error_reason_pb2.error]
            page += [f"### {name(value)}", facts_line(facts), prose(place.leading_comments)]
    return "\n\n".join(page) + "\n"


def name(value: EnumValueDescriptorProto) -> str:
    """The reason as it stands in ErrorInfo."""
    return value.name.removeprefix("ERROR_REASON_")


def prose(comment: str) -> str:
    """A comment as a paragraph, or as paragraphs and lists, without the space after its slashes."""
    return "\n".join(line.removeprefix(" ") for line in comment.strip("\n").split("\n")).strip()


def facts_line(facts: ErrorFacts) -> str:
    """What is certain, in one line: status, whether anything changed, whether it is remembered, metadata."""
    certain = "may have taken effect" if facts.unknown else "nothing changed"
    parts = [f"`{facts.status}`", certain]
    if facts.remembered:
        parts.append("remembered")
    if facts.metadata:
        parts.append("metadata: " + ", ".join(f"`{key}`" for key in facts.metadata.split()))
    return " · ".join(parts)
