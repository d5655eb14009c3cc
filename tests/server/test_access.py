"""Who gets in: every rpc of the contract, tried from outside with every kind of token.

The rpcs are walked by their descriptors, so that a new one is tried without a new test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from monay.wallet.v1 import access_pb2
from monay.wallet.v1.consumer_pb2 import GetConsumerRequest, OnboardRequest
from monay.wallet.v1.provider_pb2 import GetHealthRequest
from server.api.access import Access
from server.api.server import CONSUMER_WALLET, OPERATIONS, SANDBOX

from .conftest import ENTROPY, Metadata, Refusal, Wallet, bearer, consumer, make_token, operator, service, unpacked

METHODS = [method for offered in (CONSUMER_WALLET, OPERATIONS, SANDBOX) for method in offered.methods]
TOKEN_USES = {1: "consumer", 2: "service", 3: "operator"}
SOMEBODY = "01890000-0000-7000-8000-000000000abc"


def declared(method: MethodDescriptor) -> Any:
    return method.GetOptions().Extensions[access_pb2.access]


def guarded() -> Iterator[MethodDescriptor]:
    yield from (method for method in METHODS if not declared(method).public)


async def outcome(wallet: Wallet, method: MethodDescriptor, metadata: Metadata | None, **fields: Any) -> Refusal | None:
    """What becomes of a call of any rpc: its refusal, or None when it was answered."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    codec = (GetMessageClass(method.input_type).SerializeToString, GetMessageClass(method.output_type).FromString)
    request = GetMessageClass(method.input_type)(**fields)
    try:
        if method.server_streaming:
            async for _ in wallet.channel.unary_stream(path, *codec)(request, metadata=metadata, timeout=3):
                return None
        else:
            await wallet.channel.unary_unary(path, *codec)(request, metadata=metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return unpacked(error)
    return None


def token_of(use: int, scopes: list[str]) -> Metadata:
    subject = SOMEBODY if TOKEN_USES[use] == "consumer" else "somebody"
    return bearer(make_token(sub=subject, token_use=TOKEN_USES[use], scope=" ".join(scopes)))


def test_every_rpc_declares_who_may_call_it() -> None:
    """The server does not start otherwise; here is the sentence that says which rpc it is."""
    for method in METHODS:
        Access.declared(method)


async def test_no_rpc_is_reached_without_a_token(wallet: Wallet) -> None:
    for method in guarded():
        refusal = await outcome(wallet, method, None)
        assert refusal is not None, method.full_name
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"), method.full_name


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "Bearer ", "Basic YTpi", "Bearer not.a.token", "bearer", "Token x", make_token(sub="x")],
    ids=range(7),
)
async def test_no_rpc_is_reached_with_something_else_than_a_token(wallet: Wallet, authorization: str) -> None:
    for method in guarded():
        refusal = await outcome(wallet, method, (("authorization", authorization),))
        assert refusal is not None
        assert refusal.reason == "TOKEN_INVALID", method.full_name


async def test_every_rpc_refuses_kinds_of_caller_that_it_does_not_name(wallet: Wallet) -> None:
    for method in guarded():
        for use in TOKEN_USES.keys() - set(declared(method).callers):
            refusal = await outcome(wallet, method, token_of(use, list(declared(method).scopes)))
            assert refusal is not None, method.full_name
            assert refusal.reason == "CALLER_NOT_ALLOWED", method.full_name
            assert refusal.metadata == {"token_use": TOKEN_USES[use]}


async def test_every_rpc_needs_each_of_its_scopes(wallet: Wallet) -> None:
    for method in guarded():
        for use in declared(method).callers:
            for scope in declared(method).scopes:
                others = [other for other in declared(method).scopes if other != scope]
                refusal = await outcome(wallet, method, token_of(use, [*others, "made:up", scope.upper()]))
                assert refusal is not None, method.full_name
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
                assert refusal.metadata == {"scope": scope}, method.full_name


async def test_no_rpc_lets_a_consumer_into_another_wallet(wallet: Wallet) -> None:
    """The answer is the same whether the other exists or not, so that ids cannot be tried out."""
    answer = await wallet.consumers.Onboard(
        OnboardRequest(email="ann@example.com", phone="+14155550100"), metadata=service()
    )
    tried = 0
    for method in guarded():
        if "consumer_id" not in method.input_type.fields_by_name or 1 not in declared(method).callers:
            continue
        refusals = [
            await outcome(wallet, method, token_of(1, list(declared(method).scopes)), consumer_id=other)
            for other in (answer.consumer.id, str(ENTROPY.uuid7()), "00000000-0000-0000-0000-000000000000", "nobody")
        ]
        for refusal in refusals:
            assert refusal is not None, method.full_name
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_YOUR_WALLET")
            assert (refusal.message, refusal.metadata) == (refusals[0] and (refusals[0].message, refusals[0].metadata))
        tried += 1
    assert tried > 25


async def test_every_rpc_about_a_wallet_makes_a_service_name_it(wallet: Wallet) -> None:
    for method in guarded():
        if "consumer_id" in method.input_type.fields_by_name and 3 not in declared(method).callers:
            refusal = await outcome(wallet, method, service())
            assert refusal is not None, method.full_name
            assert refusal.reason == "CONSUMER_ID_REQUIRED", method.full_name


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_no_rpc_takes_the_operators_own_id_for_a_wallet(wallet: Wallet, number: int) -> None:
    """A service that could act for the operator would spend the float."""
    for method in guarded():
        if "consumer_id" in method.input_type.fields_by_name and 2 in declared(method).callers:
            named = f"00000000-0000-0000-0000-00000000000{number}"
            refusal = await outcome(wallet, method, service(), consumer_id=named)
            assert refusal is not None, method.full_name
            assert refusal.reason == "CONSUMER_NOT_FOUND", method.full_name


async def test_a_consumer_may_leave_its_id_out_or_name_it_in_capitals(wallet: Wallet) -> None:
    answer = await wallet.consumers.Onboard(
        OnboardRequest(email="ann@example.com", phone="+14155550100"), metadata=service()
    )
    for named in ("", answer.consumer.id, answer.consumer.id.upper()):
        found = await wallet.consumers.GetConsumer(
            GetConsumerRequest(consumer_id=named), metadata=consumer(answer.consumer.id)
        )
        assert found.consumer == answer.consumer


async def test_operators_do_not_act_as_consumers(wallet: Wallet) -> None:
    refusal = await outcome(wallet, CONSUMER_WALLET.methods_by_name["GetConsumer"], operator(), consumer_id=SOMEBODY)
    assert refusal is not None
    assert refusal.reason == "CALLER_NOT_ALLOWED"


async def test_an_expired_token_says_when_it_ran_out(wallet: Wallet) -> None:
    refusal = await outcome(
        wallet, CONSUMER_WALLET.methods_by_name["GetConsumer"], consumer(SOMEBODY, exp=1_700_000_000)
    )
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    assert refusal.metadata == {"expire_time": "2023-11-14T22:13:20+00:00"}


async def test_health_needs_no_token(wallet: Wallet) -> None:
    answer = await wallet.consumers.GetHealth(GetHealthRequest())
    assert answer.database == "connected"
