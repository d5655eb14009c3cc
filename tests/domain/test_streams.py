"""A stream's place, under every order of events, looks, full memory and reconnects."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import streams
from domain.identity import ItemId
from domain.money import Asset
from domain.settlement import ItemState
from domain.streams import Mark, StreamPosition

PENDING, CONFIRMED = ItemState.PENDING, ItemState.CONFIRMED
ASSETS = (Asset.USDC, Asset.EURC)


def items(number: int, state: ItemState) -> dict[ItemId, ItemState]:
    return {ItemId(UUID(int=number)): state}


def test_a_cursor_of_a_settled_past_names_nobody() -> None:
    """The usual case: a few numbers."""
    position = StreamPosition.resumed(Mark.at({Asset.USDC: 4}))
    position.tell((Asset.USDC, 5), UUID(int=5), items(5, CONFIRMED))
    position.tell((Asset.USDC, 6))
    assert position.mark() == Mark.at({**dict.fromkeys(Asset, 0), Asset.USDC: 6})


def test_what_has_not_settled_is_named() -> None:
    """After a reconnect exactly that is looked at again, and nothing that was settled since."""
    position = StreamPosition.resumed(Mark.at({}))
    for version in range(1, 6):
        position.tell((Asset.USDC, version), UUID(int=version), items(version, PENDING if version == 2 else CONFIRMED))
    mark = position.mark()
    assert mark.named == ((Asset.USDC, 2),)
    assert mark.settled[Asset.USDC] == 5


def test_more_than_can_be_named_is_found_again_from_a_place() -> None:
    """The furthest back are named, and from the first of the others on everything is looked at once more."""
    position = StreamPosition.resumed(Mark.at({}))
    for version in range(1, 41):
        position.tell((Asset.USDC, version), UUID(int=version), items(version, PENDING))
    mark = position.mark()
    assert mark.named == tuple((Asset.USDC, version) for version in range(1, streams.NAMED_LIMIT + 1))
    assert mark.settled[Asset.USDC] == streams.NAMED_LIMIT


def test_the_same_state_is_told_once_and_a_new_one_always() -> None:
    """De-duplicated while the stream is open; an item that was never told is news by itself."""
    position = StreamPosition.resumed(Mark.at({}))
    one, two = ItemId(UUID(int=1)), ItemId(UUID(int=2))
    position.tell((Asset.USDC, 1), UUID(int=9), {one: PENDING})
    assert position.moved(UUID(int=9), {one: PENDING}) == []
    assert position.moved(UUID(int=9), {one: ItemState.FAILED, two: PENDING}) == [one, two]
    position.update(UUID(int=9), {one: ItemState.FAILED, two: PENDING})
    assert position.moved(UUID(int=9), {one: ItemState.FAILED, two: CONFIRMED}) == [two]
    position.update(UUID(int=9), {one: ItemState.FAILED, two: CONFIRMED})
    assert position.followed == {}


def test_a_token_that_stands_still_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many transactions of one asset wait, the others' settlement is told."""
    monkeypatch.setattr(streams, "FOLLOWED_LIMIT", 3)
    position = StreamPosition.resumed(Mark.at({}))
    for version in range(1, 10):
        position.tell((Asset.EURC, version), UUID(int=version), items(version, PENDING))
    position.tell((Asset.USDC, 1), UUID(int=99), items(99, PENDING))
    assert UUID(int=99) in position.followed
    assert position.unseen() == {}, "of the asset that stands still no more is looked at for now"
    position.update(UUID(int=1), items(1, CONFIRMED))
    assert position.unseen() == {Asset.EURC: (3, 4)}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(ASSETS), st.sampled_from([PENDING, PENDING, CONFIRMED])),
        st.tuples(st.just("settle"), st.integers(0, 30), st.none()),
        st.tuples(st.just("look"), st.none(), st.none()),
        st.tuples(st.just("reconnect"), st.none(), st.none()),
    ),
    max_size=60,
)


@pytest.mark.parametrize(("followed_limit", "named_limit"), [(1_000, 16), (3, 2)])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(script=steps)
def test_whatever_settles_is_told_across_reconnects_and_full_memory(
    monkeypatch: pytest.MonkeyPatch, followed_limit: int, named_limit: int, script: list[tuple[str, object, object]]
) -> None:
    """Every transaction's last state reaches a client that keeps its cursor, however often it comes back."""
    monkeypatch.setattr(streams, "FOLLOWED_LIMIT", followed_limit)
    monkeypatch.setattr(streams, "NAMED_LIMIT", named_limit)
    ledger: dict[tuple[Asset, int], tuple[UUID, ItemState]] = {}
    client: dict[UUID, ItemState] = {}
    position = StreamPosition.resumed(Mark.at({}))

    def look() -> None:
        while unseen := position.unseen():
            for asset, (behind, last) in unseen.items():
                for version in range(behind + 1, last + 1):
                    position.see((asset, version), ledger[asset, version][0])
        for transaction_id in list(position.followed):
            state = next(state for found, state in ledger.values() if found == transaction_id)
            states = items(transaction_id.int, state)
            if position.moved(transaction_id, states):
                client[transaction_id] = state
            position.update(transaction_id, states)

    for step, what, state in script:
        if step == "event":
            assert isinstance(what, Asset)
            assert isinstance(state, ItemState)
            entry, transaction_id = (what, position.told[what] + 1), UUID(int=len(ledger) + 1)
            ledger[entry] = (transaction_id, state)
            client[transaction_id] = state
            position.tell(entry, transaction_id, items(transaction_id.int, state))
        elif step == "settle" and ledger:
            assert isinstance(what, int)
            entry = list(ledger)[what % len(ledger)]
            ledger[entry] = (ledger[entry][0], CONFIRMED)
        elif step == "look":
            look()
        elif step == "reconnect":
            mark = position.mark()
            assert len(mark.named) <= named_limit
            assert all(mark.settled[asset] <= mark.told[asset] for asset in Asset)
            position = StreamPosition.resumed(mark)
            for entry in mark.named:
                position.follow(entry, ledger[entry][0])
        assert len(position.followed) <= len(ASSETS) * followed_limit + named_limit

    # A full memory waits until something it follows settles; in the end everything does.
    ledger.update({entry: (transaction_id, CONFIRMED) for entry, (transaction_id, _) in ledger.items()})
    for _ in range(len(ledger) + 1):
        look()
    assert client == dict(ledger.values())
