"""The treasury's desk on a real Tempo node: sold on the exchange, booked from events, buried when it cannot land."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from domain.clock import SystemClock
from domain.identity import OPERATOR
from domain.money import Asset
from domain.postings import AccountKind
from domain.settlement import Rail
from domain.treasury import Bounds, TreasuryPolicy
from providers.base import Retryable
from providers.market import PreparedSale, Sale
from providers.tempo import TempoRail, connect
from sandbox.tempo_node import TempoNode
from server.workers.judge import Judge
from server.workers.settlement import CHAIN
from server.workers.treasury_desk import Market, TreasuryDesk
from storage.proofs import system_accounts
from tests.system.tempo import Chain, System, system_on
from tests.workers.house import UNIT, running, until


@dataclass
class Desk:
    """The desk of a system, and the rail it trades on."""

    system: System
    rail: TempoRail
    desk: TreasuryDesk

    async def positions(self) -> dict[Asset, tuple[int, int]]:
        found = {}
        for asset in (Asset.USDC, Asset.USDT):
            position = await self.system.house.position(OPERATOR, asset)
            assert position is not None
            found[asset] = (position.micros, position.reserved_micros)
        return found

    async def sales(self) -> list[Any]:
        return await self.system.house.execute("SELECT * FROM treasury_sales ORDER BY created_at")

    async def ended(self) -> list[str]:
        """How every sale ended, once all have."""

        async def all_have() -> bool:
            await self.desk.step()
            return all(sale.state != "SIGNED" for sale in await self.sales())

        await until(all_have, seconds=60)
        return [sale.state for sale in await self.sales()]

    async def account(self, kind: AccountKind, asset: Asset) -> int:
        async with self.system.house.engine.connect() as tx:
            return (await system_accounts(tx)).get((kind, asset), 0)


@asynccontextmanager
async def desk_on(node: TempoNode, database: str, *, trader: Any = None) -> AsyncIterator[Desk]:
    """A desk whose treasury wants a thousand USDT more than it has, and has far too much USDC."""
    chain = await Chain.of(node)
    rail = connect(chain.config(), clock=SystemClock())
    async with system_on(chain, database) as system:
        house = system.house
        address = rail.signer.operator_address
        head = await rail.reader.finalized()
        usdc, usdt = [
            (await rail.reader.balances([address], asset, at_block=head.number))[address]
            for asset in (Asset.USDC, Asset.USDT)
        ]
        want = 1_000 * UNIT
        policy = TreasuryPolicy(
            bounds={
                Asset.USDC: Bounds(usdc - 3 * want, usdc - want),
                Asset.USDT: Bounds(usdt + want // 2, usdt + 3 * want // 2),
            }
        )
        judge = Judge(
            engine=house.engine,
            reader=rail.reader,
            rail=Rail.TEMPO,
            chain=CHAIN,
            operator_address=address,
            clock=house.clock,
            unproven_after=house.pace.unproven_after,
        )
        market = Market(
            provider=rail.provider,
            exchange=rail.exchange,
            trader=trader(rail) if trader else rail.provider,
            chain=CHAIN,
            operator_address=address,
        )
        desk = TreasuryDesk(
            engine=house.engine, market=market, judge=judge, policy=policy, clock=house.clock, entropy=house.entropy
        )
        async with running(house.watcher):
            await until(lambda: _opened(system))
            yield Desk(system, rail, desk)
    await rail.close()


async def _opened(system: System) -> bool:
    return await system.house.position(OPERATOR, Asset.USDT) is not None


async def test_rule_17_a_sale_on_the_exchange_is_booked_from_its_events(tempo_node: TempoNode, database: str) -> None:
    """Both sides in one commit by way of external:dex, the network's fee named, and the chain agrees to the micro."""
    async with desk_on(tempo_node, database) as desk:
        before = await desk.positions()
        await desk.desk.step()
        assert await desk.ended() == ["CONFIRMED"]
        [sale] = await desk.sales()
        after = await desk.positions()
        assert (sale.sell_asset, sale.buy_asset, sale.sell_micros) == ("USDC", "USDT", 1_000 * UNIT)
        assert 999 * UNIT < sale.bought_micros < 1_000 * UNIT
        assert after[Asset.USDC] == (before[Asset.USDC][0] - sale.sell_micros, 0)
        assert after[Asset.USDT] == (before[Asset.USDT][0] + sale.bought_micros, 0)
        assert await desk.account(AccountKind.EXTERNAL_DEX, Asset.USDC) == sale.sell_micros
        assert await desk.account(AccountKind.EXTERNAL_DEX, Asset.USDT) == -sale.bought_micros
        [attempt] = await desk.system.house.execute("SELECT state, fee_micros FROM settlement_attempts")
        assert attempt.state == "CONFIRMED"
        assert attempt.fee_micros > 0
        assert await desk.system.house.breaks() == []
        await desk.system.house.prove_clean()
        await desk.desk.step()
        assert len(await desk.sales()) == 1, "the treasury is content"


class GreedyTrader:
    """Signs sales that ask for more than the market gives."""

    def __init__(self, rail: TempoRail) -> None:
        self._rail = rail

    async def prepare_sale(self, sale: Sale, *, least_micros: int) -> PreparedSale | Retryable:
        return await self._rail.provider.prepare_sale(sale, least_micros=2 * sale.sell_micros)


async def test_a_sale_that_reverts_costs_its_fee_and_frees_its_cover(tempo_node: TempoNode, database: str) -> None:
    """The market moved away: status 0 is final, nothing was sold, and the fee is booked all the same."""
    async with desk_on(tempo_node, database, trader=GreedyTrader) as desk:
        before = await desk.positions()
        await desk.desk.step()
        assert await desk.positions() == before | {Asset.USDC: (before[Asset.USDC][0], 1_000 * UNIT)}

        async def failed() -> bool:
            return [sale.state for sale in await desk.sales()] == ["FAILED"]

        await until(failed, seconds=60)
        assert await desk.positions() == before
        assert await desk.account(AccountKind.EXTERNAL_DEX, Asset.USDC) == 0
        await desk.system.house.prove_clean()


class ForgetfulTrader:
    """Signs sales whose payload no node will ever take."""

    def __init__(self, rail: TempoRail) -> None:
        self._rail = rail

    async def prepare_sale(self, sale: Sale, *, least_micros: int) -> PreparedSale | Retryable:
        prepared = await self._rail.provider.prepare_sale(sale, least_micros=least_micros)
        assert isinstance(prepared, PreparedSale)
        return replace(prepared, attempt=replace(prepared.attempt, payload=prepared.attempt.payload[:-1]))


async def test_rule_3_a_sale_that_never_landed_is_buried_by_proof_and_made_again(
    tempo_node: TempoNode, database: str
) -> None:
    """Until a finalized block past its expiry proves it dead, nothing else is sold and its cover stays reserved."""
    async with desk_on(tempo_node, database, trader=ForgetfulTrader) as desk:
        before = await desk.positions()
        await desk.desk.step()
        await desk.desk.step()
        assert [sale.state for sale in await desk.sales()] == ["SIGNED"]

        async def dead() -> bool:
            await desk.desk.step()
            return bool((await desk.sales())[0].state == "DEAD")

        await until(dead, seconds=60)
        assert await desk.positions() == before
        await desk.system.house.prove_clean()
        await desk.desk.step()
        assert [sale.state for sale in await desk.sales()] == ["DEAD", "SIGNED"]
