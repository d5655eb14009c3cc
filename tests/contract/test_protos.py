"""The protos as sources: style, and compatibility with what was released."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from .conftest import ROOT, buf


@pytest.mark.usefixtures("descriptors")
def test_the_protos_are_clean() -> None:
    """buf's STANDARD rules, with comments on every service, rpc and enum, and one format."""
    buf("lint")
    buf("format", "--diff", "--exit-code", "proto")


@pytest.mark.usefixtures("descriptors")
def test_clients_of_the_released_contract_still_work() -> None:
    """Neither bytes nor JSON of a released client may change their meaning."""
    buf("breaking", "proto", "--against", "proto/released.binpb")


def test_lines_can_be_read_side_by_side(descriptors: FileDescriptorSet) -> None:
    """120 columns, as everywhere here; buf leaves comments alone."""
    for file in descriptors.file:
        if file.name.startswith("monay/"):
            for number, line in enumerate((ROOT / "proto" / file.name).read_text().splitlines(), 1):
                assert len(line) <= 120, f"{file.name}:{number}"
