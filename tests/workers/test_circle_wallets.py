"""Wallets made ahead at the Circle simulator: none twice, none unknown, and the operator's own among them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from domain.clock import SystemClock, SystemEntropy
from domain.identity import OPERATOR
from providers.base import ProviderUnavailable
from providers.circle import CircleConfig, CircleRail, EventRules, Rates, connect, known_tokens
from server.workers.circle_wallets import CircleWalletPool
from storage import circle_wallets
from storage.circle_wallets import CircleWallet
from storage.database import Engine, create_engine
from storage.schema import circle_wallets as wallets_table
from tests.circle import API_KEY, ENTITY_SECRET, CircleSandbox

CHAIN = "ARC-TESTNET"
CLOCK = SystemClock()
ENTROPY = SystemEntropy(CLOCK)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    engine = create_engine(database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def rail(circle: CircleSandbox) -> AsyncIterator[CircleRail]:
    circle.configure(rate_limits=False)
    config = CircleConfig(
        wallets_url=circle.url,
        mint_url=circle.url,
        api_key=API_KEY,
        entity_secret=bytes.fromhex(ENTITY_SECRET),
        wallet_set=circle.wallet_set_id,
        chain=CHAIN,
        tokens=known_tokens(CHAIN),
        request_timeout=timedelta(seconds=2),
        rates=Rates(reads=1_000, writes=1_000),
        events=EventRules(),
    )
    rail = connect(config, clock=CLOCK)
    yield rail
    await rail.close()


@pytest.fixture
def pool(engine: Engine, rail: CircleRail) -> CircleWalletPool:
    return CircleWalletPool(engine=engine, rail=rail.wallets, clock=CLOCK, entropy=ENTROPY, target=3)


async def assigned(engine: Engine) -> CircleWallet:
    async with engine.begin() as tx:
        wallet = await circle_wallets.assign(tx, ENTROPY.uuid7(), chain=CHAIN, now=CLOCK.now())
    assert wallet is not None
    return wallet


async def free(engine: Engine) -> int:
    async with engine.connect() as tx:
        return await circle_wallets.free_count(tx, chain=CHAIN)


async def wallets_at(circle: CircleSandbox) -> int:
    with circle.wallets() as client:
        return len(client.get("/v1/w3s/wallets", params={"blockchain": CHAIN}).json()["data"]["wallets"])


async def test_the_pool_is_filled_and_the_operators_wallet_is_the_one_that_people_made(
    circle: CircleSandbox, engine: Engine, pool: CircleWalletPool
) -> None:
    await pool.step()
    assert await free(engine) == 3
    async with engine.connect() as tx:
        own = (await circle_wallets.of_holders(tx, [OPERATOR], chain=CHAIN))[OPERATOR]
    assert own.reference == circle.operator_wallet(CHAIN)["id"]


async def test_an_order_whose_answer_was_lost_makes_no_wallet_that_nobody_knows(
    circle: CircleSandbox, engine: Engine, pool: CircleWalletPool
) -> None:
    """Money would be safe in such a wallet, but nobody would ever look there."""
    circle.set_fault("reset", when="after", method="POST", path="developer/wallets")
    before = await wallets_at(circle)
    with pytest.raises(ProviderUnavailable):
        await pool.step()
    assert await free(engine) == 0
    await pool.step()
    assert await free(engine) == 3
    assert await wallets_at(circle) == before + 3


async def test_a_holder_has_one_wallet_and_circle_is_told_whose_it_is(
    engine: Engine, rail: CircleRail, pool: CircleWalletPool
) -> None:
    await pool.step()
    holder = ENTROPY.uuid7()
    for _ in range(2):
        async with engine.begin() as tx:
            wallet = await circle_wallets.assign(tx, holder, chain=CHAIN, now=CLOCK.now())
    assert wallet is not None
    await pool.step()
    found = await rail.wallets.labelled(holder)
    assert found is not None and found.reference == wallet.reference
    assert await free(engine) == 3, "the one that was taken was replaced"


async def test_different_holders_have_different_wallets_and_an_empty_pool_gives_none(
    engine: Engine, pool: CircleWalletPool
) -> None:
    await pool.step()
    given = [await assigned(engine) for _ in range(3)]
    assert len({wallet.address for wallet in given}) == 3
    async with engine.begin() as tx:
        assert await circle_wallets.assign(tx, ENTROPY.uuid7(), chain=CHAIN, now=CLOCK.now()) is None


async def test_our_addresses_are_known_whoever_asks(engine: Engine, pool: CircleWalletPool) -> None:
    """What comes from one of them is never a deposit of a stranger's (money rule 13)."""
    await pool.step()
    wallet = await assigned(engine)
    async with engine.connect() as tx:
        found = await circle_wallets.of_addresses(tx, [wallet.address, "0x" + "ab" * 20], chain=CHAIN)
    assert found == {wallet.address: wallet}


async def test_two_workers_fill_one_pool(engine: Engine, rail: CircleRail) -> None:
    """There is one open order; who finds it sends it again, and gets the same wallets."""
    pools = [
        CircleWalletPool(engine=engine, rail=rail.wallets, clock=CLOCK, entropy=ENTROPY, target=3) for _ in range(2)
    ]
    for pool in pools:
        await pool.step()
    async with engine.connect() as tx:
        count = (await tx.execute(select(func.count()).select_from(wallets_table))).scalar_one()
    assert count == 4, "three free ones, and the operator's"


async def test_a_restored_database_learns_the_operators_wallet_again(
    engine: Engine, rail: CircleRail, pool: CircleWalletPool
) -> None:
    await pool.step()
    async with engine.begin() as tx:
        known = (await circle_wallets.of_holders(tx, [OPERATOR], chain=CHAIN))[OPERATOR]
        await tx.execute(wallets_table.delete())
    again = CircleWalletPool(engine=engine, rail=rail.wallets, clock=CLOCK, entropy=ENTROPY, target=1)
    await again.step()
    async with engine.connect() as tx:
        found = (await circle_wallets.of_holders(tx, [OPERATOR], chain=CHAIN))[OPERATOR]
    assert found == replace(known)
