"""The choice of chain transactions where some of the items are the two sides of a swap."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from domain.identity import OPERATOR, ItemId
from domain.money import Asset
from domain.settlement import Candidate, QueueKey, choose_groups

ANN, BOB = UUID(int=1_000), UUID(int=1_001)


def item(number: int, sender: UUID, recipient: UUID, micros: int, asset: Asset = Asset.USDC) -> Candidate:
    return Candidate(ItemId(UUID(int=number)), sender, recipient, asset, micros)


def swap(number: int, consumer: UUID, micros: int) -> Candidate:
    """The consumer's side, followed by the operator's under the next number."""
    group = UUID(int=number)
    bought = replace(item(number + 1, OPERATOR, consumer, micros, Asset.USDT), group_id=group)
    return replace(item(number, consumer, OPERATOR, micros), group_id=group, followers=(bought,))


def choose(queues: list[list[Candidate]], spendable: dict[QueueKey, int]) -> list[list[int]]:
    chosen = choose_groups(queues, spendable, calls_per_group=32, max_groups=8)
    return [[candidate.item_id.int for candidate in group] for group in chosen]


FUNDS = {(ANN, Asset.USDC): 100, (BOB, Asset.USDC): 100, (OPERATOR, Asset.USDT): 100}


def test_rule_18_both_sides_of_a_swap_have_a_transaction_to_themselves() -> None:
    """In order, and nothing rides along: what goes with it could make it revert, or be reverted by it."""
    assert choose([[item(1, BOB, ANN, 5)], [swap(10, ANN, 60)]], FUNDS) == [[1], [10, 11]]
    assert choose([[swap(10, ANN, 60)], [item(1, BOB, ANN, 5)]], FUNDS) == [[10, 11], [1]]


def test_rule_18_a_swap_keeps_its_place_in_its_queue() -> None:
    """What was paid before goes before, in another transaction; what was paid after waits for the swap."""
    assert choose([[item(1, ANN, BOB, 5), swap(10, ANN, 60)]], FUNDS) == [[1]]
    assert choose([[swap(10, ANN, 60), item(1, ANN, BOB, 5)]], FUNDS) == [[10, 11]]


def test_rule_08_a_swap_needs_cover_on_both_sides() -> None:
    """Half of it would be a gift to one of the two."""
    assert choose([[swap(10, ANN, 101)]], {**FUNDS, (OPERATOR, Asset.USDT): 1_000}) == []
    assert choose([[swap(10, ANN, 60)]], {**FUNDS, (OPERATOR, Asset.USDT): 59}) == []


def test_rule_08_the_float_is_used_up_across_swaps() -> None:
    """Each is covered alone, and only one of them goes now."""
    assert choose([[swap(10, ANN, 60)], [swap(20, BOB, 60)]], FUNDS) == [[10, 11]]
