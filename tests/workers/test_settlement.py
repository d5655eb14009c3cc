"""Settlement from item to confirmation, on the simulated chain and a real Postgres."""

from __future__ import annotations

from domain.identity import FEE_PAYER, OPERATOR
from domain.money import Asset
from tests.workers.house import FEE, UNIT
from tests.workers.simulated import SimulatedHouse


async def test_rule_17_the_books_open_with_the_operators_float_in_them(house: SimulatedHouse) -> None:
    """A float that came out of nothing would hide every later hole; here the very first proof is clean."""
    proof = await house.house.prove_clean()
    assert proof.standing[Asset.USDC] == 11_000_000 * UNIT
    position = await house.house.position(OPERATOR, Asset.EURC)
    assert position is not None
    assert position.micros == 10_000_000 * UNIT


async def test_a_transfer_is_settled_after_deposit_and_activation(house: SimulatedHouse) -> None:
    """The main road: money arrives unannounced, is paid on in the ledger, and the chain follows."""
    [alice, bob] = await house.house.open_wallets(2)
    await house.house.fund(alice, 10 * UNIT)
    await house.block()
    assert await house.house.available(alice) == 10 * UNIT
    item = await house.house.pay(alice, bob, 3 * UNIT)
    await house.house.prove_clean()
    await house.work(4)
    stored = await house.house.item(item)
    assert (stored.state, stored.transaction_hash is not None) == ("CONFIRMED", True)
    assert house.memos() == {item: 1}
    alice_stands, bob_stands = await house.house.position(alice), await house.house.position(bob)
    assert alice_stands is not None
    assert bob_stands is not None
    assert (alice_stands.micros, alice_stands.reserved_micros) == (7 * UNIT, 0)
    assert bob_stands.micros == 3 * UNIT
    fee_payer = await house.house.position(FEE_PAYER)
    assert fee_payer is not None
    assert fee_payer.micros < 1_000_000 * UNIT
    assert await house.house.available(alice) == 7 * UNIT - FEE
    await house.house.prove_clean()
