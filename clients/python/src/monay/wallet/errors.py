"""The one exception of the client: why a call was refused, and what is certain about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from monay.wallet.v1.error_reason_pb2 import ErrorReason
from monay.wallet.v1.error_reason_pb2 import error as declared_facts

DOMAIN = "wallet.monay.com"
DETAILS_KEY = "grpc-status-details-bin"
_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks a rule of the contract."""

    field: str
    description: str


@dataclass(eq=False)
class WalletError(Exception):
    """A call was refused, or ended without an answer.

    `reason` is one of the contract's (UNSPECIFIED if the answer did not come from the wallet, or from a newer one;
    `reason_name` then still says its word), and `facts` are what that reason promises to bring. `definite` says that
    nothing was changed, for certain. Where it is False the call may have taken effect: send the same request again,
    with its `request_id`, to learn it.
    """

    code: grpc.StatusCode
    message: str
    reason: ErrorReason.ValueType = ErrorReason.ERROR_REASON_UNSPECIFIED
    reason_name: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: timedelta | None = None
    definite: bool = False
    request_id: str = ""
    call_id: str = ""
    """The server's own name for the call, from its trailers: what its log lines carry."""

    def __str__(self) -> str:
        return f"{self.reason_name or self.code.name}: {self.message}"

    @property
    def passing(self) -> bool:
        """Whether the same call may be sent again as it is: UNAVAILABLE, and whatever says when."""
        return self.code is grpc.StatusCode.UNAVAILABLE or self.retry_after is not None

    @property
    def token_expired(self) -> bool:
        return self.reason == ErrorReason.ERROR_REASON_TOKEN_EXPIRED


class EndedCall(Protocol):
    """What gRPC's errors have in common, with asyncio and with threads."""

    def code(self) -> Any: ...

    def details(self) -> Any: ...

    def trailing_metadata(self) -> Any: ...


def wallet_error(ended: EndedCall, request_id: str = "") -> WalletError:
    """What gRPC reports, in the contract's words."""
    trailers = {pair[0]: pair[1] for pair in ended.trailing_metadata() or ()}
    error = WalletError(
        code=ended.code(),
        message=ended.details() or "",
        request_id=request_id,
        call_id=str(trailers.get("request-id", "")),
    )
    for detail in _status(trailers.get(DETAILS_KEY, b"")).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            _read_info(error, error_details_pb2.ErrorInfo.FromString(detail.value))
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            error.retry_after = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToTimedelta()
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            fields = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            error.violations = tuple(Violation(one.field, one.description) for one in fields)
    return error


def _status(packed: str | bytes) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(packed if isinstance(packed, bytes) else b"")
    except DecodeError:
        # Not the wallet's. The status code is all there is to go by.
        return status_pb2.Status()


def _read_info(error: WalletError, info: error_details_pb2.ErrorInfo) -> None:
    if info.domain != DOMAIN:
        return
    error.reason_name = info.reason
    error.facts = dict(info.metadata)
    declared = ErrorReason.DESCRIPTOR.values_by_name.get(_PREFIX + info.reason)
    if declared is not None:
        error.reason = ErrorReason.Value(_PREFIX + info.reason)
        error.definite = not declared.GetOptions().Extensions[declared_facts].unknown
