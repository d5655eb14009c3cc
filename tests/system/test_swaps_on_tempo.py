"""Swaps on a real Tempo node: priced on its exchange, settled in one chain transaction, counted by the node itself."""

from __future__ import annotations

from domain.clock import SystemClock
from domain.money import Asset, Money
from providers.market import Sale
from providers.tempo import connect
from sandbox.tempo_node import TempoNode
from tests.system.tempo import Chain, System, system_on
from tests.workers.bureau import Bureau
from tests.workers.house import UNIT, running, until


async def balance(system: System, address: str, asset: Asset) -> int:
    reader = system.house.rail.reader
    head = await reader.finalized()
    return (await reader.balances([address], asset, at_block=head.number))[address]


async def test_rule_18_a_swap_settles_atomically_on_the_chain(tempo_node: TempoNode, database: str) -> None:
    """Dollars for dollars at the exchange's price and euros at the reference rate, each in a transaction of its own."""
    chain = await Chain.of(tempo_node)
    exchange_rail = connect(chain.config(), clock=SystemClock())
    async with system_on(chain, database) as system:
        house = system.house
        async with running(house.watcher, house.settlement):
            [ann, bob] = await system.consumers(2)
            await system.credited([ann, bob])
            bureau = Bureau(house, exchange_rail.exchange)
            dollars = await bureau.swap(ann, 5 * UNIT)
            euros = await bureau.swap(ann, 5 * UNIT, buy=Asset.EURC)
            payment = await house.pay(bob, ann, 2 * UNIT)
            await system.settled()
        sides = [[receipt.item_id for receipt in done.recorded.receipts] for done in (dollars, euros)]
        await system.require_each_once([*sides[0], *sides[1], payment])
        hashes = [{(await house.item(item)).transaction_hash for item in items} for items in (*sides, [payment])]
        assert [len(of_group) for of_group in hashes] == [1, 1, 1]
        assert len(set.union(*hashes)) == 3
        # A ten-unit sale buys 9.998 by way of pathUSD; half of a thousandth of that stays with the operator.
        assert dollars.quote.buy.micros == 4_996_500
        address = (await house.address(ann)).address
        assert await balance(system, address, Asset.USDT) == dollars.quote.buy.micros
        assert await balance(system, address, Asset.EURC) == euros.quote.buy.micros
        assert await balance(system, address, Asset.USDC) == 12 * UNIT
    await exchange_rail.close()


async def test_a_deployments_worker_keeps_the_prices_and_settles_the_swap(tempo_node: TempoNode, database: str) -> None:
    """The API's part of a swap talks to Postgres alone: the price comes from there, and the swap is there to settle."""
    chain = await Chain.of(tempo_node)
    rail = connect(chain.config(), clock=SystemClock())
    async with system_on(chain, database) as system, system.worker():
        [ann] = await system.consumers(1)
        await system.credited([ann])

        async def priced() -> bool:
            return bool(await system.house.execute("SELECT 1 FROM dex_ladders WHERE sell_asset = 'USDC'"))

        await until(priced)
        bureau = Bureau(system.house, rail.exchange)
        done = await bureau.take(await bureau.service.quote(ann, Money(Asset.USDC, 5 * UNIT), Asset.PYUSD))
        await system.settled()
        await system.require_each_once([receipt.item_id for receipt in done.recorded.receipts])
    await rail.close()


async def test_the_exchange_gives_nothing_beyond_its_depth(tempo_node: TempoNode) -> None:
    """A definite answer of the chain is told from no answer: one is a missing rung, the other an old ladder."""
    chain = await Chain.of(tempo_node)
    rail = connect(chain.config(), clock=SystemClock())
    sales = [Sale(Asset.USDC, Asset.USDT, units * UNIT) for units in (1_000, 100_000_000)]
    prices = await rail.exchange.prices(sales)
    await rail.close()
    some, none = prices.buy_micros
    assert some is not None
    assert 999 * UNIT < some < 1_000 * UNIT
    assert none is None
    assert rail.exchange.assets == frozenset(Asset) - {Asset.EURC}
