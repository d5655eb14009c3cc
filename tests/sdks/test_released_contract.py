"""What an app of yesterday may rely on: the check that `make check` makes against the released contract does its work.

That such an app still works is the column `released` of the conformance suite.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

from tests.sdks.languages import RELEASED, released_driver

BUF = Path(sys.executable).with_name("buf")
CONFIG = json.dumps({"version": "v2", "breaking": {"use": ["WIRE_JSON"]}})


def test_the_driver_of_the_released_contract_really_has_its_messages(tmp_path: Path) -> None:
    """Today's messages under that name would prove nothing."""
    command = released_driver(tmp_path)
    where = "import monay.wallet.v1.transfer_pb2 as messages; print(messages.__file__)"
    asked = subprocess.run([*command[:3], "-c", where], capture_output=True, text=True, check=True)
    assert Path(asked.stdout.strip()).is_relative_to(tmp_path)


@pytest.mark.parametrize("change", ["removed", "renamed", "retyped"])
def test_a_change_that_breaks_an_app_is_found(change: str, tmp_path: Path) -> None:
    """JSON knows fields by their names and binary by their numbers, and the gateway speaks JSON."""
    contract = FileDescriptorSet.FromString(RELEASED.read_bytes())
    (request,) = (m for file in contract.file for m in file.message_type if m.name == "TransferRequest")
    alter(request, change)
    altered = tmp_path / "altered.binpb"
    altered.write_bytes(contract.SerializeToString())
    found = subprocess.run(
        [BUF, "breaking", altered, "--against", RELEASED, "--config", CONFIG], capture_output=True, text=True
    )
    assert found.returncode == 100, found.stderr
    assert "memo" in found.stdout


def alter(request: DescriptorProto, change: str) -> None:
    (memo,) = (field for field in request.field if field.name == "memo")
    if change == "removed":
        request.field.remove(memo)
    elif change == "renamed":
        memo.name, memo.json_name = "remark", "remark"
    else:
        memo.type = memo.TYPE_INT64
