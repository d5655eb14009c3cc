"""The contract's list of reasons for a route is the domain's."""

from __future__ import annotations

from domain.routing import RouteReason
from monay.wallet.v1 import provider_pb2


def test_every_reason_of_a_route_is_in_the_contract_and_no_other() -> None:
    """A reason that only one side knows could not be told, or would never be given."""
    declared = {value.name.removeprefix("ROUTE_REASON_") for value in provider_pb2.RouteReason.DESCRIPTOR.values}
    assert declared - {"UNSPECIFIED"} == set(RouteReason)
