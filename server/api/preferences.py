"""Preferences: what a consumer chose, read and changed field by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.errors import FieldViolation, ValidationFailed
from domain.money import Asset
from domain.preferences import Changes, Notification, Preferences
from domain.routing import Speed
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1 import provider_pb2
from server.api.access import Call
from server.services.preferences import PreferencesService
from storage import preferences, wallets
from storage.database import Engine, reading

_SPEEDS = {Speed.STANDARD: provider_pb2.SPEED_STANDARD, Speed.FAST: provider_pb2.SPEED_FAST}
_ASKED_SPEEDS = {proto: speed for speed, proto in _SPEEDS.items()}

_DEFAULTS = Preferences()
_SWITCHES = {f"notifications.{one}": one for one in Notification}
_FIELDS = ("default_asset", "preferred_speed", *_SWITCHES)
_GROUPS = {"*": _FIELDS, "notifications": tuple(_SWITCHES)}


class PreferencesNoun:
    """GetPreferences, UpdatePreferences."""

    def __init__(self, *, engine: Engine, service: PreferencesService) -> None:
        self._engine = engine
        self._service = service

    async def get_preferences(self, _request: pb.GetPreferencesRequest, call: Call) -> pb.GetPreferencesResponse:
        async with reading(self._engine) as tx:
            await wallets.read(tx, call.consumer_id)
            found = await preferences.read(tx, call.consumer_id)
        return pb.GetPreferencesResponse(preferences=_proto(found))

    async def update_preferences(
        self, request: pb.UpdatePreferencesRequest, call: Call
    ) -> pb.UpdatePreferencesResponse:
        after = await self._service.update(call.consumer_id, _changes(request))
        return pb.UpdatePreferencesResponse(preferences=_proto(after))


def _proto(value: Preferences) -> pb.Preferences:
    switches = {str(one): one not in value.switched_off for one in Notification}
    return pb.Preferences(
        default_asset=value.default_asset,
        preferred_speed=_SPEEDS[value.preferred_speed],
        notifications=pb.Notifications(**switches),
        etag=value.etag,
    )


def _changes(request: pb.UpdatePreferencesRequest) -> Changes:
    """What the mask names, or without a mask what is filled. An empty field that is named goes back to its default."""
    asked = request.preferences
    fields = list(_named(request.update_mask.paths)) or list(_filled(asked))
    asset = Asset(asked.default_asset) if asked.default_asset else _DEFAULTS.default_asset
    return Changes(
        default_asset=asset if "default_asset" in fields else None,
        preferred_speed=_ASKED_SPEEDS.get(asked.preferred_speed, _DEFAULTS.preferred_speed)
        if "preferred_speed" in fields
        else None,
        switches=tuple(
            (_SWITCHES[field], getattr(asked.notifications, _SWITCHES[field])) for field in fields if field in _SWITCHES
        ),
        etag=asked.etag,
    )


def _named(paths: Iterable[str]) -> Iterator[str]:
    for position, path in enumerate(paths):
        fields = _GROUPS.get(path, (path,))
        if fields[0] not in _FIELDS:
            text = f"names no field that can be set; there are {', '.join(_FIELDS)}"
            raise ValidationFailed((FieldViolation(f"update_mask.paths[{position}]", "mask.path", text),))
        yield from fields


def _filled(asked: pb.Preferences) -> Iterator[str]:
    """Of a switch only "on" can be told from nothing said, so whoever switches off has to name it in the mask."""
    if asked.default_asset:
        yield "default_asset"
    if asked.preferred_speed:
        yield "preferred_speed"
    for field, notification in _SWITCHES.items():
        if getattr(asked.notifications, notification):
            yield field
