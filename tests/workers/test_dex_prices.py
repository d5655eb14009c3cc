"""Ladders of the exchange's prices as a worker keeps them: for every pair, as old as the block they were read at."""

from __future__ import annotations

from datetime import timedelta

from domain.money import MICROS_PER_UNIT, Asset
from domain.swaps import Ladder, Rung
from server.workers.dex_prices import DexPrices, ExpiredQuotes
from storage import dex_ladders
from tests.workers.bureau import Bureau
from tests.workers.simulated import SimulatedHouse

UNIT = MICROS_PER_UNIT


def prices(house: SimulatedHouse) -> DexPrices:
    return DexPrices(engine=house.house.engine, exchange=house.rail.exchange, clock=house.clock)


async def ladder(house: SimulatedHouse, sell: Asset, buy: Asset) -> Ladder | None:
    async with house.house.engine.connect() as tx:
        return await dex_ladders.read(tx, sell, buy)


async def test_every_pair_of_dollars_has_a_ladder_and_the_euro_has_none(house: SimulatedHouse) -> None:
    """Twelve pairs, five amounts each, in one read of the chain."""
    await prices(house).step()
    found = await ladder(house, Asset.USDC, Asset.PYUSD)
    assert found is not None
    assert found.rungs[0] == Rung(10 * UNIT, 9_998_000)
    assert [rung.sell_micros // UNIT for rung in found.rungs] == [10, 100, 1_000, 10_000, 100_000]
    assert found.read_at == house.chain.time_of(found.block_number)
    assert await ladder(house, Asset.EURC, Asset.USDC) is None
    assert (await house.house.execute("SELECT count(*) FROM dex_ladders"))[0][0] == 12


async def test_a_ladder_grows_old_while_the_chain_is_away(house: SimulatedHouse) -> None:
    """What was read stays, with its time: whether that is still a price is for those who need one to say."""
    await prices(house).step()
    before = await ladder(house, Asset.USDC, Asset.USDT)
    house.clock.advance(60)
    house.chain.faults.unreachable = True
    await prices(house).step()
    assert await ladder(house, Asset.USDC, Asset.USDT) == before


async def test_quotes_that_nobody_took_are_forgotten_and_swaps_are_not(house: SimulatedHouse) -> None:
    """A quote costs nothing to ask for, so there are many. What was swapped is history."""
    [ann] = await house.consumers(1)
    bureau = Bureau(house.house, house.rail.exchange)
    done = await bureau.swap(ann, 10 * UNIT)
    await bureau.service.quote(ann, done.quote.sell, Asset.USDT)
    house.clock.advance(timedelta(days=2).total_seconds())
    await ExpiredQuotes(engine=house.house.engine, clock=house.clock).step()
    rows = await house.house.execute("SELECT id FROM swap_quotes")
    assert [row.id for row in rows] == [done.quote.id]
