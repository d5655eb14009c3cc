"""The contract as a file, for gateways that turn JSON into calls: `python -m server.api.descriptors contract.binpb`.

It is taken out of the generated code, with its http annotations, so that it needs no generator and cannot differ from
what the server speaks. The details of errors are in it, too: without them a gateway could not write an error as JSON.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

from monay.wallet.v1 import consumer_wallet_service_pb2, sandbox_service_pb2

_ROOTS = (consumer_wallet_service_pb2.DESCRIPTOR, sandbox_service_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)


def descriptor_set() -> FileDescriptorSet:
    """All files of the contract, each after those that it imports."""
    files: dict[str, FileDescriptor] = {}
    for root in _ROOTS:
        _collect(root, files)
    return FileDescriptorSet(file=[FileDescriptorProto.FromString(file.serialized_pb) for file in files.values()])


def _collect(file: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    if file.name not in files:
        for dependency in file.dependencies:
            _collect(dependency, files)
        files[file.name] = file


def main() -> int:
    """Write it where the one argument says."""
    if len(sys.argv) != 2:
        sys.stderr.write("Say where to write the contract: python -m server.api.descriptors FILE\n")
        return 2
    Path(sys.argv[1]).write_bytes(descriptor_set().SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
