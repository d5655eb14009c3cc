"""The contract as its tests see it: the descriptors of the generated Python, and the prose of the protos."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from monay.wallet.v1 import consumer_wallet_service_pb2, operations_service_pb2, sandbox_service_pb2

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def services() -> list[ServiceDescriptor]:
    """Every service of the package."""
    files = (consumer_wallet_service_pb2, operations_service_pb2, sandbox_service_pb2)
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


@pytest.fixture(scope="session")
def methods(services: list[ServiceDescriptor]) -> list[MethodDescriptor]:
    """Every rpc of the package."""
    return [method for service in services for method in service.methods]


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    """The protos as they stand, with their comments, which generated code does not have."""
    image = tmp_path_factory.mktemp("contract") / "contract.binpb"
    subprocess.run([sys.executable, "proto/generate.py", "--third-party"], cwd=ROOT, check=True)
    buf("build", "proto", "--as-file-descriptor-set", "--output", str(image))
    return FileDescriptorSet.FromString(image.read_bytes())


@pytest.fixture(scope="session")
def prose(descriptors: FileDescriptorSet) -> dict[str, str]:
    """The comment of every rpc, by `Service.Rpc`, and of every service's file, by its name."""
    texts: dict[str, str] = {}
    for file in descriptors.file:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for service_number, service in enumerate(file.service):
            texts[file.name] = comments[(12,)]
            for number, method in enumerate(service.method):
                texts[f"{service.name}.{method.name}"] = comments[(6, service_number, 2, number)]
    return texts


def buf(*arguments: str) -> None:
    """Run the pinned buf in the project's folder; what it finds is in the failure."""
    program = Path(sys.executable).parent / "buf"
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
