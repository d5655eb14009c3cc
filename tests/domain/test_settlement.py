"""The choice of what one chain transaction carries: order, cover, and full transactions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.identity import OPERATOR, OUTSIDE, ItemId
from domain.money import Asset
from domain.settlement import Candidate, QueueKey, choose_groups, retry_after

ANN, BOB, CAT, DAN = (UUID(int=1_000 + n) for n in range(4))
HOLDERS = (ANN, BOB, CAT, DAN)


def item(number: int, sender: UUID, recipient: UUID, micros: int, *, suspect: bool = False) -> Candidate:
    return Candidate(ItemId(UUID(int=number)), sender, recipient, Asset.USDC, micros, suspect=suspect)


def usdc(**positions: int) -> dict[QueueKey, int]:
    names = {"ann": ANN, "bob": BOB, "cat": CAT, "dan": DAN, "operator": OPERATOR}
    return {(names[name], Asset.USDC): micros for name, micros in positions.items()}


def choose(
    queues: Sequence[Sequence[Candidate]], spendable: dict[QueueKey, int], *, calls: int = 32, groups: int = 8
) -> list[list[int]]:
    """The items' numbers, group by group."""
    chosen = choose_groups(queues, spendable, calls_per_group=calls, max_groups=groups)
    return [[candidate.item_id.int for candidate in group] for group in chosen]


def test_rule_07_a_queue_goes_in_its_order_and_stops_at_what_is_not_covered() -> None:
    """The third would be covered; that it must wait is what keeps every history from getting stuck."""
    queue = [item(1, ANN, BOB, 40), item(2, ANN, BOB, 70), item(3, ANN, BOB, 10)]
    assert choose([queue], usdc(ann=100)) == [[1]]


def test_rule_07_the_prefix_of_a_queue_rides_in_one_transaction() -> None:
    """Transactions with expiring nonces have no order among each other, the calls of one have."""
    queue = [item(n, ANN, BOB, 10) for n in range(1, 6)]
    assert choose([queue], usdc(ann=100), calls=3) == [[1, 2, 3]]


def test_rule_08_an_item_without_cover_waits() -> None:
    """It would revert, and take thirty-one others with it."""
    assert choose([[item(1, ANN, BOB, 101)]], usdc(ann=100)) == []
    assert choose([[item(1, ANN, BOB, 1)]], {}) == []


def test_rule_08_what_an_earlier_call_brings_covers_a_later_one() -> None:
    """Bob has nothing yet: his payment rides behind Ann's, whatever the order of the queues."""
    from_ann, from_bob = [item(1, ANN, BOB, 50)], [item(2, BOB, CAT, 50)]
    assert choose([from_ann, from_bob], usdc(ann=50)) == [[1, 2]]
    assert choose([from_bob, from_ann], usdc(ann=50)) == [[1, 2]]


def test_rule_08_what_another_transaction_brings_covers_nothing() -> None:
    """With room for one call each, Bob's payment has to wait until Ann's is confirmed."""
    assert choose([[item(1, ANN, BOB, 50)], [item(2, BOB, CAT, 50)]], usdc(ann=50), calls=1) == [[1]]


def test_rule_08_the_operator_spends_nothing_that_is_only_on_its_way() -> None:
    """Its items keep no order, so another of its transactions could spend the credit first."""
    assert choose([[item(1, ANN, OPERATOR, 50)], [item(2, OPERATOR, CAT, 50)]], usdc(ann=50)) == [[1]]


def test_rule_08_cover_is_used_up_across_groups() -> None:
    """The operator's two items both fit its position alone, and not together."""
    queues = [[item(1, OPERATOR, ANN, 60)], [item(2, OPERATOR, BOB, 60)]]
    assert choose(queues, usdc(operator=100), calls=1) == [[1]]
    assert choose(queues, usdc(operator=120), calls=1) == [[1], [2]]


def test_rule_09_an_operators_item_holds_no_other_of_the_operator_up() -> None:
    """The big payment waits for the float; the small one need not."""
    assert choose([[item(1, OPERATOR, ANN, 500)], [item(2, OPERATOR, BOB, 5)]], usdc(operator=100)) == [[2]]


def test_assets_are_covered_apart() -> None:
    """A euro pays for no dollar."""
    euro = Candidate(ItemId(UUID(int=1)), ANN, BOB, Asset.EURC, 5)
    assert choose([[euro]], usdc(ann=100)) == []


def test_a_suspect_goes_alone() -> None:
    """Its transaction reverted once: if it is the offender, this time it takes nobody with it."""
    queues = [[item(1, ANN, BOB, 1)], [item(2, BOB, CAT, 1, suspect=True)], [item(3, CAT, DAN, 1)]]
    assert choose(queues, usdc(ann=1, bob=1, cat=1)) == [[1, 3], [2]]
    alone_first = [[item(2, BOB, CAT, 1, suspect=True), item(4, BOB, CAT, 1)], [item(3, CAT, DAN, 1)]]
    assert choose(alone_first, usdc(bob=2, cat=1)) == [[2], [3]]


def test_what_is_refused_waits_longer_each_time_up_to_a_minute() -> None:
    """A paused token costs a look a minute, not a look a block."""
    waits = [retry_after(failures) for failures in range(8)]
    assert waits == sorted(waits)
    assert waits[0] == timedelta(seconds=1)
    assert waits[-1] == timedelta(minutes=1)


micros = st.integers(1, 50)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[list[Candidate]], dict[QueueKey, int], int, int]:
    """Queues of few holders who pay each other a lot, positions that cover some of it, and small transactions."""
    number = 0
    queues = []
    for sender in draw(st.permutations(HOLDERS)):
        queue = []
        for _ in range(draw(st.integers(0, 6))):
            number += 1
            recipient = draw(st.sampled_from([*(h for h in HOLDERS if h != sender), OPERATOR, OUTSIDE]))
            queue.append(item(number, sender, recipient, draw(micros), suspect=draw(st.integers(0, 9)) == 0))
        queues.append(queue)
    for _ in range(draw(st.integers(0, 3))):
        number += 1
        queues.insert(draw(st.integers(0, len(queues))), [item(number, OPERATOR, draw(st.sampled_from(HOLDERS)), 20)])
    spendable = {(holder, Asset.USDC): draw(st.integers(0, 100)) for holder in (*HOLDERS, OPERATOR)}
    return queues, spendable, draw(st.integers(1, 5)), draw(st.integers(1, 6))


def consumers_of(queues: Sequence[Sequence[Candidate]]) -> list[list[int]]:
    return [[c.item_id.int for c in queue] for queue in queues if queue and queue[0].sender != OPERATOR]


@given(situations())
def test_rule_07_what_goes_is_a_prefix_of_each_queue_in_one_group(
    situation: tuple[list[list[Candidate]], dict[QueueKey, int], int, int],
) -> None:
    """Strict order for each sender: nothing overtakes, and one sender never has two transactions at once."""
    queues, spendable, calls, groups = situation
    chosen = choose(queues, spendable, calls=calls, groups=groups)
    for queue in consumers_of(queues):
        parts = [[n for n in group if n in queue] for group in chosen]
        taken = [part for part in parts if part]
        assert len(taken) <= 1
        assert all(part == queue[: len(part)] for part in taken)


@given(situations(), st.randoms(use_true_random=False))
def test_rule_08_no_order_of_transactions_ever_lets_one_revert_for_want_of_cover(
    situation: tuple[list[list[Candidate]], dict[QueueKey, int], int, int], chance: random.Random
) -> None:
    """The groups may be mined in any order, and any of them may be lost."""
    queues, spendable, calls, groups = situation
    chosen = choose_groups(queues, spendable, calls_per_group=calls, max_groups=groups)
    balances: Counter[QueueKey] = Counter(spendable)
    for group in chance.sample(chosen, chance.randint(0, len(chosen))):
        for candidate in group:
            balances[candidate.sender, candidate.asset] -= candidate.micros
            assert balances[candidate.sender, candidate.asset] >= 0
            balances[candidate.recipient, candidate.asset] += candidate.micros


@given(situations())
def test_groups_keep_their_bounds_and_take_nothing_twice(
    situation: tuple[list[list[Candidate]], dict[QueueKey, int], int, int],
) -> None:
    """Tempo refuses a thirty-third call, and an item in two transactions would be paid twice."""
    queues, spendable, calls, groups = situation
    before = dict(spendable)
    chosen = choose(queues, spendable, calls=calls, groups=groups)
    assert len(chosen) <= groups
    assert all(1 <= len(group) <= calls for group in chosen)
    assert max(Counter(n for group in chosen for n in group).values(), default=1) == 1
    assert spendable == before


@given(situations())
def test_whatever_is_covered_goes_when_there_is_room(
    situation: tuple[list[list[Candidate]], dict[QueueKey, int], int, int],
) -> None:
    """With room for everything, each head left behind lacks cover: no queue waits for nothing."""
    queues, spendable, _, _ = situation
    plain = [[item(c.item_id.int, c.sender, c.recipient, c.micros) for c in queue] for queue in queues]
    [*chosen] = choose_groups(plain, spendable, calls_per_group=100, max_groups=100)
    taken = {candidate.item_id for group in chosen for candidate in group}
    left = dict(spendable)
    for group in chosen:
        for candidate in group:
            left[candidate.sender, candidate.asset] -= candidate.micros
    started = {candidate.sender for group in chosen for candidate in group if candidate.sender != OPERATOR}
    for queue in plain:
        waiting = [candidate for candidate in queue if candidate.item_id not in taken]
        if waiting and waiting[0].sender not in started:
            assert left[waiting[0].sender, Asset.USDC] < waiting[0].micros
