"""The reasons for a refusal: one list, complete, documented, and the same in the domain, the prose and the docs."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from domain.errors import WalletError
from monay.wallet.v1 import error_reason_pb2
from monay.wallet.v1.error_reason_pb2 import ErrorFacts, ErrorReason

from .conftest import ROOT

REASONS = {
    value.name.removeprefix("ERROR_REASON_"): value.GetOptions().Extensions[error_reason_pb2.error]
    for value in ErrorReason.DESCRIPTOR.values
    if value.number
}


def domain_errors(base: type[WalletError] = WalletError) -> Iterator[type[WalletError]]:
    """Every refusal the domain knows."""
    for error in base.__subclasses__():
        yield error
        yield from domain_errors(error)


def keys(facts: ErrorFacts) -> set[str]:
    return set(facts.metadata.split())


def test_every_reason_declares_a_status_and_a_fitting_name() -> None:
    """ErrorInfo allows reasons of up to 63 characters; SDKs look codes up by name."""
    for reason, facts in REASONS.items():
        assert facts.status in grpc.StatusCode.__members__, reason
        assert re.fullmatch(r"[A-Z][A-Z_]{1,61}[A-Z]", reason)


def test_only_what_passes_by_itself_is_resource_exhausted() -> None:
    """That code carries RetryInfo and is retried by SDKs, so a limit or an empty wallet must not have it."""
    exhausted = {reason for reason, facts in REASONS.items() if facts.status == "RESOURCE_EXHAUSTED"}
    assert exhausted == {"RATE_LIMITED", "OVERLOADED"}


def test_what_is_remembered_is_definite_and_a_matter_of_business() -> None:
    """A stored refusal that might have taken effect, or that a retry would cure, would be a lie for ever."""
    for reason, facts in REASONS.items():
        if facts.remembered:
            assert (facts.status, facts.unknown) == ("FAILED_PRECONDITION", False), reason


def test_the_domain_refuses_as_the_contract_says() -> None:
    """The domain's classes and the contract's reasons are written apart and must not drift."""
    for error in domain_errors():
        if not error.reason:
            continue
        facts = REASONS[error.reason]
        assert error.remembered == facts.remembered, error.reason
        own = {field.name for field in dataclasses.fields(error)}  # type: ignore[arg-type]
        assert own - keys(facts) <= {"violations"}, error.reason


def test_the_prose_names_reasons_that_exist_and_all_of_them(prose: dict[str, str]) -> None:
    """A comment that promises an error nobody can give, or an error no comment promises, misleads the caller."""
    named: set[str] = set()
    for place, text in prose.items():
        in_lists = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text.partition("Errors")[2]))
        assert in_lists <= REASONS.keys(), (place, in_lists - REASONS.keys())
        named |= REASONS.keys() & set(re.findall(r"\b[A-Z_]+\b", text))
    assert REASONS.keys() == named, REASONS.keys() - named


def test_streams_say_how_they_begin_go_on_and_are_taken_up_again(prose: dict[str, str]) -> None:
    """What a client of a stream has to know, and finds out too late otherwise."""
    for name in ("ExportStatement", "WatchBalances", "WatchTransactions"):
        text = prose[f"ConsumerWalletService.{name}"]
        assert all(word in text for word in ("Snapshot:", "Order:", "Reconnect:")), name


def test_the_errors_page_is_what_the_contract_says(
    descriptors: FileDescriptorSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/errors.md is made from the proto; whoever reads the docs reads the contract."""
    monkeypatch.syspath_prepend(ROOT / "proto")
    page = importlib.import_module("errors_page").errors_page(descriptors.SerializeToString())
    assert page == (ROOT / "docs/errors.md").read_text()
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == list(REASONS)
