"""Links and wires: whose the money is, that each arrival counts once, and that the books know where it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain.errors import BankAccountNotFound, ProviderUnavailable
from providers.custodian import LinkState, OrderState
from tests.workers.house import UNIT
from tests.workers.simulated import SimulatedHouse
from tests.workers.simulated_bank import SimulatedBranch, simulated_branch

FLOAT = 1_000 * UNIT


@pytest.fixture
async def branch(house: SimulatedHouse, tmp_path: Path) -> AsyncIterator[SimulatedBranch]:
    async with simulated_branch(house, tmp_path, standing=FLOAT) as branch:
        yield branch


# --- links ------------------------------------------------------------------------------------------------------------


async def test_a_link_is_active_once_the_custodian_says_so_and_its_instructions_are_kept(
    branch: SimulatedBranch,
) -> None:
    """Processes that answer calls can ask nobody, so what a wire has to say must be there before it is needed."""
    [ann] = await branch.simulated.consumers(1)
    account = await branch.link(ann)
    await branch.round()
    assert await branch.state_of(account) == "PENDING"
    branch.bank.accept_links()
    await branch.round(seconds=10)
    assert await branch.state_of(account) == "ACTIVE"
    told = (await branch.announce(ann)).instructions
    assert told == {
        "rail": "mint",
        "beneficiary_name": "THE OPERATOR",
        "bank_name": "FIRST BANK",
        "account_number": "11111111111",
        "routing_number": "121000248",
        "reference": "CIR0001",
    }


async def test_a_link_whose_answer_was_lost_is_asked_for_again_under_its_key(branch: SimulatedBranch) -> None:
    """Money rule 4, for links: two accounts at the custodian would be two references for one consumer."""
    [ann] = await branch.simulated.consumers(1)
    branch.bank.faults.lose_answers = 1
    account = await branch.link(ann)
    await branch.round()
    branch.bank.accept_links()
    await branch.round(seconds=60)
    await branch.round(seconds=60)
    assert len(branch.bank.links) == 1
    assert await branch.state_of(account) == "ACTIVE"


async def test_refused_links_fail_whether_at_once_or_later(branch: SimulatedBranch) -> None:
    """Both endings reach the consumer's list; an outage is neither of them."""
    ann, bob = await branch.simulated.consumers(2)
    branch.bank.faults.unreachable = True
    at_once, later = await branch.link(ann, number="12340000"), await branch.link(bob)
    await branch.round()
    assert {await branch.state_of(at_once), await branch.state_of(later)} == {"PENDING"}
    branch.bank.faults.unreachable = False
    await branch.round(seconds=10)
    assert await branch.state_of(at_once) == "FAILED"
    branch.bank.accept_links(LinkState.FAILED)
    await branch.round(seconds=60)
    assert await branch.state_of(later) == "FAILED"


async def test_without_a_linked_account_there_is_nothing_a_wire_could_say(branch: SimulatedBranch) -> None:
    """The reference belongs to the account, so it has to be linked first; until it is ready, nobody can tell."""
    [ann] = await branch.simulated.consumers(1)
    with pytest.raises(BankAccountNotFound):
        await branch.announce(ann)
    account = await branch.linked(ann)
    await branch.house.execute("UPDATE bank_links SET state = 'PENDING', instructions = NULL, closed_at = NULL")
    with pytest.raises(ProviderUnavailable):
        await branch.announce(ann, bank_account_id=account)


# --- wires ------------------------------------------------------------------------------------------------------------


async def test_rule_17_a_wire_is_credited_net_of_its_fee_with_the_position_behind_it(branch: SimulatedBranch) -> None:
    """One commit: the consumer has it, it stands at the custodian, and an item brings it to the consumer's address."""
    [ann] = await branch.simulated.consumers(1)
    await branch.linked(ann)
    reference = str((await branch.announce(ann)).instructions["reference"])
    wire = branch.bank.wire(250 * UNIT, tracking=reference, fee=2 * UNIT, state=OrderState.PENDING)
    await branch.round()
    assert await branch.balance(ann) == (100 * UNIT, 0), "a wire on its way is nobody's yet"
    branch.bank.complete_wire(wire.reference)
    await branch.round()
    assert await branch.balance(ann) == (348 * UNIT, 0)
    assert await branch.standing() == (FLOAT + 248 * UNIT, 0)
    await branch.house.prove_clean()

    await branch.simulated.work(2)
    position = await branch.house.position(ann)
    assert position is not None
    assert position.micros == 348 * UNIT, "settled from the operator's float on Tempo"
    [kept] = await branch.deposits()
    assert (kept.state, kept.consumer_id, kept.micros, kept.fee_micros) == ("CREDITED", ann, 250 * UNIT, 2 * UNIT)
    await branch.house.prove_clean()


async def test_each_arrival_counts_once_whoever_looks_how_often(branch: SimulatedBranch) -> None:
    """Two workers, many looks, a custodian that shows the same deposit every time."""
    [ann] = await branch.simulated.consumers(1)
    await branch.linked(ann)
    branch.bank.wire(10 * UNIT, tracking="CIR0001")
    branch.bank.wire(10 * UNIT, tracking="CIR0001")
    other = branch.new_worker()
    for _ in range(3):
        await branch.round()
        await other.step()
    assert await branch.balance(ann) == (120 * UNIT, 0)
    assert len(await branch.deposits()) == 2
    await branch.house.prove_clean()


async def test_a_wire_that_nobody_can_be_found_for_stands_in_suspense(branch: SimulatedBranch) -> None:
    """A mistyped reference, and one whose two names lead to two consumers: an operator's to decide, and a break."""
    ann, bob = await branch.simulated.consumers(2)
    await branch.linked(ann)
    await branch.link(bob, number="99990010")
    await branch.round()
    branch.bank.accept_links()
    await branch.round(seconds=60)
    branch.bank.wire(7 * UNIT, tracking="CIR9999")
    branch.bank.wire(8 * UNIT, tracking="CIR0001", bank="bank-2")
    await branch.round()
    assert await branch.account("suspense") == 15 * UNIT
    assert await branch.balance(ann) == await branch.balance(bob) == (100 * UNIT, 0)
    assert [one.state for one in await branch.deposits()] == ["SUSPENDED", "SUSPENDED"]
    assert await branch.house.breaks() == ["bank_deposit_of_nobody"] * 2
    await branch.house.prove_clean()


async def test_a_wire_without_a_reference_is_known_by_the_bank_it_comes_from(branch: SimulatedBranch) -> None:
    """People forget the reference; the custodian may know the account all the same."""
    [ann] = await branch.simulated.consumers(1)
    await branch.linked(ann)
    branch.bank.wire(5 * UNIT, tracking="", bank="bank-1")
    await branch.round()
    assert await branch.balance(ann) == (105 * UNIT, 0)


async def test_a_wire_to_somebody_who_is_gone_stands_in_suspense(branch: SimulatedBranch) -> None:
    """A closed wallet cannot be opened by a standing order."""
    [ann] = await branch.simulated.consumers(1, micros=0 + UNIT)
    await branch.linked(ann)
    await branch.house.execute("UPDATE wallets SET erased_at = now() WHERE consumer_id = :id", id=ann)
    await branch.house.execute("DELETE FROM bank_accounts")
    branch.bank.wire(5 * UNIT, tracking="CIR0001")
    await branch.round()
    assert await branch.account("suspense") == 5 * UNIT
    await branch.house.prove_clean()


async def test_what_stood_there_before_the_books_began_is_float_and_never_credited(branch: SimulatedBranch) -> None:
    """The deposits that made the float are told again at every look; on the first day of all they must not count."""
    [ann] = await branch.simulated.consumers(1)
    branch.bank.wire(30 * UNIT, tracking="CIR0001")
    late = branch.bank.wire(40 * UNIT, tracking="CIR0001", state=OrderState.PENDING)
    await branch.linked(ann)
    assert await branch.standing() == (FLOAT + 30 * UNIT, 0)
    assert await branch.balance(ann) == (100 * UNIT, 0)
    branch.bank.complete_wire(late.reference)
    await branch.round()
    assert await branch.balance(ann) == (140 * UNIT, 0), "what was still on its way counts when it arrives"
    await branch.house.prove_clean()


async def test_nothing_is_missed_after_a_weekend_away(branch: SimulatedBranch) -> None:
    """No event arrives and nobody polls for two days, nor does the custodian answer at first. A wire that was pending
    for weeks is asked about by its name."""
    [ann] = await branch.simulated.consumers(1)
    await branch.linked(ann)
    slow = branch.bank.wire(3 * UNIT, tracking="CIR0001", state=OrderState.PENDING)
    await branch.round()
    branch.simulated.clock.advance(timedelta(days=20).total_seconds())
    branch.bank.wire(4 * UNIT, tracking="CIR0001")
    branch.bank.complete_wire(slow.reference)
    branch.bank.faults.unreachable = True
    await branch.round(seconds=timedelta(days=2).total_seconds())
    branch.bank.faults.unreachable = False
    await branch.round()
    assert await branch.balance(ann) == (107 * UNIT, 0)


async def test_a_wire_that_its_fee_eats_up_is_no_deposit(branch: SimulatedBranch) -> None:
    """Nothing is left to credit, and nothing stands there for it."""
    [ann] = await branch.simulated.consumers(1)
    await branch.linked(ann)
    branch.bank.wire(2 * UNIT, tracking="CIR0001", fee=2 * UNIT)
    await branch.round()
    assert [one.state for one in await branch.deposits()] == ["FAILED"]
    assert await branch.standing() == (FLOAT, 0)
    await branch.house.prove_clean()


async def test_rule_14_a_balance_at_the_custodian_that_is_not_ours_to_explain_is_a_break(
    branch: SimulatedBranch,
) -> None:
    """Somebody moved the float by hand. One look may fall between two movements; a difference that lasts is told."""
    await branch.round()
    branch.bank.standing -= 25 * UNIT
    await branch.round(seconds=10)
    await branch.house.prove_clean()
    await branch.round(seconds=120)
    proof = await branch.house.prove()
    [difference] = [d for e in proof.equations if e.name == "position_on_rail" for d in e.differences]
    assert (difference.rail, difference.expected, difference.found) == ("mint", FLOAT, FLOAT - 25 * UNIT)
    branch.bank.standing += 25 * UNIT
    await branch.round()
    await branch.house.prove_clean()
