"""Preferences: set field by field, never over somebody else's change."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1 import provider_pb2
from sandbox.postgres import Postgres

from .conftest import refused, service
from .people import Person, Town, new_town

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


ALL_ON = pb.Notifications(
    money_received=True, money_sent=True, payment_requested=True, withdrawal_completed=True, limit_nearly_used=True
)


async def read(town: Town, person: Person) -> pb.Preferences:
    answer = await town.wallet.consumers.GetPreferences(pb.GetPreferencesRequest(), metadata=person.token)
    preferences: pb.Preferences = answer.preferences
    return preferences


async def update(town: Town, person: Person, mask: list[str] | None = None, **fields: Any) -> pb.Preferences:
    request = pb.UpdatePreferencesRequest(
        preferences=pb.Preferences(**fields), update_mask=FieldMask(paths=mask) if mask is not None else None
    )
    answer = await town.wallet.consumers.UpdatePreferences(request, metadata=person.token)
    preferences: pb.Preferences = answer.preferences
    return preferences


async def test_who_never_set_any_has_the_defaults_with_an_etag(town: Town, ann: Person) -> None:
    found = await read(town, ann)
    assert found.etag
    assert (found.default_asset, found.preferred_speed) == ("USDC", provider_pb2.SPEED_STANDARD)
    assert found.notifications == ALL_ON


async def test_only_the_fields_in_the_mask_are_set(town: Town, ann: Person) -> None:
    """A screen with one switch must not reset the others."""
    await update(town, ann, ["default_asset"], default_asset="EURC", preferred_speed=provider_pb2.SPEED_FAST)
    found = await update(town, ann, ["notifications.money_sent"])
    assert (found.default_asset, found.preferred_speed) == ("EURC", provider_pb2.SPEED_STANDARD)
    expected = pb.Notifications()
    expected.CopyFrom(ALL_ON)
    expected.money_sent = False
    assert found.notifications == expected
    assert await read(town, ann) == found


async def test_without_a_mask_what_is_filled_is_set(town: Town, ann: Person) -> None:
    """Of a switch only "on" can be told from nothing said, so no mask never switches anything off."""
    await update(town, ann, ["notifications"], notifications=pb.Notifications())
    found = await update(
        town, ann, preferred_speed=provider_pb2.SPEED_FAST, notifications=pb.Notifications(money_received=True)
    )
    assert (found.default_asset, found.preferred_speed) == ("USDC", provider_pb2.SPEED_FAST)
    assert found.notifications == pb.Notifications(money_received=True)


async def test_a_named_field_left_empty_goes_back_to_its_default(town: Town, ann: Person) -> None:
    await update(town, ann, ["*"], default_asset="USDB", preferred_speed=provider_pb2.SPEED_FAST)
    found = await update(town, ann, ["default_asset", "preferred_speed"])
    assert (found.default_asset, found.preferred_speed) == ("USDC", provider_pb2.SPEED_STANDARD)


async def test_a_stale_etag_is_refused_and_nothing_changes(town: Town, ann: Person) -> None:
    """Two open screens: the second one to save is told to look again."""
    seen = await read(town, ann)
    first = await update(town, ann, ["default_asset"], default_asset="USDT", etag=seen.etag)
    assert first.etag != seen.etag
    refusal = await refused(update(town, ann, ["default_asset"], default_asset="PYUSD", etag=seen.etag))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata == {"etag": first.etag}
    assert await read(town, ann) == first
    assert (await update(town, ann, ["default_asset"], default_asset="PYUSD", etag=first.etag)).default_asset == "PYUSD"


async def test_the_same_update_again_is_answered_although_its_etag_is_old_by_then(town: Town, ann: Person) -> None:
    """Idempotent: who lost the answer repeats the call unchanged, and what it asks for stands there already."""
    seen = await read(town, ann)
    first = await update(town, ann, ["default_asset"], default_asset="USDT", etag=seen.etag)
    assert await update(town, ann, ["default_asset"], default_asset="USDT", etag=seen.etag) == first


async def test_of_concurrent_updates_with_one_etag_one_is_applied(town: Town, ann: Person) -> None:
    seen = await read(town, ann)
    wishes = ["USDT", "PYUSD", "EURC", "USDB"]
    answers = await asyncio.gather(
        *(update(town, ann, ["default_asset"], default_asset=asset, etag=seen.etag) for asset in wishes),
        return_exceptions=True,
    )
    applied = [answer for answer in answers if isinstance(answer, pb.Preferences)]
    assert len(applied) == 1
    assert await read(town, ann) == applied[0]


@pytest.mark.parametrize("path", ["etag", "nickname", "notifications.everything"])
async def test_a_mask_that_names_no_field_is_refused_by_its_path(town: Town, ann: Person, path: str) -> None:
    refusal = await refused(update(town, ann, ["default_asset", path], default_asset="USDT"))
    assert refusal.reason == "VALIDATION_FAILED"
    assert (await read(town, ann)).default_asset == "USDC"


async def test_preferences_are_ones_own(town: Town, ann: Person) -> None:
    bob = await town.settle_in("bob")
    await update(town, ann, ["default_asset"], default_asset="USDT")
    assert (await read(town, bob)).default_asset == "USDC"
    peek = pb.GetPreferencesRequest(consumer_id=str(ann.id))
    assert (await refused(town.wallet.consumers.GetPreferences(peek, metadata=bob.token))).reason == "NOT_YOUR_WALLET"
    nobody = pb.GetPreferencesRequest(consumer_id=str(uuid.uuid4()))
    refusal = await refused(town.wallet.consumers.GetPreferences(nobody, metadata=service()))
    assert refusal.reason == "CONSUMER_NOT_FOUND"
