"""A protoc plugin for Python's gRPC stubs.

grpcio-tools has that generator compiled in and ships no plugin, which is what buf wants to run. This reads protoc's
plugin protocol on standard input, lets grpcio-tools generate, and answers in the same protocol.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """The stubs of the files asked for, as far as they declare a service."""
    with_services = [file.name for file in request.proto_file if file.service]
    wanted = [name for name in request.file_to_generate if name in with_services]
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        arguments = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}", *wanted]
        if protoc.main(["protoc", *arguments]) != 0:
            return CodeGeneratorResponse(error="grpc_python failed; see above")
        files = [
            CodeGeneratorResponse.File(name=str(path.relative_to(out)), content=path.read_text())
            for path in sorted(out.rglob("*_pb2_grpc.py"))
        ]
        return CodeGeneratorResponse(
            file=files, supported_features=CodeGeneratorResponse.Feature.FEATURE_PROTO3_OPTIONAL
        )


if __name__ == "__main__":
    response = generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(response.SerializeToString())
