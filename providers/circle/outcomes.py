"""What a request that did not succeed means for the order behind it: one of exactly three outcomes.

Only a refusal of the order itself is `Rejected`. A refusal of *us* (a wrong key, a locked account, too many requests)
says nothing about the order, so it is `Retryable`; and whatever leaves open if the key was executed is unknown.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from providers.base import OutcomeUnknown, Rejected, Retryable
from providers.circle.client import CircleFault, NotSent, Refused

log = structlog.get_logger()

KEY_BOUND_TO_ANOTHER_REQUEST = frozenset({156020, 1083, 175403, 177607})
CIPHERTEXT_REUSED = 156004
WRONG_ENTITY_SECRET = 156013

_LONG = timedelta(minutes=1)

# Refusals that pass, and how long to wait: for gas, for the sender's queue, for an account that is being set up.
_PASSING = {
    CIPHERTEXT_REUSED: timedelta(milliseconds=100),
    155201: _LONG,
    155264: timedelta(seconds=5),
    155505: timedelta(seconds=5),
    155509: _LONG,
    155501: timedelta(minutes=5),
}
# Refusals that a person has to look at: our secret, or our key's environment, is not what Circle expects.
_ALARMING = frozenset({WRONG_ENTITY_SECRET, 156006, 156016, 156019})
# A destination that will be as wrong the next time.
_PERMANENT = frozenset({155219, 155220, 155226, 2005, 2007, 2009, 2020, 5011, 5014, 5015})


def outcome_of(fault: CircleFault) -> Rejected | Retryable | OutcomeUnknown:
    """The outcome of a write that failed so."""
    if isinstance(fault, NotSent):
        return Retryable(str(fault))
    if not isinstance(fault, Refused):
        return OutcomeUnknown(str(fault))
    if fault.status == 429:
        return Retryable(str(fault), fault.retry_after or timedelta(seconds=1))
    if fault.code in KEY_BOUND_TO_ANOTHER_REQUEST:
        # Something was executed under this key, and it is not what we ask for now.
        log.error("circle.key_bound_to_another_request", code=fault.code)
        return OutcomeUnknown(str(fault))
    if fault.code in _PASSING:
        return Retryable(str(fault), _PASSING[fault.code])
    if fault.status in (401, 403) or fault.code in _ALARMING:
        log.error("circle.access_refused", status=fault.status, code=fault.code)
        return Retryable(str(fault), _LONG)
    if fault.status == 409:
        return OutcomeUnknown(str(fault))
    return Rejected(str(fault), permanent=fault.code in _PERMANENT, facts={"code": str(fault.code)})
