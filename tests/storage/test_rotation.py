"""New keys for old data: everything stays readable and findable at every step, and ends under the new keys."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from domain.bank_accounts import BankAccountState, BankDetails
from domain.clock import SystemClock, SystemEntropy
from domain.errors import EmailTaken, HandleTaken, PhoneTaken
from domain.identity import ConsumerId
from storage import addresses, rotation
from storage.bank_accounts import BankAccount, BankAccounts
from storage.consumers import Contact, Directory
from storage.database import Engine, create_engine
from storage.rotation import Progress, Rotation, with_active, with_key
from storage.schema import bank_accounts, metadata
from storage.sealing import KeyRing, SealBroken, new_key_file

CLOCK = SystemClock()
ENTROPY = SystemEntropy(CLOCK)
ROOT = Path(__file__).parents[2]
ANN = Contact("Ann@example.com", "+14155550100", "Ann Lee")
PLACE = {"line1": "1 Main St", "line2": "", "city": "Boston", "district": "MA", "postal_code": "02101", "country": "US"}
NUMBERS = {"account_number": "12340010", "routing_number": "121000248"}
BANK = BankDetails(holder_name="Ann Lee", bank_name="Bank", **PLACE, **NUMBERS)


@pytest.fixture
async def engine(service_database: str) -> AsyncIterator[Engine]:
    made = create_engine(service_database)
    yield made
    await made.dispose()


class Keys:
    """A key file through the steps of a rotation."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self.path.write_text(new_key_file(ENTROPY, name="old"))

    @property
    def ring(self) -> KeyRing:
        return KeyRing.read(self.path, entropy=ENTROPY)

    def add(self, name: str, *, index: bool = False) -> KeyRing:
        self.path.write_text(with_key(self.path.read_text(), name, index=index, entropy=ENTROPY))
        return self.ring

    def activate(self, name: str, *, index: bool = False) -> KeyRing:
        self.path.write_text(with_active(self.path.read_text(), name, index=index))
        return self.ring

    def drop(self, name: str) -> KeyRing:
        document = json.loads(self.path.read_text())
        del document["keys"][name]
        self.path.write_text(json.dumps(document))
        return self.ring


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


async def onboard(engine: Engine, ring: KeyRing, contact: Contact) -> ConsumerId:
    async with engine.begin() as tx:
        first = await addresses.next_index(tx)
        derived = [f"0x{ENTROPY.token_bytes(20).hex()}"]
        await addresses.add_derived(tx, derived, first_index=first, now=CLOCK.now(), entropy=ENTROPY)
        address = await addresses.take_free(tx)
        assert address is not None
        return (await Directory(ring).add(tx, contact, address, now=CLOCK.now(), onboarding=None)).id


async def link(engine: Engine, ring: KeyRing, consumer: ConsumerId) -> UUID:
    account = BankAccount(ENTROPY.uuid7(), consumer, BANK, BankAccountState.ACTIVE, CLOCK.now())
    columns = BankAccounts(ring).sealed(account, request_key=ENTROPY.uuid7())
    async with engine.begin() as tx:
        await tx.execute(bank_accounts.insert().values(id=account.id, **columns))
    return account.id


async def rotate(engine: Engine, ring: KeyRing) -> list[Progress]:
    """The last word on each table."""
    last: dict[str, Progress] = {}
    async for progress in Rotation(engine=engine, ring=ring).run():
        last[progress.table] = progress
    return list(last.values())


def several(count: int) -> list[Contact]:
    return [Contact(f"p{number}@example.com", f"+1415556{number:04}", f"Person {number}") for number in range(count)]


async def test_after_the_rotation_the_old_key_is_needed_no_more(engine: Engine, keys: Keys) -> None:
    consumer = await onboard(engine, keys.ring, ANN)
    account = await link(engine, keys.ring, consumer)
    keys.add("new")
    rotating = keys.activate("new")
    done = {progress.table: progress for progress in await rotate(engine, rotating)}
    assert (done["consumers"].changed, done["bank_accounts"].changed) == (1, 1)
    ring = keys.drop("old")
    async with engine.connect() as tx:
        found = await Directory(ring).find_by_id(tx, consumer)
        bank = await BankAccounts(ring).find(tx, account)
    assert found is not None
    assert bank is not None
    assert (found.contact, bank.details) == (ANN, BANK)
    counted = await rotation.status(engine)
    assert {column: dict(names) for column, names in counted.items()} == {column: {"new": 1} for column in counted}


async def test_every_sealed_column_of_the_schema_is_rotated() -> None:
    """Who adds one without a word here would lose it with the old key."""
    sealed = {column for table in metadata.sorted_tables for column in table.c if column.name.endswith("_sealed")}
    assert sealed == {table.c[name] for table, names in rotation.SEALED.items() for name in names}


async def test_before_the_rotation_values_of_both_keys_open(engine: Engine, keys: Keys) -> None:
    consumer = await onboard(engine, keys.ring, ANN)
    keys.add("new")
    other = await onboard(engine, keys.activate("new"), several(1)[0])
    async with engine.connect() as tx:
        for one, contact in ((consumer, ANN), (other, several(1)[0])):
            found = await Directory(keys.ring).find_by_id(tx, one)
            assert found is not None
            assert found.contact == contact
    counted = await rotation.status(engine)
    assert dict(counted["consumers.email_sealed"]) == {"old": 1, "new": 1}


async def test_an_index_key_is_replaced_without_anybody_being_lost_or_doubled(engine: Engine, keys: Keys) -> None:
    """Found by email and phone at every step, and nobody can take them a second time."""
    before = keys.ring
    consumer = await onboard(engine, before, ANN)
    for ring in (keys.add("2027", index=True), keys.activate("2027", index=True)):
        await _require_known(engine, ring, consumer)
    done = await rotate(engine, keys.ring)
    assert done[0].changed == 1
    await _require_known(engine, keys.ring, consumer)
    async with engine.connect() as tx:
        assert await Directory(before).find_by_emails(tx, [ANN.email]) == {}, "nothing stands under the old key"
    assert (await rotate(engine, keys.ring))[0].changed == 0


async def _require_known(engine: Engine, ring: KeyRing, consumer: ConsumerId) -> None:
    directory = Directory(ring)
    async with engine.connect() as tx:
        assert await directory.find_by_emails(tx, ["ann@EXAMPLE.com"]) == {"ann@EXAMPLE.com": consumer}
        assert await directory.find_by_phones(tx, [ANN.phone]) == {ANN.phone: consumer}
    with pytest.raises(EmailTaken):
        await onboard(engine, ring, Contact(ANN.email, "+14155550199"))
    with pytest.raises(PhoneTaken):
        await onboard(engine, ring, Contact("other@example.com", ANN.phone))


async def test_a_handle_given_up_under_the_old_index_key_stays_protected(engine: Engine, keys: Keys) -> None:
    ann, bob = [await onboard(engine, keys.ring, contact) for contact in several(2)]
    async with engine.begin() as tx:
        for handle in ("ann", "annie"):
            await Directory(keys.ring).set_handle(tx, ann, handle, now=CLOCK.now())
    keys.add("2027", index=True)
    directory = Directory(keys.activate("2027", index=True))
    with pytest.raises(HandleTaken):
        async with engine.begin() as tx:
            await directory.set_handle(tx, bob, "ann", now=CLOCK.now())
    async with engine.begin() as tx:
        await directory.set_handle(tx, ann, "ann", now=CLOCK.now())


def test_what_request_ids_are_compared_with_outlives_every_key(keys: Keys) -> None:
    """A payment repeated a year later, under other keys, is still the same payment."""
    before = keys.ring.fingerprint("email", "ann@example.com")
    keys.add("2027", index=True)
    keys.add("new")
    keys.activate("2027", index=True)
    assert keys.activate("new").fingerprint("email", "ann@example.com") == before


async def test_progress_is_told_portion_by_portion(engine: Engine, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "CHUNK", 2)
    for contact in several(5):
        await onboard(engine, keys.ring, contact)
    keys.add("new")
    told = [
        (progress.table, progress.rows, progress.looked_at, progress.changed)
        async for progress in Rotation(engine=engine, ring=keys.activate("new")).run()
    ]
    assert told == [
        ("consumers", 5, 2, 2),
        ("consumers", 5, 4, 4),
        ("consumers", 5, 5, 5),
        ("consumers", 5, 5, 5),
        ("bank_accounts", 0, 0, 0),
    ]


async def test_two_rotations_at_once_and_an_erasure_between_them_do_no_harm(engine: Engine, keys: Keys) -> None:
    people = [await onboard(engine, keys.ring, contact) for contact in several(30)]
    keys.add("new")
    ring = keys.activate("new")

    async def erase() -> None:
        async with engine.begin() as tx:
            await Directory(ring).erase(tx, people[7], now=CLOCK.now())

    await asyncio.gather(rotate(engine, ring), rotate(engine, ring), erase())
    ring = keys.drop("old")
    async with engine.connect() as tx:
        found = [await Directory(ring).find_by_id(tx, one) for one in people]
    emails = [one.contact.email for one in found if one is not None]
    assert emails == [contact.email if number != 7 else "" for number, contact in enumerate(several(30))]


async def test_one_person_in_two_rows_is_left_for_a_person_to_judge(engine: Engine, keys: Keys) -> None:
    """Two processes with different files, in the moment between: both let the same email in."""
    first = await onboard(engine, keys.ring, ANN)
    document = json.loads(keys.path.read_text())
    keys.add("2027", index=True)
    ring = keys.activate("2027", index=True)
    # A file whose bearer knows nothing of the old index key, as if the order of the steps had not been kept.
    careless = json.loads(keys.path.read_text())
    careless["index_key"] = careless["index_keys"]["2027"]
    keys.path.write_text(json.dumps(careless))
    second = await onboard(engine, keys.ring, Contact(ANN.email, "+14155550199"))
    assert document["index_key"] != careless["index_key"]
    done = await rotate(engine, ring)
    assert done[0].conflicts == [first]
    assert second not in done[0].conflicts


def test_the_commands_make_and_change_a_key_file(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "storage.rotation", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    path = tmp_path / "keys.json"
    path.write_text(run("new-ring", "2026"))
    sealed = KeyRing.read(path, entropy=ENTROPY).seal("x", table="t", column="c", row=UUID(int=9))
    path.write_text(run("add", str(path), "2027"))
    path.write_text(run("add", str(path), "2027", "--index"))
    assert KeyRing.read(path, entropy=ENTROPY).is_current(sealed)
    path.write_text(run("activate", str(path), "2027"))
    ring = KeyRing.read(path, entropy=ENTROPY)
    assert not ring.is_current(sealed)
    assert ring.open(sealed, table="t", column="c", row=UUID(int=9)) == "x"
    with pytest.raises(SealBroken):
        ring.open(sealed, table="t", column="c", row=UUID(int=8))


async def test_the_job_runs_as_a_command_and_says_how_far_it_is(
    service_database: str, engine: Engine, keys: Keys
) -> None:
    await onboard(engine, keys.ring, ANN)
    keys.add("new")
    keys.activate("new")
    environment = {**os.environ, "DATABASE_URL": service_database, "SEALING_KEYS_FILE": str(keys.path)}
    for action, says in (("run", '"changed": 1'), ("status", "{'new': 1}")):
        command = (sys.executable, "-m", "storage.rotation", action)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        assert says in output.decode()
