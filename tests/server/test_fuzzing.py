"""Whatever is sent: an answer or a reason, never a fault of ours, and not a micro more or less in the books."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monay.wallet.v1 import access_pb2
from sandbox.postgres import Postgres
from server.api.server import CONSUMER_WALLET, OPERATIONS, SANDBOX
from tests.fuzzing.player import Caller, Player

from .conftest import bearer, make_token, operator, service
from .people import Person, Town, new_town

SEED = int(os.environ.get("FUZZ_SEED", "7"))
CALLS = int(os.environ.get("FUZZ_CALLS", "1500"))
METHODS = [method for offered in (CONSUMER_WALLET, OPERATIONS, SANDBOX) for method in offered.methods]
UNIT = 1_000_000


@pytest.fixture
async def town(postgres: Postgres, migrated_template: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town whose books are audited when its test is over."""
    async with new_town(postgres, migrated_template, tmp_path, default_deadline_seconds=5) as town:
        yield town


async def sums(town: Town) -> list[tuple[str, int]]:
    """All money of consumers and of the operator, by asset. Only what comes in or goes out changes it."""
    rows = await town.books.execute(
        "SELECT asset, sum(micros)::bigint FROM ("
        " SELECT asset, available_micros + held_micros AS micros FROM stablecoin_balances"
        " UNION ALL SELECT asset, micros FROM system_balances"
        " UNION ALL SELECT asset, delta_micros FROM system_entries"
        ") AS all_money GROUP BY asset ORDER BY asset"
    )
    return [(row[0], int(row[1])) for row in rows]


@pytest.mark.timeout(3_600)
async def test_no_input_makes_a_fault_or_changes_what_there_is(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    people = [await town.settle_in(name, usdc=1_000 * UNIT, EURC=1_000 * UNIT) for name in ("ann", "bob", "cy", "dee")]
    for person in people:
        await town.name(person)
    await furnish(town)
    before = await sums(town)
    player = Player(town.wallet.channel, METHODS, callers_of(people), seed=SEED)
    player.values.known += [str(person.id) for person in people]
    player.expendable = str(people[-1].id)
    score = await player.play(CALLS)
    with capsys.disabled():
        # Passed or not, the figures are what one wants to know.
        print(f"\nfuzzing, seed {SEED}: {score.table()}")  # noqa: T201
    assert not score.faults, "\n".join(score.faults)
    assert len(score.calls) == len(METHODS)
    assert score.endings["OK"] > CALLS // 20, "most of it never got past the edge"
    assert await sums(town) == before


async def furnish(town: Town) -> None:
    """What workers and operators have found out: without it most calls end in "too old"."""
    await town.books.execute(
        "INSERT INTO provider_health (provider, healthy, breaker, latency_ms, success_rate_micros, detail, checked_at)"
        " VALUES ('tempo', true, 'closed', 12, 1000000, '', now() + interval '1 hour')"
    )
    await town.books.execute(
        "INSERT INTO reference_rates (pair, rate_micros, source, quoted_at)"
        " VALUES ('EUR/USD', 1080000, 'fuzzing', now()) ON CONFLICT DO NOTHING"
    )


def callers_of(people: list[Person]) -> list[Caller]:
    """Those people's apps, a service, two operators, somebody who may do little, and nobody."""
    apps = [Caller(access_pb2.TOKEN_USE_CONSUMER, person.token, str(person.id)) for person in people]
    little = make_token(sub=str(people[0].id), token_use="consumer", scope="wallet:read")
    return [
        *apps,
        *apps,
        Caller(access_pb2.TOKEN_USE_CONSUMER, bearer(little), str(people[0].id)),
        Caller(access_pb2.TOKEN_USE_SERVICE, service()),
        Caller(access_pb2.TOKEN_USE_OPERATOR, operator("maria")),
        Caller(access_pb2.TOKEN_USE_OPERATOR, operator("chris")),
        Caller(access_pb2.TOKEN_USE_UNSPECIFIED, ()),
    ]
