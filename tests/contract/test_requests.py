"""The manners that all requests share: whose wallet, which intent, and what a rule refuses."""

from __future__ import annotations

import json
import uuid

import protovalidate
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import GetBalanceRequest, Money
from monay.wallet.v1.provider_pb2 import GetHealthResponse, ProviderHealth
from monay.wallet.v1.transfer_pb2 import (
    BatchTransferItem,
    BatchTransferRequest,
    Recipient,
    SubmitTransfersRequest,
    TransferRequest,
)

MOVES_MONEY = {
    "Deposit",
    "Withdraw",
    "Transfer",
    "BatchTransfer",
    "RefundTransfer",
    "Swap",
    "PayPaymentRequest",
    "ScheduleTransfer",
    "ProposeAdjustment",
    "ApproveAdjustment",
}

# About no wallet, about one that does not exist yet, or about many.
NOT_ABOUT_ONE_WALLET = {"Onboard", "SubmitTransfers", "GetProviderStatus", "GetHealth"}

# Made by the server; whatever else comes is refused when it is taken apart.
OPAQUE = {"page_token", "resume_cursor"}

PACKAGE = "monay.wallet.v1"

GUIDE = {
    "Onboard": ("post", "/api/consumer/onboard"),
    "Deposit": ("post", "/api/consumer/deposit"),
    "Withdraw": ("post", "/api/consumer/withdraw"),
    "Transfer": ("post", "/api/consumer/transfer"),
    "BatchTransfer": ("post", "/api/consumer/batch-transfer"),
    "GetPortfolio": ("get", "/api/consumer/portfolio"),
    "Swap": ("post", "/api/consumer/swap"),
    "GetBalance": ("get", "/api/consumer/balance"),
    "GetLimits": ("get", "/api/consumer/limits"),
    "UpgradeKyc": ("post", "/api/consumer/upgrade-kyc"),
    "ListTransactions": ("get", "/api/consumer/transactions"),
    "GetProviderStatus": ("get", "/api/consumer/provider-status"),
    "GetHealth": ("get", "/api/consumer/health"),
}


def transfer(**changes: object) -> TransferRequest:
    """A valid transfer, except for what is changed."""
    fields: dict[str, object] = {
        "request_id": str(uuid.uuid4()),
        "recipient": Recipient(handle="@bob"),
        "amount": Money(asset="USDC", micros=1),
    }
    return TransferRequest(**(fields | changes))  # type: ignore[arg-type]


def broken_fields(request: Message) -> list[str]:
    """The paths of the fields that break a rule, without indexes; a rule over several fields has no path."""
    paths = (violation.proto.field for violation in protovalidate.collect_violations(request))
    return [".".join(element.field_name for element in path.elements) if path else "" for path in paths]


def test_whatever_moves_money_takes_a_request_id_and_can_be_tried(methods: list[MethodDescriptor]) -> None:
    """Without a request id a retry could pay twice; it is made by who asks, so it can be required."""
    found = {method.name: method.input_type.fields_by_name for method in methods if method.name in MOVES_MONEY}
    assert found.keys() == MOVES_MONEY
    for name, fields in found.items():
        assert fields["validate_only"].type == FieldDescriptor.TYPE_BOOL, name
        assert fields["request_id"].type == FieldDescriptor.TYPE_STRING, name


def test_a_money_request_without_a_request_id_is_refused(methods: list[MethodDescriptor]) -> None:
    """The rule is in the contract, so every SDK can check it before the first try."""
    for method in methods:
        if method.name in MOVES_MONEY:
            empty = GetMessageClass(method.input_type)()
            assert "request_id" in broken_fields(empty), method.full_name


def test_only_what_moves_money_can_be_tried(methods: list[MethodDescriptor]) -> None:
    """Keeps the list above complete: a new rpc with validate_only has to be put on it."""
    assert {m.name for m in methods if "validate_only" in m.input_type.fields_by_name} == MOVES_MONEY


def test_consumer_id_comes_first(methods: list[MethodDescriptor]) -> None:
    """Isolation is checked by one interceptor, which finds the wallet in the same place of every request."""
    for method in methods:
        if method.containing_service.name == "OperationsService" or method.name in NOT_ABOUT_ONE_WALLET:
            continue
        field = method.input_type.fields_by_number[1]
        assert (field.name, field.type) == ("consumer_id", FieldDescriptor.TYPE_STRING), method.full_name
        request_class = GetMessageClass(method.input_type)
        assert "consumer_id" not in broken_fields(request_class()), method.full_name
        assert "consumer_id" in broken_fields(request_class(consumer_id="bob")), method.full_name


def test_every_rpc_says_whether_it_may_be_repeated(methods: list[MethodDescriptor]) -> None:
    """SDKs retry by this declaration. The faucet pays again each time it is called without a request id."""
    unsaid = [m.name for m in methods if m.GetOptions().idempotency_level == MethodOptions.IDEMPOTENCY_UNKNOWN]
    assert unsaid == ["Faucet"]


def test_no_field_is_a_float_and_times_say_that_they_are(methods: list[MethodDescriptor]) -> None:
    """Money is never a floating point number, and a reader of JSON knows a time by its name."""
    for method in methods:
        for field in fields_below(method.input_type) | fields_below(method.output_type):
            assert field.type not in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT), field.full_name
            kind = field.message_type.full_name if field.message_type else ""
            assert (kind == "google.protobuf.Timestamp") <= field.name.endswith("time"), field.full_name


def fields_below(message: Descriptor, seen: frozenset[str] = frozenset()) -> set[FieldDescriptor]:
    """The fields of a message and of all messages in it."""
    found: set[FieldDescriptor] = set()
    for field in message.fields:
        found.add(field)
        if field.message_type and field.message_type.full_name not in seen:
            found |= fields_below(field.message_type, seen | {field.message_type.full_name})
    return found


def test_no_text_of_a_request_may_hold_control_characters(methods: list[MethodDescriptor]) -> None:
    """Postgres stores no NUL, and a line break would forge a line of a statement."""
    for method in methods:
        for field in fields_below(method.input_type):
            assert field.containing_type is not None
            ours = field.containing_type.file.package == PACKAGE
            if field.type != FieldDescriptor.TYPE_STRING or field.name in OPAQUE or not ours:
                continue
            message = GetMessageClass(field.containing_type)(**{field.name: "a\0b"})
            assert field.name in broken_fields(message), field.full_name


def test_the_guides_paths_are_annotated(methods: list[MethodDescriptor]) -> None:
    """The gateway serves the HTTP face of the first wallet from these annotations."""
    from google.api import annotations_pb2

    annotated = {}
    for method in methods:
        if method.GetOptions().HasExtension(annotations_pb2.http):
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            verb = rule.WhichOneof("pattern")
            annotated[method.name] = (verb, getattr(rule, verb))
            assert rule.body == ("*" if verb == "post" else ""), method.full_name
    assert annotated == GUIDE


def test_the_guides_onboarding_request_is_understood() -> None:
    """Clients of the first wallet send exactly this."""
    document = '{"email":"test@example.com","phone":"+14155551234","kycLevel":1}'
    request = json_format.Parse(document, OnboardRequest())
    assert broken_fields(request) == []
    assert request.kyc_level == 1


def test_health_reads_as_the_guide_shows_it() -> None:
    """Monitors of the first wallet compare these very words."""
    health = GetHealthResponse(status="healthy", database="connected", cache="connected")
    health.providers["tempo"].CopyFrom(ProviderHealth(healthy=True, latency=45))
    health.providers["circle"].CopyFrom(ProviderHealth(healthy=True, latency=120))
    assert json.loads(json_format.MessageToJson(health)) == {
        "status": "healthy",
        "providers": {"tempo": {"healthy": True, "latency": 45}, "circle": {"healthy": True, "latency": 120}},
        "database": "connected",
        "cache": "connected",
    }


def test_a_valid_transfer_passes() -> None:
    """The yardstick of the refusals below."""
    assert broken_fields(transfer()) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": Money(asset="USDC", micros=0)}, "amount"),
        ({"amount": Money(asset="USDC", micros=-1)}, "amount.micros"),
        ({"amount": Money(asset="USDC", micros=2**63 - 1)}, "amount.micros"),
        ({"amount": Money(asset="DOGE", micros=1)}, "amount.asset"),
        ({"amount": Money(micros=1)}, "amount.asset"),
        ({"amount": None}, "amount"),
        ({"recipient": Recipient()}, "recipient.by"),
        ({"recipient": Recipient(phone="call me")}, "recipient.phone"),
        ({"request_id": "1"}, "request_id"),
        ({"memo": "x" * 141}, "memo"),
    ],
)
def test_a_bad_field_is_named_by_its_path(changes: dict[str, object], field: str) -> None:
    """Callers mend what is named; a sum near the end of 64 bits never reaches the ledger."""
    assert field in broken_fields(transfer(**changes))


def test_all_items_of_a_batch_have_one_asset() -> None:
    """A batch costs one fee, and a fee has one asset."""
    items = [
        BatchTransferItem(recipient=Recipient(handle="bob"), amount=Money(asset=asset, micros=1))
        for asset in ("USDC", "EURC")
    ]
    request = BatchTransferRequest(request_id=str(uuid.uuid4()), items=items)
    assert [v.proto.rule_id for v in protovalidate.collect_violations(request)] == ["items.one_asset"]


def test_one_bad_transfer_does_not_refuse_the_others() -> None:
    """Each of many submitted transfers is judged by itself."""
    assert broken_fields(SubmitTransfersRequest(transfers=[transfer(), TransferRequest()])) == []


def test_an_asset_may_be_left_open_where_all_are_meant() -> None:
    """Empty is no asset and yet no mistake."""
    assert broken_fields(GetBalanceRequest()) == []
    assert broken_fields(GetBalanceRequest(asset="DOGE")) == ["asset"]
