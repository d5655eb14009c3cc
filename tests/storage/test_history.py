"""Histories as storage reads them: the same lines in the same order, whatever the page, the filter and the length."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert

from domain.clock import SystemClock, SystemEntropy
from domain.money import Asset
from domain.postings import TransactionKind
from storage import history
from storage.database import Engine, Tx, create_engine, reading
from storage.history import Filters, Line, Place
from storage.schema import entries, stablecoin_balances
from tests.books import open_wallets
from tests.plans import explained

ENTROPY = SystemEntropy(SystemClock())
SHOWN = frozenset({TransactionKind.TRANSFER, TransactionKind.DEPOSIT})
OTHERS = [UUID(int=number) for number in (201, 202, 203)]


@dataclass(frozen=True, slots=True)
class Written:
    """An entry as it was written, with what it can be filtered by."""

    line: Line
    kind: TransactionKind
    counterparty: UUID


async def write_history(engine: Engine, consumer: UUID, count: int, chance: random.Random) -> list[Written]:
    """A history over three assets, with some kinds that are not shown and many entries of one instant."""
    at = datetime(2027, 1, 1, tzinfo=UTC)
    versions = dict.fromkeys([Asset.USDC, Asset.EURC, Asset.USDB], 0)
    written = []
    for _ in range(count):
        at += timedelta(seconds=chance.choice([0, 0, 1, 30]))
        asset = chance.choices(list(versions), [10, 3, 1])[0]
        versions[asset] += 1
        kind = chance.choice([*SHOWN, TransactionKind.FEE_SWEEP])
        other = chance.choices(OTHERS, [50, 10, 1])[0]
        written.append(Written(Line(asset, versions[asset], ENTROPY.uuid7(), at), kind, other))
    rows = [
        {
            "consumer_id": consumer,
            "asset": entry.line.asset,
            "version": entry.line.version,
            "transaction_id": entry.line.transaction_id,
            "kind": entry.kind,
            "counterparty_id": entry.counterparty,
            "available_delta": 0,
            "held_delta": 0,
            "available_after": 0,
            "held_after": 0,
            "created_at": entry.line.created_at,
        }
        for entry in written
    ]
    async with engine.begin() as tx:
        await tx.execute(insert(entries), rows)
        for asset, version in versions.items():
            row = (stablecoin_balances.c.consumer_id == consumer) & (stablecoin_balances.c.asset == asset)
            await tx.execute(stablecoin_balances.update().where(row).values(version=version))
    return written


def newest_first(written: Iterable[Written]) -> list[Line]:
    return sorted(
        (entry.line for entry in written), key=lambda line: (-line.created_at.timestamp(), line.asset, -line.version)
    )


async def whole_place(tx: Tx, consumer: UUID) -> Place:
    versions = await history.newest(tx, consumer, list(Asset))
    return Place({asset: version + 1 for asset, version in versions.items()}, dict.fromkeys(versions, 1))


async def read_all(tx: Tx, consumer: UUID, place: Place, filters: Filters, size: int) -> list[Line]:
    """Every page until the last."""
    lines: list[Line] = []
    following: Place | None = place
    for _ in range(10_000):
        assert following is not None
        page = await history.page(tx, consumer, following, filters, size)
        assert len(page.lines) <= size
        lines += page.lines
        following = page.next
        if following is None:
            return lines
    raise AssertionError("the pages do not end")


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    engine = create_engine(database)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("look_back", [1, 7, 10_000])
async def test_pages_together_are_the_history_whatever_their_size_and_filter(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, look_back: int
) -> None:
    """Nothing is repeated, nothing hidden, and the order is one: also where a page had to stop looking."""
    monkeypatch.setattr(history, "LOOK_BACK", look_back)
    (consumer,) = await open_wallets(engine, 1)
    written = await write_history(engine, consumer, 60, random.Random(look_back))
    async with reading(engine) as tx:
        for size in (1, 6, 500):
            for counterparty in (None, *OTHERS):
                filters = Filters(kinds=SHOWN, counterparty=counterparty)
                wanted = [
                    entry for entry in written if entry.kind in SHOWN and counterparty in (None, entry.counterparty)
                ]
                found = await read_all(tx, consumer, await whole_place(tx, consumer), filters, size)
                assert sorted(found, key=repr) == sorted((entry.line for entry in wanted), key=repr)
                # Of entries of one instant in two assets, a page that had to stop may show the other one first.
                assert [line.created_at for line in found] == [line.created_at for line in newest_first(wanted)]
                if look_back == 10_000:
                    assert found == newest_first(wanted)


async def test_a_rare_filter_fills_its_page_as_long_as_it_need_not_look_too_far(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that shows one page of payments to a friend must not show an empty one before the first of them."""
    monkeypatch.setattr(history, "LOOK_BACK", 10)
    monkeypatch.setattr(history, "MOST_LOOKS", 4)
    (consumer,) = await open_wallets(engine, 1)
    written = await write_history(engine, consumer, 400, random.Random(11))
    rare = Filters(kinds=SHOWN, counterparty=OTHERS[1])
    wanted = [e for e in written if e.kind in SHOWN and e.counterparty == OTHERS[1]]
    async with reading(engine) as tx:
        place = await whole_place(tx, consumer)
        page = await history.page(tx, consumer, place, rare, 3)
        assert [line.created_at for line in page.lines] == [line.created_at for line in newest_first(wanted)[:3]]
        nobody = await history.page(tx, consumer, place, Filters(kinds=SHOWN, counterparty=UUID(int=999)), 3)
    assert nobody.lines == []
    assert nobody.next is not None
    looked_at = {asset: below - nobody.next.below[asset] for asset, below in place.below.items()}
    assert 10 < max(looked_at.values()) <= 40


async def test_a_time_is_found_by_halving_and_includes_its_own_instant(engine: Engine) -> None:
    """Time filters cut exactly, because in one balance time never runs behind the version."""
    chance = random.Random(5)
    (consumer,) = await open_wallets(engine, 1)
    written = await write_history(engine, consumer, 120, chance)
    instants = [entry.line.created_at for entry in written]
    async with reading(engine) as tx:
        versions = await history.newest(tx, consumer, list(Asset))
        for _ in range(40):
            time = chance.choice(instants) + timedelta(seconds=chance.choice([-1, 0, 0, 1, 10_000]))
            found = await history.first_since(tx, consumer, versions, time)
            for asset, last in versions.items():
                expected = [e.line.version for e in written if e.line.asset is asset and e.line.created_at >= time]
                assert found[asset] == min(expected, default=last + 1)


async def test_a_page_costs_the_same_however_long_the_history_and_however_deep_the_page(
    engine: Engine,
) -> None:
    """Counted in blocks read, which do not depend on the machine: a history of millions must not slow an app down."""
    (consumer,) = await open_wallets(engine, 1)
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "INSERT INTO entries SELECT %s::uuid, 'USDC', n, gen_random_uuid(), 'transfer', %s::uuid, 1, 0, n, 0,"
            " timestamptz '2027-01-01' + n * interval '1 second' FROM generate_series(1, 100000) AS n",
            (consumer, OTHERS[0]),
        )
    async with engine.connect() as tx:
        await (await tx.execution_options(isolation_level="AUTOCOMMIT")).exec_driver_sql("VACUUM ANALYZE entries")
    for below in (100_001, 50_000, 60):
        assert await _blocks(engine, consumer, Filters(kinds=SHOWN), below=below) < 30
    nobody = Filters(kinds=SHOWN, counterparty=OTHERS[2])
    assert await _blocks(engine, consumer, nobody, below=100_001) < history.MOST_LOOKS * 1_000
    assert await _blocks(engine, consumer, nobody, below=10_001) < 1_000


async def _blocks(engine: Engine, consumer: UUID, filters: Filters, *, below: int) -> int:
    """How many blocks a page touches; nothing may be read from end to end."""
    place = Place({Asset.USDC: below}, {Asset.USDC: 1})
    async with reading(engine) as tx:
        with explained(engine) as plans:
            await history.page(tx, consumer, place, filters, 50)
    assert plans.found
    assert not plans.scans_tables
    return plans.blocks
