"""Which movements would revert, found before anything is signed.

One `eth_simulateV1` plays the batch as plain calls in order, on top of a finalized block. The dev chain ignores a 0x76
transaction's `calls` everywhere else, and a plain list gives every offender at once, where a revert gives one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from providers.base import Blocked, Head, Movement, Refusal, RefusalReason
from providers.tempo import contracts
from providers.tempo.endpoints import Call, Endpoint, RpcError
from providers.tempo.transactions import ChainTerms, movement_call


class FeePayerShort(Exception):
    """The fee payer could not be charged, so the network would drop the transaction without a word."""


async def rehearse(
    endpoint: Endpoint, head: Head, movements: Sequence[Movement], terms: ChainTerms, *, operator: str, fee_payer: str
) -> list[str | None]:
    """The revert data of each movement, or None where it passes.

    The first call plays the fee's reservation, as a transfer to the fee manager: it fails for the same reasons.
    """
    reservation = contracts.transfer(contracts.FEE_MANAGER, terms.fee_reservation_micros(len(movements)))
    calls = [_call(fee_payer, terms.fee_token, reservation)]
    for movement in movements:
        calls.append(_call(operator, terms.tokens.address(movement.asset), movement_call(movement, terms).data))
    blocks = await endpoint.call("eth_simulateV1", [{"blockStateCalls": [{"calls": calls}]}, hex(head.number)])
    fee, *results = blocks[0]["calls"]
    if not _passed(fee):
        raise FeePayerShort(contracts.refusal_reason(fee["returnData"]))
    return [None if _passed(result) else result["returnData"] for result in results]


def _call(sender: str, token: str, data: bytes) -> dict[str, str]:
    return {"from": sender, "to": token, "data": "0x" + data.hex()}


def _passed(result: dict[str, Any]) -> bool:
    return int(result["status"], 16) == 1


_POLICY_OF_TOKEN: Final = contracts.pack("transferPolicyId()")


async def refusal(endpoint: Endpoint, head: Head, movement: Movement, data: str, terms: ChainTerms) -> Refusal:
    """What a movement's revert data means, and whose end it lies with."""
    reason = contracts.refusal_reason(data)
    blocked: Blocked | None = None
    if reason is RefusalReason.POLICY_FORBIDS:
        blocked = await _blocked_end(endpoint, head, movement, terms.tokens.address(movement.asset))
    elif reason.permanent:
        blocked = "destination"
    return Refusal(movement.item_id, reason, at_block=head.number, blocked=blocked, detail=data)


async def _blocked_end(endpoint: Endpoint, head: Head, movement: Movement, token: str) -> Blocked | None:
    """Ask the policy registry whom it means: rule 10 goes one way for a blocked sender, another for a recipient."""
    policy = await endpoint.call("eth_call", [{"to": token, "data": "0x" + _POLICY_OF_TOKEN.hex()}, hex(head.number)])
    answers = await endpoint.batch(
        [
            _authorization("isAuthorizedSender(uint64,address)", policy, movement.source.address, head),
            _authorization("isAuthorizedRecipient(uint64,address)", policy, movement.destination.address, head),
        ]
    )
    allowed = [int(answer, 16) == 1 for answer in answers if not isinstance(answer, RpcError)]
    if len(allowed) < len(answers):
        return None
    source_allowed, destination_allowed = allowed
    if source_allowed:
        return None if destination_allowed else "destination"
    return "source" if destination_allowed else "both"


def _authorization(signature: str, policy: str, user: str, head: Head) -> Call:
    data = contracts.pack(signature, int(policy, 16), user)
    return ("eth_call", [{"to": contracts.TIP403_REGISTRY, "data": "0x" + data.hex()}, hex(head.number)])
