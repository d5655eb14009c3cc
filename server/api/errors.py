"""Refusals on the wire: each class of `domain.errors` becomes one `google.rpc.Status` with its `ErrorInfo`.

Status codes and the keys of the metadata are read from the contract's list of reasons, so that what is documented
there is what is sent. A refusal whose reason is not in that list is a fault of ours, like any exception nobody
expected: it is answered INTERNAL_ERROR, and what happened stays in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from domain.errors import FieldViolation, LimitExceeded, Overloaded, RateLimited, ValidationFailed, WalletError
from monay.wallet.v1 import error_reason_pb2

DOMAIN = "wallet.monay.com"
DETAILS_KEY = "grpc-status-details-bin"
INTERNAL_ERROR = "INTERNAL_ERROR"

# gRPC clients drop trailers of more than 8 KiB by default, and details travel in base64.
MOST_DETAIL_BYTES = 4_000
_LONGEST_TEXT = 300

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class _Reason:
    """What the contract says about a reason."""

    name: str
    number: int
    code: grpc.StatusCode
    keys: frozenset[str]


def _declared() -> dict[str, _Reason]:
    reasons = {}
    for value in error_reason_pb2.ErrorReason.DESCRIPTOR.values:
        facts = value.GetOptions().Extensions[error_reason_pb2.error]
        if facts.status:
            name = value.name.removeprefix(_PREFIX)
            code = _CODES[code_pb2.Code.Value(facts.status)]
            reasons[name] = _Reason(name, value.number, code, frozenset(facts.metadata.split()))
    return reasons


_REASONS = _declared()


@dataclass(frozen=True, slots=True)
class ApiError:
    """A refusal in the words of the contract."""

    code: grpc.StatusCode
    reason: str
    reason_number: int
    message: str
    metadata: dict[str, str]
    details: tuple[Message, ...] = ()
    trailers: tuple[tuple[str, str], ...] = ()

    def status(self) -> status_pb2.Status:
        """As the message that clients unpack."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        return status_pb2.Status(
            code=self.code.value[0], message=self.message, details=[_packed(one) for one in (info, *self.details)]
        )


def api_error(error: WalletError) -> ApiError:
    """What a caller is told about a refusal."""
    reason = _REASONS.get(error.reason)
    if reason is None:
        return internal_error()
    facts = error.facts()
    return ApiError(
        code=reason.code,
        reason=reason.name,
        reason_number=reason.number,
        message=_sentence(type(error)),  # type: ignore[arg-type]  # mypy misses that classes hash
        metadata={key: facts[key][:_LONGEST_TEXT] for key in reason.keys & facts.keys()},
        details=tuple(_details(error)),
        trailers=_trailers(error),
    )


def internal_error() -> ApiError:
    """What a caller is told about a fault of ours: nothing that could tell them how we are built."""
    reason = _REASONS[INTERNAL_ERROR]
    text = "Something failed on our side. It is logged under the trailer request-id."
    return ApiError(reason.code, reason.name, reason.number, text, {})


def reason_value(reason: str) -> error_reason_pb2.ErrorReason.ValueType:
    """The contract's number of a reason, for messages that carry one."""
    return error_reason_pb2.ErrorReason.Value(_PREFIX + reason)


def is_internal(error: WalletError) -> bool:
    """Whether the contract has no word for this refusal, so that nobody but us should see it."""
    return error.reason not in _REASONS


@cache
def _sentence(error: type[WalletError]) -> str:
    """For people: the class's own description, up to its first blank line."""
    return (error.__doc__ or error.reason).strip().split("\n\n")[0].replace("\n    ", " ")


def _details(error: WalletError) -> list[Message]:
    if isinstance(error, ValidationFailed):
        return [_bad_request(error.violations)]
    if isinstance(error, LimitExceeded):
        subject, text = "consumer", f"Daily limit of KYC level {error.kyc_level}; resets {error.reset_time.isoformat()}"
        violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=text)
        return [error_details_pb2.QuotaFailure(violations=[violation])]
    if isinstance(error, Overloaded | RateLimited):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        return [retry]
    return []


def _bad_request(violations: Iterable[FieldViolation]) -> error_details_pb2.BadRequest:
    """The first violations that fit. Details are a trailer, and of trailers that are too long clients see nothing."""
    told, room = error_details_pb2.BadRequest(), MOST_DETAIL_BYTES
    for one in violations:
        violation = told.FieldViolation(
            field=one.field[:_LONGEST_TEXT], reason=one.rule, description=one.description[:_LONGEST_TEXT]
        )
        room -= violation.ByteSize()
        if room < 0:
            break
        told.field_violations.append(violation)
    return told


def _trailers(error: WalletError) -> tuple[tuple[str, str], ...]:
    """For clients and gateways that do not unpack details: how many calls there are, and in how many seconds."""
    if not isinstance(error, RateLimited):
        return ()
    seconds = -(-error.retry_after_ms // 1000)
    figures = {"limit": error.limit, "remaining": error.remaining, "reset": seconds}
    return tuple((f"ratelimit-{name}", str(figure)) for name, figure in figures.items())


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
