"""The audit chain: whatever is done to a record or to its place, the verification sees it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from domain.audit import GENESIS, MOST_FAULTS, Fault, FaultKind, Link, Verification, chain_hash, content_hash


def chain_of(length: int) -> list[Link]:
    links: list[Link] = []
    previous = GENESIS
    for sequence in range(1, length + 1):
        content = content_hash("audit_log", f"act {sequence}")
        previous = chain_hash(previous, sequence, content)
        links.append(Link(sequence, content, previous, content))
    return links


def verified(links: list[Link], *, last: int, first: int = 1, head_hash: bytes | None = None) -> list[Fault]:
    before = GENESIS if first == 1 else None
    walk = Verification(first, before)
    walk.walk(link for link in links if first <= link.sequence <= last)
    walk.end(last, head_hash=head_hash)
    return walk.faults


@given(length=st.integers(0, 30), data=st.data())
def test_an_untouched_chain_has_no_fault_as_a_whole_or_in_part(length: int, data: st.DataObject) -> None:
    links = chain_of(length)
    assert verified(links, last=length, head_hash=links[-1].hash if links else GENESIS) == []
    if length:
        first = data.draw(st.integers(1, length))
        assert verified(links, first=first, last=data.draw(st.integers(first, length))) == []


@given(length=st.integers(1, 30), data=st.data())
def test_an_altered_record_is_named(length: int, data: st.DataObject) -> None:
    links = chain_of(length)
    place = data.draw(st.integers(0, length - 1))
    links[place] = replace(links[place], found_hash=content_hash("audit_log", "something else"))
    assert verified(links, last=length) == [Fault(place + 1, FaultKind.ALTERED)]


@given(length=st.integers(1, 30), data=st.data())
def test_a_missing_record_is_named_and_what_follows_it_is_not_blamed(length: int, data: st.DataObject) -> None:
    """Whether the record is gone or its link is."""
    links = chain_of(length)
    place = data.draw(st.integers(0, length - 1))
    gone = [*links[:place], replace(links[place], found_hash=None), *links[place + 1 :]]
    for tampered in (gone, links[:place] + links[place + 1 :]):
        assert verified(tampered, last=length) == [Fault(place + 1, FaultKind.MISSING)]


@given(length=st.integers(2, 30), data=st.data())
def test_records_in_each_others_places_are_found(length: int, data: st.DataObject) -> None:
    links = chain_of(length)
    one = data.draw(st.integers(0, length - 2))
    other = data.draw(st.integers(one + 1, length - 1))
    links[one], links[other] = (
        replace(links[other], sequence=links[one].sequence),
        replace(links[one], sequence=links[other].sequence),
    )
    found = verified(links, last=length)
    assert {Fault(one + 1, FaultKind.REORDERED), Fault(other + 1, FaultKind.REORDERED)} <= set(found)


@given(length=st.integers(1, 30), data=st.data())
def test_who_rewrites_a_record_with_its_hashes_is_given_away_by_the_next_or_by_the_head(
    length: int, data: st.DataObject
) -> None:
    links = chain_of(length)
    head_hash = links[-1].hash
    place = data.draw(st.integers(0, length - 1))
    before = links[place - 1].hash if place else GENESIS
    content = content_hash("audit_log", "rewritten")
    links[place] = Link(place + 1, content, chain_hash(before, place + 1, content), content)
    assert verified(links, last=length, head_hash=head_hash) == [Fault(min(place + 2, length), FaultKind.REORDERED)]


def test_a_hash_says_what_the_record_says_and_not_how_it_is_written() -> None:
    """It is compared for ever: the order of keys is nothing that anybody said, the difference of a value is."""
    assert content_hash("audit_log", {"a": "1", "b": "2"}) == content_hash("audit_log", {"b": "2", "a": "1"})
    assert content_hash("audit_log", "12", "3") != content_hash("audit_log", "1", "23")
    assert content_hash("audit_log", "x") != content_hash("transactions", "x")
    assert content_hash("audit_log", None) != content_hash("audit_log", "None")
    # Written down, so that no change of code or library can change what stands in databases.
    assert content_hash("audit_log", "act", {"reason": "ünusual"}).hex() == (
        "9021433c87f2431b30f69de03a5b755adc83cccda0adb4105166c42018957f58"
    )


def test_a_long_hole_is_told_by_its_beginning() -> None:
    found = verified(chain_of(3), last=10**15)
    assert len(found) == MOST_FAULTS
    assert found[0] == Fault(4, FaultKind.MISSING)
