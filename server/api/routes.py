"""Route decisions on the wire."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from domain.routing import RejectedRoute, RouteDecision, RouteReason, Speed
from monay.wallet.v1 import provider_pb2 as pb
from server.api.convert import money

_SPEEDS = {pb.SPEED_STANDARD: Speed.STANDARD, pb.SPEED_FAST: Speed.FAST}


def speed(proto: pb.Speed.ValueType) -> Speed | None:
    """What was asked for; None leaves it to the consumer's preference."""
    return _SPEEDS.get(proto)


def route(decision: RouteDecision) -> pb.RouteDecision:
    """A decision with its reasons and alternatives."""
    return pb.RouteDecision(
        provider=decision.provider,
        rail=decision.rail,
        fee=money(decision.fee),
        eta=_duration(decision.eta),
        reasons=[_reason(reason) for reason in decision.reasons],
        rejected=[_rejected(one) for one in decision.rejected],
    )


def _rejected(one: RejectedRoute) -> pb.RejectedRoute:
    return pb.RejectedRoute(
        provider=one.provider,
        reasons=[_reason(reason) for reason in one.reasons],
        fee=money(one.fee) if one.fee is not None else None,
        eta=_duration(one.eta) if one.eta is not None else None,
    )


def _reason(reason: RouteReason) -> pb.RouteReason.ValueType:
    return pb.RouteReason.Value(f"ROUTE_REASON_{reason}")


def _duration(span: timedelta) -> Duration:
    proto = Duration()
    proto.FromTimedelta(span)
    return proto
