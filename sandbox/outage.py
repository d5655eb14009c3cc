"""The demo's chapter about failover: Tempo is taken away in the middle of everything, and nobody who pays notices.

The node is not ended but suspended, as a network that stands still would look: it neither answers nor refuses. Payments
go on; what was not signed for Tempo settles through Circle out of the operator's float; the node comes back, positions
come home, and the proof after this chapter says whether the books are still exact.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from monay.wallet.v1.money_pb2 import GetPortfolioRequest
from monay.wallet.v1.provider_pb2 import GetProviderStatusRequest, GetProviderStatusResponse, RouteReason
from monay.wallet.v1.transaction_pb2 import SettlementState
from monay.wallet.v1.transfer_pb2 import TransferResponse
from sandbox.narrator import CALL_SECONDS, UNIT, Narrator, Person, WrongFigure

PAYMENTS = 5
AWAY_SECONDS = 180.0
"""How long the story waits for what takes a while: probes that time out, blocks at Circle, positions that come home."""


async def tempo_is_taken_away(story: Narrator, ann: Person, ben: Person, *, node: int) -> None:
    """Tell the chapter. `node` is the process that is suspended."""
    story.chapter("Tempo is taken away: its node is suspended in the middle of a running wallet.")
    async with suspended(node):
        began = time.monotonic()
        paid = [await story.transfer(ann, ben, UNIT + n, request_id=str(uuid4())) for n in range(PAYMENTS)]
        each = (time.monotonic() - began) * 1000 / PAYMENTS
        story.say(f"Ann pays Ben {PAYMENTS} times: answered in {each:.1f} ms each, as ever")
        status = await until(story, "routing goes another way", lambda: _chosen(story, "circle"))
        _show(story, status)
        for payment in paid:
            await until(story, "settled through Circle", lambda p=payment: _settled(story, ann, p))  # type: ignore[misc]
        story.check("settled through Circle", len(paid), PAYMENTS)
        await _tell_float(story)
    story.chapter("Tempo is back. What Ann owes for it is settled there, and Ben's money comes home.")
    _show(story, await until(story, "Tempo is chosen again", lambda: _chosen(story, "tempo")))
    await until(story, "nobody's money stands at Circle", lambda: _all_home(story, ben))
    story.say("Ben's position stands on Tempo again")


@asynccontextmanager
async def suspended(process: int) -> AsyncIterator[None]:
    """The process neither answers nor ends, until the block does, however it ends."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


Answer = Callable[[], Awaitable[GetProviderStatusResponse | None]]


async def until(story: Narrator, what: str, asked: Answer) -> GetProviderStatusResponse:
    """Ask until there is an answer, for as long as the story can wait."""
    began = time.monotonic()
    while (answer := await asked()) is None:
        if time.monotonic() - began > AWAY_SECONDS:
            raise WrongFigure(f"{what}: not within {AWAY_SECONDS:.0f} s")
        await asyncio.sleep(0.5)
    return answer


async def _status(story: Narrator) -> GetProviderStatusResponse:
    answer: GetProviderStatusResponse = await story.wallet.GetProviderStatus(
        GetProviderStatusRequest(), metadata=story.as_service, timeout=CALL_SECONDS
    )
    return answer


async def _chosen(story: Narrator, provider: str) -> GetProviderStatusResponse | None:
    """The status, once routing would settle USDC there."""
    status = await _status(story)
    return status if status.routes["USDC"].provider == provider else None


async def _settled(story: Narrator, payer: Person, payment: TransferResponse) -> GetProviderStatusResponse | None:
    settlement = await story.settlement(payer, payment.transaction.id)
    confirmed = settlement.state == SettlementState.SETTLEMENT_STATE_CONFIRMED
    return GetProviderStatusResponse() if confirmed and settlement.provider == "circle" else None


async def _all_home(story: Narrator, person: Person) -> GetProviderStatusResponse | None:
    answer = await story.ask("GetPortfolio", GetPortfolioRequest(consumer_id=person.id))
    abroad = [position.micros for asset in answer.assets for position in asset.positions if position.rail == "circle"]
    return None if sum(abroad) else GetProviderStatusResponse()


async def _tell_float(story: Narrator) -> None:
    for provider in (await _status(story)).providers:
        amounts = ", ".join(f"{amount.micros} {amount.asset}" for amount in provider.float)
        story.say(f"float with {provider.provider}: {amounts}")


def _show(story: Narrator, status: GetProviderStatusResponse) -> None:
    for provider in status.providers:
        health = "healthy" if provider.healthy else "not healthy"
        story.say(f"{provider.provider}: {health}, {provider.success_rate_micros / 10_000:.0f} % of its calls")
    route = status.routes["USDC"]
    reasons = ", ".join(RouteReason.Name(reason).removeprefix("ROUTE_REASON_") for reason in route.reasons)
    story.say(f"USDC would settle through {route.provider} in {route.eta.ToTimedelta()}, because: {reasons}")
