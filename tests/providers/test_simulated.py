"""The simulated chain's own promises: it fails as told, keeps time as told, and repeats itself to the last byte."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from domain.money import Asset
from providers.base import Accepted, Block, Movement, OutcomeUnknown, Party, ProviderUnavailable, Retryable
from providers.simulated import SimulatedConfig, SimulatedRail, Step, connect
from tests.providers.worlds import (
    OUTSIDER,
    SHORT_WINDOW,
    UNIT,
    ManualClock,
    SeededEntropy,
    SimulatedWorld,
    active_consumers,
    attempt_of,
    balance,
    consumers,
    movement,
    operator,
    receipt_of,
    settle,
)


class Died(Exception):
    """The process, at a step."""


def timed(clock: ManualClock, path: Path | None = None) -> SimulatedRail:
    config = SimulatedConfig(seed=b"mock", name="tempo", block_seconds=0.5, path=path)
    return connect(config, clock=clock, entropy=SeededEntropy(3))


async def test_it_plays_any_provider(simulated: SimulatedWorld) -> None:
    """A third provider is a package that passes the contract suite; this one passed it under this name."""
    assert (simulated.provider.name, simulated.provider.rail) == ("third", "third")


async def test_a_dropped_broadcast_is_answered_and_forgotten(simulated: SimulatedWorld) -> None:
    """Nodes return a hash for transactions they drop; handing over again is what helps."""
    attempt = attempt_of(await simulated.provider.prepare([movement(operator(simulated), OUTSIDER, UNIT)]))
    simulated.chain.faults.drop_broadcasts = 1
    assert await simulated.provider.submit(attempt.payload) == Accepted(attempt.reference)
    await simulated.pass_time(2)
    assert await simulated.reader.receipts([attempt.reference]) == {}
    await simulated.provider.submit(attempt.payload)
    assert (await receipt_of(simulated, attempt.reference)).succeeded


async def test_a_lost_answer_took_effect(simulated: SimulatedWorld) -> None:
    """The dangerous half of "unknown"."""
    attempt = attempt_of(await simulated.provider.prepare([movement(operator(simulated), OUTSIDER, UNIT)]))
    simulated.chain.faults.lose_answers = 1
    assert isinstance(await simulated.provider.submit(attempt.payload), OutcomeUnknown)
    assert (await receipt_of(simulated, attempt.reference)).succeeded


async def test_late_inclusion_comes_in_time_or_not_at_all(simulated: SimulatedWorld) -> None:
    """A transaction may be mined up to its last moment and never after it (money rule 3)."""
    window_blocks = int(SHORT_WINDOW.total_seconds() / 0.5)
    for late_blocks, mined in ((window_blocks - 3, True), (window_blocks + 1, False)):
        attempt = attempt_of(await simulated.provider.prepare([movement(operator(simulated), OUTSIDER, UNIT)]))
        simulated.chain.faults.late_blocks = late_blocks
        await simulated.provider.submit(attempt.payload)
        await simulated.pass_time(SHORT_WINDOW.total_seconds() + 3)
        assert (attempt.reference in await simulated.reader.receipts([attempt.reference])) is mined


async def test_a_halted_chain_signs_nothing_after_three_seconds(simulated: SimulatedWorld) -> None:
    """Money rule 5, without a chain to wait for."""
    simulated.chain.faults.halted = True
    await simulated.pass_time(3.5)
    assert isinstance(await simulated.provider.prepare([movement(operator(simulated), OUTSIDER, UNIT)]), Retryable)
    simulated.chain.faults.halted = False
    await simulated.next_block()
    await settle(simulated, [movement(operator(simulated), OUTSIDER, UNIT)])


async def test_a_lagging_view_shows_neither_receipt_nor_block(simulated: SimulatedWorld) -> None:
    """What a lagging node answers is old, and what it lacks is unavailable, not empty."""
    receipt = await settle(simulated, [movement(operator(simulated), OUTSIDER, UNIT)])
    simulated.chain.faults.lag_blocks = 1
    assert await simulated.reader.receipts([receipt.reference]) == {}
    with pytest.raises(ProviderUnavailable):
        await simulated.reader.blocks(receipt.block_number, receipt.block_number)


async def test_an_unreachable_chain_answers_nothing(simulated: SimulatedWorld) -> None:
    """Cut off, every read says so and every broadcast is unknown."""
    attempt = attempt_of(await simulated.provider.prepare([movement(operator(simulated), OUTSIDER, UNIT)]))
    simulated.chain.faults.unreachable = True
    assert isinstance(await simulated.provider.submit(attempt.payload), OutcomeUnknown)
    assert isinstance(await simulated.provider.probe(), Retryable)
    with pytest.raises(ProviderUnavailable):
        await simulated.reader.finalized()


async def test_forgotten_blocks_come_back_with_other_hashes(simulated: SimulatedWorld) -> None:
    """Money rule 14: a killed dev chain forgets what was final, and the cursor's hash is what notices."""
    [party] = await consumers(simulated, 1)
    await settle(simulated, [movement(operator(simulated), party, UNIT)])
    cursor = await simulated.reader.finalized()
    simulated.chain.forget(1)
    assert (await simulated.reader.finalized()).number < cursor.number
    assert await balance(simulated, party) == 0
    await simulated.pass_time(1)
    [block] = await simulated.reader.blocks(cursor.number, cursor.number)
    assert block.hash != cursor.hash


@pytest.mark.parametrize("step", list(Step))
async def test_a_process_can_be_made_to_die_at_each_step(simulated: SimulatedWorld, step: Step) -> None:
    """The crash tests of settlement need a death before signing, before and after the broadcast."""

    def die(at: Step) -> None:
        if at is step:
            raise Died

    simulated.chain.faults.at_step = die
    with pytest.raises(Died):
        await settle(simulated, [movement(operator(simulated), OUTSIDER, UNIT)])
    simulated.chain.faults.at_step = lambda at: None
    before = await balance(simulated, OUTSIDER)
    await simulated.next_block()
    assert await balance(simulated, OUTSIDER) - before == (UNIT if step is Step.SUBMITTED else 0)


async def test_the_same_seed_gives_the_same_chain() -> None:
    """A failing simulation is only worth something when it happens again."""
    assert await _history() == await _history()


async def _history() -> list[Block]:
    world = SimulatedWorld()
    parties = [
        Party.consumer(address=address, index=index)
        for index, address in enumerate(await world.signer.derive_addresses(0, 8))
    ]
    for number in range(40):
        # Named by number: the worlds' own item ids go on from one run to the next.
        moved = Movement(UUID(int=number + 1), Asset.USDC, UNIT, operator(world), parties[number % 8])
        await world.provider.submit(attempt_of(await world.provider.prepare([moved])).payload)
        if number % 5 == 4:
            await world.next_block()
    return await world.reader.blocks(1, world.chain.height)


async def test_blocks_come_by_themselves_in_mock_mode() -> None:
    """`TEMPO_MOCK_MODE` needs nobody to mine."""
    clock = ManualClock()
    rail = timed(clock)
    attempt = attempt_of(await rail.provider.prepare([_from_operator(rail)]))
    await rail.provider.submit(attempt.payload)
    assert await rail.reader.receipts([attempt.reference]) == {}
    clock.advance(0.5)
    assert (await rail.reader.receipts([attempt.reference]))[attempt.reference].succeeded
    clock.advance(3600)
    head = await rail.reader.finalized()
    assert head.number == 7201
    blocks = await rail.reader.blocks(head.number - 1, head.number)
    assert blocks[1].parent_hash == blocks[0].hash
    assert blocks[1].hash == head.hash


async def test_what_waits_through_a_halt_is_not_mined_into_the_past() -> None:
    """A halted chain resumes after the halt; what expired meanwhile is dead."""
    clock = ManualClock()
    rail = timed(clock)
    attempt = attempt_of(await rail.provider.prepare([_from_operator(rail)]))
    await rail.provider.submit(attempt.payload)
    rail.chain.faults.halted = True
    clock.advance(60)
    await rail.reader.finalized()
    rail.chain.faults.halted = False
    clock.advance(1)
    assert await rail.reader.receipts([attempt.reference]) == {}


async def test_a_restart_finds_the_same_chain(tmp_path: Path) -> None:
    """State under `.data/` survives: balances, hashes, receipts, and what the watcher's cursor compares with."""
    clock = ManualClock()
    rail = timed(clock, tmp_path / "chain.jsonl")
    await rail.faucet.fund(OUTSIDER.address, Asset.EURC, 5)
    attempt = attempt_of(await rail.provider.prepare([_from_operator(rail)]))
    await rail.provider.submit(attempt.payload)
    clock.advance(10)
    head = await rail.reader.finalized()
    blocks = await rail.reader.blocks(0, head.number)

    again = timed(clock, tmp_path / "chain.jsonl")
    assert await again.reader.finalized() == head
    assert await again.reader.blocks(0, head.number) == blocks
    assert await again.reader.receipts([attempt.reference]) == await rail.reader.receipts([attempt.reference])
    clock.advance(10)
    more = await again.reader.blocks(head.number, head.number + 20)
    assert more[1].parent_hash == head.hash


async def test_a_fee_payer_without_money_stops_signing() -> None:
    """As on Tempo: what would be dropped without a word is not signed in the first place."""
    clock = ManualClock()
    rail = connect(SimulatedConfig(seed=b"poor", fee_payer_micros=0), clock=clock, entropy=SeededEntropy(3))
    assert isinstance(await rail.provider.prepare([_from_operator(rail)]), Retryable)


async def test_chance_orders_what_waits_together(simulated: SimulatedWorld) -> None:
    """Money rule 8: expiring nonces give no order, so nobody may come to rely on one."""
    parties = await active_consumers(simulated, 1, micros=UNIT)
    orders = set()
    for _ in range(12):
        for micros in (1, 2):
            preparation = await simulated.provider.prepare([movement(operator(simulated), parties[0], micros)])
            await simulated.provider.submit(attempt_of(preparation).payload)
        await simulated.next_block()
        [block] = await simulated.reader.blocks(simulated.chain.height, simulated.chain.height)
        orders.add(tuple(log.micros for log in block.transfers))
    assert orders == {(1, 2), (2, 1)}


def _from_operator(rail: SimulatedRail) -> Movement:
    return movement(Party.operator(rail.signer.operator_address), OUTSIDER, UNIT)
