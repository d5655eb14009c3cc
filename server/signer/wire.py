"""What a worker and the signer say to each other: JSON in gRPC messages, of no interest to anybody else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.money import Asset
from providers.base import Movement, Party, PartyKind, Signed

SERVICE = "monay.signer.Signer"
ADDRESSES, DERIVE, SIGN_TRANSFERS, SIGN_ACTIVATION = "Addresses", "Derive", "SignTransfers", "SignActivation"

MOST_BYTES = 1_000_000


class Unreadable(ValueError):
    """The other side said something that it never should."""


def written(**facts: Any) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode()


def read(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError as error:
        raise Unreadable("not JSON") from error
    if not isinstance(facts, dict):
        raise Unreadable("not an object")
    return facts


def written_transfers(movements: Sequence[Movement], valid_before: datetime) -> bytes:
    return written(movements=[_movement_facts(one) for one in movements], valid_before=valid_before.isoformat())


def read_transfers(data: bytes) -> tuple[list[Movement], datetime]:
    try:
        facts = read(data)
        return [_movement(one) for one in facts["movements"]], datetime.fromisoformat(facts["valid_before"])
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise Unreadable(type(error).__name__) from error


def written_activation(consumer: Party, assets: Sequence[Asset], valid_before: datetime) -> bytes:
    return written(consumer=_party_facts(consumer), assets=list(assets), valid_before=valid_before.isoformat())


def read_activation(data: bytes) -> tuple[Party, list[Asset], datetime]:
    try:
        facts = read(data)
        assets = [Asset(asset) for asset in facts["assets"]]
        return _party(facts["consumer"]), assets, datetime.fromisoformat(facts["valid_before"])
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise Unreadable(type(error).__name__) from error


def written_signed(signed: Signed) -> bytes:
    return written(payload=signed.payload.hex(), reference=signed.reference)


def read_signed(data: bytes) -> Signed:
    try:
        facts = read(data)
        return Signed(bytes.fromhex(facts["payload"]), facts["reference"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(type(error).__name__) from error


def _movement_facts(one: Movement) -> dict[str, Any]:
    return {
        "item_id": str(one.item_id),
        "asset": one.asset,
        "micros": one.micros,
        "source": _party_facts(one.source),
        "destination": _party_facts(one.destination),
        "group_id": str(one.group_id) if one.group_id is not None else None,
    }


def _movement(facts: dict[str, Any]) -> Movement:
    if type(facts["micros"]) is not int:
        raise Unreadable("an amount is no integer")
    group_id = UUID(facts["group_id"]) if facts["group_id"] is not None else None
    source, destination = _party(facts["source"]), _party(facts["destination"])
    return Movement(UUID(facts["item_id"]), Asset(facts["asset"]), facts["micros"], source, destination, group_id)


def _party_facts(one: Party) -> dict[str, Any]:
    return {"kind": one.kind, "address": one.address, "index": one.index}


def _party(facts: dict[str, Any]) -> Party:
    if type(facts["index"]) not in (int, type(None)):
        raise Unreadable("an index is no integer")
    return Party(PartyKind(facts["kind"]), str(facts["address"]), facts["index"])
