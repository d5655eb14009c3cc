"""Handles: one name for one person, and money meant for who had it before reaches no stranger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest
import pytest_asyncio

from domain.handles import PROTECTED_FOR
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1.transfer_pb2 import Recipient
from sandbox.postgres import Postgres
from tests.books import DOLLAR

from .conftest import refused
from .people import Person, Town, new_town, transfer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann")


@pytest_asyncio.fixture(loop_scope="module")
async def bob(town: Town) -> Person:
    return await town.settle_in("bob", usdc=10 * DOLLAR)


async def name(town: Town, person: Person, handle: str) -> pb.Consumer:
    request = pb.SetHandleRequest(handle=handle)
    answer = await town.wallet.consumers.SetHandle(request, metadata=person.token)
    consumer: pb.Consumer = answer.consumer
    return consumer


async def handle_of(town: Town, person: Person) -> str:
    answer = await town.wallet.consumers.GetConsumer(pb.GetConsumerRequest(), metadata=person.token)
    handle: str = answer.consumer.handle
    return handle


async def pass_days(town: Town, time: timedelta) -> None:
    await town.books.execute("UPDATE retired_handles SET free_at = free_at - :time", time=time)


async def test_a_handle_is_kept_in_one_form_and_pays(town: Town, ann: Person, bob: Person) -> None:
    """However it is written, @Ann_1, ann_1 and ANN_1 are one person."""
    assert (await name(town, ann, "@Ann_One")).handle == "ann_one"
    assert await handle_of(town, ann) == "ann_one"
    await town.wallet.consumers.Transfer(transfer(Recipient(handle="@ANN_one"), DOLLAR), metadata=bob.token)
    assert (await town.balance(ann)).available_micros == DOLLAR


async def test_setting_the_same_handle_again_changes_nothing(town: Town, ann: Person) -> None:
    assert await name(town, ann, "ann_again") == await name(town, ann, "@ANN_AGAIN")


async def test_a_handle_that_somebody_has_is_taken(town: Town, ann: Person, bob: Person) -> None:
    await name(town, ann, "coveted")
    refusal = await refused(name(town, bob, "Coveted"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "HANDLE_TAKEN")
    assert await handle_of(town, bob) == ""


@pytest.mark.parametrize("handle", ["admin", "Support", "monay", "monay_help", "s_u_p_p_o_r_t", "usdc"])
async def test_nobody_passes_for_the_wallet_itself(town: Town, ann: Person, handle: str) -> None:
    assert (await refused(name(town, ann, handle))).reason == "HANDLE_TAKEN"
    assert await handle_of(town, ann) == ""


@pytest.mark.parametrize("handle", ["ab", "1ann", "@@ann", "ann-lee", "ann lee", "änn", "a" * 31, ""])
async def test_what_is_no_handle_is_refused_by_the_contract(town: Town, ann: Person, handle: str) -> None:
    assert (await refused(name(town, ann, handle))).reason == "VALIDATION_FAILED"


async def test_a_handle_given_up_is_kept_from_others_for_ninety_days(town: Town, ann: Person, bob: Person) -> None:
    """People go on paying an old name for a while."""
    await name(town, ann, "old_name")
    await name(town, ann, "new_name")
    assert (await refused(name(town, bob, "old_name"))).reason == "HANDLE_TAKEN"
    lost = transfer(Recipient(handle="old_name"), DOLLAR)
    assert (await refused(town.wallet.consumers.Transfer(lost, metadata=bob.token))).reason == "RECIPIENT_NOT_FOUND"

    await pass_days(town, PROTECTED_FOR - timedelta(hours=1))
    assert (await refused(name(town, bob, "old_name"))).reason == "HANDLE_TAKEN"
    await pass_days(town, timedelta(hours=2))
    assert (await name(town, bob, "old_name")).handle == "old_name"


async def test_who_gave_a_handle_up_may_have_it_back(town: Town, ann: Person, bob: Person) -> None:
    await name(town, ann, "first_love")
    await name(town, ann, "second_love")
    assert (await name(town, ann, "first_love")).handle == "first_love"
    assert (await refused(name(town, bob, "second_love"))).reason == "HANDLE_TAKEN"


async def test_of_many_who_want_one_handle_one_gets_it(town: Town) -> None:
    people = [await town.settle_in("crowd") for _ in range(6)]
    answers = await asyncio.gather(*(name(town, person, "the_one") for person in people), return_exceptions=True)
    assert sum(isinstance(answer, pb.Consumer) for answer in answers) == 1
    assert sorted([await handle_of(town, person) for person in people])[-1] == "the_one"


async def test_nobody_catches_a_handle_in_the_moment_it_is_given_up(town: Town, ann: Person) -> None:
    """Whoever waits for the row of the former owner must look at the protection after the wait, not before."""
    catchers = [await town.settle_in("catcher") for _ in range(4)]
    for round in range(5):
        caught = f"caught_{round}"
        await name(town, ann, caught)
        calls = [name(town, ann, f"next_{round}"), *(name(town, catcher, caught) for catcher in catchers)]
        await asyncio.gather(*calls, return_exceptions=True)
        assert caught not in [await handle_of(town, catcher) for catcher in catchers]


async def test_a_frozen_wallet_keeps_its_handle(town: Town, ann: Person) -> None:
    await name(town, ann, "cold_ann")
    await town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=ann.id)
    assert (await refused(name(town, ann, "warm_ann"))).reason == "CONSUMER_FROZEN"
    assert await handle_of(town, ann) == "cold_ann"


async def test_the_database_does_not_know_which_handles_were_given_up(town: Town, ann: Person) -> None:
    """They are personal data like the others, and some of their owners have been erased since."""
    await name(town, ann, "secret_past")
    await name(town, ann, "bright_future")
    rows = await town.books.execute("SELECT handle_index FROM retired_handles")
    assert rows
    assert not [row for row in rows if b"secret_past" in bytes(row[0])]
