"""Who may call what is declared beside each rpc, and nowhere else."""

from __future__ import annotations

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from monay.wallet.v1.access_pb2 import TOKEN_USE_CONSUMER, TOKEN_USE_OPERATOR, TOKEN_USE_SERVICE, Access, access

SCOPES = {"wallet:read", "wallet:write", "consumers:onboard", "operations:read", "operations:write"}


def declared(method: MethodDescriptor) -> Access:
    return method.GetOptions().Extensions[access]


def test_every_rpc_declares_its_access(methods: list[MethodDescriptor]) -> None:
    """An rpc without a declaration would be open to all or to nobody, by accident."""
    for method in methods:
        assert declared(method).public != bool(declared(method).callers), method.full_name


def test_only_known_scopes_are_asked_for(methods: list[MethodDescriptor]) -> None:
    """A misspelt scope is one that no token has."""
    for method in methods:
        assert set(declared(method).scopes) <= SCOPES, method.full_name


def test_operations_are_for_operators_alone_and_wallets_never(methods: list[MethodDescriptor]) -> None:
    """An operator never acts as a consumer, and a consumer's token must not reach the levers."""
    for method in methods:
        callers = set(declared(method).callers)
        if method.containing_service.name == "OperationsService":
            assert callers == {TOKEN_USE_OPERATOR}, method.full_name
        elif declared(method).scopes:
            assert callers <= {TOKEN_USE_CONSUMER, TOKEN_USE_SERVICE}, method.full_name


def test_what_changes_something_needs_a_scope_to_write(methods: list[MethodDescriptor]) -> None:
    """A token that was given out for reading stays one for reading."""
    for method in methods:
        if method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS:
            (scope,) = declared(method).scopes
            assert scope.endswith((":write", ":onboard")), method.full_name
