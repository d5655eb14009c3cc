"""What the worker process runs for the treasury, where there is a market and bounds to keep."""

from __future__ import annotations

from domain.clock import Clock, Entropy
from domain.settlement import Rail
from server.rails import Connected
from server.settings import Settings
from server.workers.judge import Judge
from server.workers.settlement import CHAIN, SettlementPace
from server.workers.treasury_desk import Market, TreasuryDesk
from storage.database import Engine


def desks(rail: Connected, settings: Settings, *, engine: Engine, clock: Clock, entropy: Entropy) -> list[TreasuryDesk]:
    """The treasury's desk, or none."""
    if rail.trader is None or not settings.treasury.bounds:
        return []
    address = rail.signer.operator_address
    judge = Judge(
        engine=engine,
        reader=rail.reader,
        rail=Rail.TEMPO,
        chain=CHAIN,
        operator_address=address,
        clock=clock,
        unproven_after=SettlementPace().unproven_after,
    )
    market = Market(
        provider=rail.provider, exchange=rail.exchange, trader=rail.trader, chain=CHAIN, operator_address=address
    )
    policy = settings.treasury
    return [TreasuryDesk(engine=engine, market=market, judge=judge, policy=policy, clock=clock, entropy=entropy)]
