"""What a consumer chose: what is shown first, whether time or fees matter more, and what they want to be told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from domain.errors import EtagMismatch
from domain.money import Asset
from domain.routing import Speed


class Notification(StrEnum):
    """An occasion on which a consumer may want to be told something."""

    MONEY_RECEIVED = "money_received"
    MONEY_SENT = "money_sent"
    PAYMENT_REQUESTED = "payment_requested"
    WITHDRAWAL_COMPLETED = "withdrawal_completed"
    LIMIT_NEARLY_USED = "limit_nearly_used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """All of them, in one version. What is not said otherwise is switched on."""

    default_asset: Asset = Asset.USDC
    preferred_speed: Speed = Speed.STANDARD
    switched_off: frozenset[Notification] = frozenset()
    version: int = 0

    @property
    def etag(self) -> str:
        """The version's name for a client, who only ever compares it."""
        return f"v{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be set; None leaves it as it is."""

    default_asset: Asset | None = None
    preferred_speed: Speed | None = None
    switches: tuple[tuple[Notification, bool], ...] = ()
    etag: str = ""
    """Empty: apply to whatever is there."""


def changed(preferences: Preferences, changes: Changes) -> Preferences:
    """The preferences after the changes, in a new version if they differ at all.

    A stale etag is refused with `EtagMismatch`, unless what it asks for is what stands there already: then the same
    call was made before and only its answer was lost.
    """
    off = set(preferences.switched_off)
    for notification, wanted in changes.switches:
        (off.discard if wanted else off.add)(notification)
    wanted_ones = replace(
        preferences,
        default_asset=changes.default_asset or preferences.default_asset,
        preferred_speed=changes.preferred_speed or preferences.preferred_speed,
        switched_off=frozenset(off),
    )
    if wanted_ones == preferences:
        return preferences
    if changes.etag not in ("", preferences.etag):
        raise EtagMismatch(preferences.etag)
    return replace(wanted_ones, version=preferences.version + 1)
