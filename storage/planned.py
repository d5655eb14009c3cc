"""What the books want settled on Tempo now, as the signer compares it with what it is asked to sign.

The signer's role reads two tables and nothing else: settlement_items and wallets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from domain.identity import OPERATOR, OUTSIDE
from domain.money import Asset
from domain.settlement import ItemState, Rail
from storage.database import Tx
from storage.schema import settlement_items, wallets

_i = settlement_items.c
_sender, _recipient = wallets.alias("sender_wallet"), wallets.alias("recipient_wallet")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a plan: a consumer's derivation index, the operator, or an address that is not ours."""

    index: int | None = None
    operator: bool = False
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A settlement that a worker has claimed."""

    asset: Asset
    micros: int
    source: End
    destination: End
    group_id: UUID | None


async def settlements(tx: Tx, item_ids: Sequence[UUID]) -> dict[UUID, Plan]:
    """Those of these items that are claimed for Tempo: nothing else has a reason to be signed."""
    joined = settlement_items.outerjoin(_sender, _sender.c.consumer_id == _i.sender).outerjoin(
        _recipient, _recipient.c.consumer_id == _i.recipient
    )
    statement = (
        select(
            *(_i.id, _i.asset, _i.micros, _i.sender, _i.recipient, _i.destination, _i.group_id),
            _sender.c.derivation_index.label("sender_index"),
            _recipient.c.derivation_index.label("recipient_index"),
        )
        .select_from(joined)
        .where(_i.id.in_(item_ids), _i.state == ItemState.CLAIMED, _i.rail == Rail.TEMPO)
    )
    return {row.id: _plan(row) for row in await tx.execute(statement)}


def _plan(row: Any) -> Plan:
    source = _end(row.sender, row.sender_index, None)
    destination = _end(row.recipient, row.recipient_index, row.destination)
    return Plan(Asset(row.asset), row.micros, source, destination, row.group_id)


def _end(holder: UUID, index: int | None, destination: str | None) -> End:
    if holder == OPERATOR:
        return End(operator=True)
    return End(address=destination) if holder == OUTSIDE else End(index=index)
