"""Every reason of the contract is given by a server to a caller in at least one test of the suite.

It runs last (`tests/conftest.py` sees to it) and looks at what callers were told in all tests before it, so it can say
something only after a whole run.
"""

from __future__ import annotations

import pytest

from monay.wallet.v1.error_reason_pb2 import ErrorReason
from tests.reasons import NOT_ON_THE_WIRE, SEEN


def test_every_reason_is_given_to_a_caller_somewhere(request: pytest.FixtureRequest) -> None:
    """A reason that nothing gives is a promise to callers that nobody checked."""
    if _is_part(request.config):
        pytest.skip("says something after a whole run only")
    named = {value.name.removeprefix("ERROR_REASON_") for value in ErrorReason.DESCRIPTOR.values if value.number}
    assert named - SEEN - NOT_ON_THE_WIRE.keys() == set()
    assert SEEN & NOT_ON_THE_WIRE.keys() == set(), "the list of those that cannot be seen is out of date"


def _is_part(config: pytest.Config) -> bool:
    """Whether paths or words chose some of the tests."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return not whole or bool(config.option.keyword or config.option.lf)
