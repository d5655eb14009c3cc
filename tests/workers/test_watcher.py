"""The watcher: each log once, in block order, in one commit with the cursor; and never on another chain."""

from __future__ import annotations

import asyncio

import pytest

from domain.identity import FEE_PAYER, OPERATOR, ConsumerId
from domain.money import Asset
from domain.postings import AccountKind
from domain.settlement import ItemState
from storage import addresses, proofs
from tests.workers.house import UNIT, until
from tests.workers.simulated import SimulatedHouse


async def account(house: SimulatedHouse, kind: AccountKind, asset: Asset = Asset.USDC) -> int:
    async with house.house.engine.connect() as tx:
        return (await proofs.system_accounts(tx)).get((kind, asset), 0)


async def test_rule_17_the_books_open_with_the_operators_float_in_them(house: SimulatedHouse) -> None:
    """A float that came out of nothing would hide every later hole; here the very first proof is clean."""
    proof = await house.house.prove_clean()
    assert proof.standing[Asset.USDC] == 11_000_000 * UNIT
    assert await house.stands(OPERATOR, Asset.EURC) == (10_000_000 * UNIT, 0)
    assert await account(house, AccountKind.TREASURY) == 11_000_000 * UNIT


async def test_rule_13_an_unannounced_deposit_is_credited_once(house: SimulatedHouse) -> None:
    """By whichever of two watchers comes first, and not again when a range is read twice."""
    [ann] = await house.house.open_wallets(1)
    await house.house.fund(ann, 7 * UNIT)
    house.clock.advance(0.5)
    house.chain.mine()
    other = house.house.new_watcher()
    for watcher in (house.house.watcher, other, house.house.watcher, other):
        await watcher.step()
    assert await house.house.available(ann) == 7 * UNIT
    assert await house.stands(ann) == (7 * UNIT, 0)
    await house.house.prove_clean()


async def test_rule_13_money_for_an_address_nobody_has_goes_to_suspense_and_taints_it(house: SimulatedHouse) -> None:
    """It is the operator's to give back, it is in the proof, and nobody is ever given that address."""
    await house.house.pool.fill()
    rows = await house.house.execute("SELECT address FROM tempo_addresses WHERE state = 'free' ORDER BY 1 LIMIT 1")
    [address] = [row.address for row in rows]
    await house.rail.faucet.fund(address, Asset.USDC, 5 * UNIT)
    await house.block()
    assert await account(house, AccountKind.SUSPENSE) == 5 * UNIT
    assert await house.house.breaks() == ["deposit_to_unassigned_address"]
    await house.house.prove_clean()
    await house.rail.faucet.fund(address, Asset.USDC, UNIT)
    await house.block()
    assert await account(house, AccountKind.SUSPENSE) == 6 * UNIT
    consumers = await house.house.open_wallets(8)
    assert address not in {(await house.house.address(consumer)).address for consumer in consumers}
    async with house.house.engine.connect() as tx:
        assert await addresses.free_count(tx) == 7
    await house.house.prove_clean()


async def test_rule_13_an_address_assigned_in_the_same_moment_makes_it_a_deposit(house: SimulatedHouse) -> None:
    """The watcher saw the address free, and somebody onboarded before its commit: the range is read anew."""
    await house.house.pool.fill()
    submit = house.house.writer.submit
    onboarded: list[ConsumerId] = []

    async def onboard_first(*arguments: object) -> object:
        if not onboarded:
            onboarded.extend(await house.house.open_wallets(1))
        return await submit(*arguments)  # type: ignore[arg-type]

    rows = await house.house.execute(
        "SELECT address FROM tempo_addresses WHERE state = 'free' ORDER BY derivation_index LIMIT 1"
    )
    await house.rail.faucet.fund(rows[0].address, Asset.USDC, 5 * UNIT)
    house.clock.advance(0.5)
    house.chain.mine()
    house.house.writer.submit = onboard_first  # type: ignore[assignment]
    await house.house.watcher.step()
    house.house.writer.submit = submit  # type: ignore[method-assign]
    await house.house.watcher.step()
    assert await house.house.available(onboarded[0]) == 5 * UNIT
    assert await account(house, AccountKind.SUSPENSE) == 0
    await house.house.prove_clean()


async def test_rule_13_an_unexpected_movement_between_ours_is_a_break_and_no_deposit(house: SimulatedHouse) -> None:
    """The proof shows it until a person has decided; nothing is repaired silently."""
    [ann, bob] = await house.consumers(2)
    await house.move_by_hand(ann, bob, 3 * UNIT)
    await house.block()
    assert await house.house.available(bob) == 100 * UNIT
    assert await house.house.breaks() == ["unexpected_transfer"]
    proof = await house.house.prove()
    assert not proof.clean
    wrong = {equation.name: len(equation.differences) for equation in proof.equations}
    assert wrong == {"balance_is_entries": 0, "consumer_backed": 0, "operator_backed": 0, "position_on_rail": 2}


async def test_rule_12_a_copied_memo_settles_nothing(house: SimulatedHouse) -> None:
    """Somebody outside pays with the memo of a waiting item: a deposit, and the item waits on."""
    [ann, bob] = await house.consumers(2)
    item = await house.house.pay(ann, bob, UNIT)
    await house.pay_from_outside(bob, UNIT, memo=item)
    await house.block()
    assert (await house.house.item(item)).state == ItemState.PENDING
    assert await house.house.available(bob) == 102 * UNIT
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED
    await house.house.prove_clean()


async def test_rule_17_float_moved_by_hand_is_booked_as_it_is_and_reported(house: SimulatedHouse) -> None:
    """In and out of both of the operator's addresses."""
    await house.rail.faucet.fund(house.rail.signer.operator_address, Asset.USDC, 5 * UNIT)
    await house.move_operators(2 * UNIT, to=house.rail.signer.fee_payer_address)
    await house.move_operators(UNIT, to="0x" + "5a" * 20)
    await house.block()
    assert await house.stands(OPERATOR) == (10_000_002 * UNIT, 0)
    assert (await house.stands(FEE_PAYER))[0] == 1_000_002 * UNIT
    assert await house.house.breaks() == ["float_moved_by_hand", "float_moved_by_hand"]
    await house.house.prove_clean()


async def test_rule_14_a_range_of_many_blocks_is_applied_in_order(house: SimulatedHouse) -> None:
    """After an outage the watcher catches up in commits of bounded size, and ends where it would have been."""
    [ann, bob] = await house.house.open_wallets(2)
    for _ in range(40):
        await house.house.fund(ann, UNIT)
        house.clock.advance(0.5)
        house.chain.mine()
    await house.block()
    assert await house.house.available(ann) == 40 * UNIT
    await house.house.pay(ann, bob, 39 * UNIT)
    await house.work(4)
    assert await house.stands(bob) == (39 * UNIT, 0)
    await house.house.prove_clean()


async def test_rule_14_another_hash_at_the_cursor_halts_settlement(house: SimulatedHouse) -> None:
    """The chain forgot finalized blocks and went on: nothing is signed, nothing sent, and a break tells of it."""
    [ann, bob] = await house.consumers(2)
    await house.house.pay(ann, bob, UNIT)
    await house.work(2)
    house.chain.forget(2)
    for _ in range(3):
        house.clock.advance(0.5)
        house.chain.mine()
    await house.house.watcher.step()
    assert await house.house.breaks() == ["chain_changed"]
    item = await house.house.pay(ann, bob, UNIT)
    height = house.chain.height
    await house.work(3)
    assert (await house.house.item(item)).state == ItemState.PENDING
    assert not any(house.chain.block(number).transfers for number in range(height, house.chain.height + 1))
    assert "chain changed" in (await house.house.prove()).halted_reason


async def test_rule_14_a_lower_but_younger_head_halts_settlement(house: SimulatedHouse) -> None:
    """A dev chain that was killed begins again below the cursor; no lagging endpoint has a younger block there."""
    await house.block(6)
    house.chain.forget(5)
    house.clock.advance(0.5)
    house.chain.mine()
    await house.house.watcher.step()
    assert await house.house.breaks() == ["chain_changed"]


async def test_rule_14_a_lagging_endpoint_halts_nothing(house: SimulatedHouse) -> None:
    """It is only late; what it shows is as old as it is low."""
    [ann, bob] = await house.consumers(2)
    house.chain.faults.lag_blocks = 4
    await house.house.watcher.step()
    assert await house.house.breaks() == []
    house.chain.faults.lag_blocks = 0
    item = await house.house.pay(ann, bob, UNIT)
    await house.work(2)
    assert (await house.house.item(item)).state == ItemState.CONFIRMED


async def test_the_pool_waits_until_the_watcher_has_begun(house: SimulatedHouse) -> None:
    """Money that reaches an address before anybody watches it would be lost."""
    await house.house.execute("DELETE FROM chain_cursors")
    assert not await house.house.pool.fill()
    await house.house.watcher.step()
    assert await house.house.pool.fill()


async def test_a_head_that_is_announced_is_read_at_once_and_not_at_the_next_look(
    house: SimulatedHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher's own pace is for nodes that announce nothing."""
    [ann] = await house.house.open_wallets(1)
    woken, stop = asyncio.Event(), asyncio.Event()
    watcher = house.house.new_watcher(woken=woken)
    looked = asyncio.Event()

    async def for_ever(_seconds: float) -> None:
        looked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(house.clock, "sleep", for_ever)
    watching = asyncio.create_task(watcher.run(stop))
    await house.house.fund(ann, 7 * UNIT)
    await asyncio.wait_for(looked.wait(), 30)
    assert await house.house.available(ann) == 0
    house.clock.advance(0.5)
    house.chain.mine()
    woken.set()

    async def credited() -> bool:
        return await house.house.available(ann) == 7 * UNIT

    await until(credited)
    stop.set()
    woken.set()
    async with asyncio.timeout(10):
        await watching
