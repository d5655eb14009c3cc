"""Requests that nobody thought of, made by schemathesis out of the contract: none may end in an answer it lacks.

The same ones each time: the borders of everything that the contract bounds, and a few that are made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.circle import API_KEY, MINT_API_KEY, CircleSandbox
from tests.circle_contract import CONTRACT

# Stands for an encrypted entity secret, which is long to make up and never right: each request gets a real one.
CIPHERTEXT = "A" * 683 + "="


def _contract() -> Any:
    document = yaml.safe_load(CONTRACT.read_text())
    document["components"]["schemas"]["EntitySecretCiphertext"] = {"const": CIPHERTEXT}
    return schemathesis.openapi.from_dict(document)


contract = _contract()
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
    unsupported_method,
]


@pytest.fixture(scope="module")
def fuzzed(circle_process: CircleSandbox) -> Iterator[CircleSandbox]:
    circle_process.reset()
    circle_process.configure(rate_limits=False)
    yield circle_process
    circle_process.reset()


@contract.parametrize()  # type: ignore[untyped-decorator]
@settings(
    max_examples=5,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked_the_answer_is_one_of_the_contract(case: Any, fuzzed: CircleSandbox) -> None:
    key = MINT_API_KEY if "Mint" in case.operation.tags else API_KEY
    if isinstance(case.body, dict) and case.body.get("entitySecretCiphertext") == CIPHERTEXT:
        case.body["entitySecretCiphertext"] = fuzzed.ciphertext()
    case.call_and_validate(base_url=fuzzed.url, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS)
