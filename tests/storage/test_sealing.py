"""Personal data at rest: it opens where it was put, with the keys it names, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some

from domain.clock import SystemClock, SystemEntropy
from storage.sealing import KeyFileUnusable, KeyRing, SealBroken, new_key_file

ENTROPY = SystemEntropy(SystemClock())
ROW = UUID("01890000-0000-7000-8000-000000000abc")
OLD, NEW, INDEX = (bytes([number]) * 32 for number in (1, 2, 3))


def ring(*, active: str = "new", **keys: bytes) -> KeyRing:
    return KeyRing(keys or {"old": OLD, "new": NEW}, active=active, index_key=INDEX, entropy=ENTROPY)


def seal(sealer: KeyRing, text: str = "ann@example.com") -> bytes:
    return sealer.seal(text, table="consumers", column="email_sealed", row=ROW)


def opened(opener: KeyRing, sealed: bytes, **place: object) -> str:
    where = {"table": "consumers", "column": "email_sealed", "row": ROW, **place}
    return opener.open(sealed, **where)  # type: ignore[arg-type]


@given(some.text())
def test_what_is_sealed_opens_again(text: str) -> None:
    assert opened(ring(), seal(ring(), text)) == text


def test_equal_values_are_sealed_differently_every_time() -> None:
    """Else a column of sealed values would tell who shares an address."""
    assert seal(ring()) != seal(ring())


@pytest.mark.parametrize(
    "place",
    [{"table": "bank_accounts"}, {"column": "phone_sealed"}, {"row": UUID(int=9)}],
    ids=["another table", "another column", "another row"],
)
def test_a_value_moved_elsewhere_does_not_open(place: dict[str, object]) -> None:
    """Who can write rows must not be able to give one person's address to another."""
    with pytest.raises(SealBroken):
        opened(ring(), seal(ring()), **place)


@given(some.data())
def test_an_altered_value_does_not_open(data: some.DataObject) -> None:
    sealed = bytearray(seal(ring()))
    position = data.draw(some.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(some.integers(1, 255))
    with pytest.raises(SealBroken):
        opened(ring(), bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x02\x03old", b"\x01\x03old"])
def test_what_is_no_sealed_value_does_not_open(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        opened(ring(), sealed)


def test_old_values_stay_readable_when_a_new_key_takes_over() -> None:
    """Rotation adds a key first and seals old rows anew at leisure."""
    sealed = seal(ring(active="old"))
    rotated = ring(active="new")
    assert opened(rotated, sealed) == "ann@example.com"
    assert rotated.key_name(sealed) == "old"
    assert rotated.key_name(seal(rotated)) == "new"


def test_a_value_whose_key_is_gone_says_which_it_needs() -> None:
    with pytest.raises(SealBroken, match="'old'"):
        opened(ring(new=NEW), seal(ring(active="old")))


def test_the_blind_index_is_equal_for_equal_values_of_one_kind_only() -> None:
    assert ring().blind_index("email", "x") == ring(active="old").blind_index("email", "x")
    assert ring().blind_index("email", "x") != ring().blind_index("phone", "x")
    other = KeyRing({"new": NEW}, active="new", index_key=OLD, entropy=ENTROPY)
    assert ring().blind_index("email", "x") != other.blind_index("email", "x")


def test_a_fresh_key_file_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(new_key_file(ENTROPY, name="2026-01"))
    assert KeyRing.read(path, entropy=ENTROPY).key_name(seal(KeyRing.read(path, entropy=ENTROPY))) == "2026-01"


@pytest.mark.parametrize(
    "change",
    [{"active": "other"}, {"index_key": "AAAA"}, {"keys": {"2026-01": "????"}}, {"keys": []}, {"index_key": None}],
    ids=str,
)
def test_a_key_file_with_a_fault_is_refused_without_quoting_it(tmp_path: Path, change: dict[str, object]) -> None:
    document = json.loads(new_key_file(ENTROPY, name="2026-01"))
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({**document, **change}))
    with pytest.raises(KeyFileUnusable) as caught:
        KeyRing.read(path, entropy=ENTROPY)
    assert document["keys"]["2026-01"] not in str(caught.value)
