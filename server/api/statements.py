"""Statements: a wallet's history as a document, in pieces, as fast as the client reads and no faster.

What is sent is what the wallet was when the call began: the newest versions are noted first, and entries never change.
It is read by keyset, a piece at a time, so that a slow reader holds neither memory nor a database transaction.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC
from uuid import UUID

from domain.errors import ConsumerNotFound
from domain.money import MICROS_PER_UNIT, Asset
from monay.wallet.v1 import transaction_pb2 as pb
from server.api.access import Call
from server.api.convert import instant
from server.api.transactions import SHOWN_KINDS, other_party, transaction
from storage import following, history, statements, transactions
from storage.consumers import Directory
from storage.database import Engine, Tx, reading
from storage.following import EntryLine
from storage.statements import WalletAt

# Few enough that the calls of others do not wait for a piece to be written.
PAGE = 100

# A spreadsheet takes a cell that begins so for a formula, and a memo is written by others.
_FORMULA_STARTS = ("=", "+", "-", "@")

Row = dict[str, str]
Form = Callable[[Sequence[Row]], str]


class Statements:
    """ExportStatement."""

    def __init__(self, *, engine: Engine, directory: Directory) -> None:
        self._engine = engine
        self._directory = directory

    async def export_statement(
        self, request: pb.ExportStatementRequest, call: Call
    ) -> AsyncIterator[pb.ExportStatementResponse]:
        form, heading = _FORMS[request.format]
        asset = Asset(request.asset) if request.asset else None
        async with reading(self._engine) as tx:
            wallet = await statements.wallet_now(tx, call.consumer_id, [asset] if asset else list(Asset))
            if wallet is None:
                raise ConsumerNotFound(call.consumer_id)
            behind, last = await _bounds(tx, request, call.consumer_id, wallet)
        count = 0
        if heading:
            yield pb.ExportStatementResponse(data=heading.encode())
        while True:
            async with reading(self._engine) as tx:
                lines = await following.entries_behind(tx, call.consumer_id, behind, last=last, limit=PAGE)
                rows = await self._rows(tx, lines, call.consumer_id, wallet, asset)
            behind |= {line.asset: line.version for line in lines}
            count += len(rows)
            if rows:
                yield pb.ExportStatementResponse(data=form(rows).encode(), transaction_count=count)
            if len(lines) < PAGE:
                return

    async def _rows(
        self, tx: Tx, lines: Sequence[EntryLine], viewer: UUID, wallet: WalletAt, asset: Asset | None
    ) -> list[Row]:
        """The entries that a history shows. Of a transaction in two assets, the one in its header's asset is shown."""
        found = await transactions.find(tx, {line.transaction_id for line in lines})
        headers = {transaction_id: recorded.transaction for transaction_id, recorded in found.items()}
        shown = [
            line
            for line in lines
            if headers[line.transaction_id].kind in SHOWN_KINDS
            and (asset is not None or headers[line.transaction_id].asset is line.asset)
        ]
        others = {other_party(headers[line.transaction_id], viewer) for line in shown}
        handles = await self._directory.handles(tx, [other for other in others if other is not None])
        rows = []
        for line in shown:
            proto = transaction(found[line.transaction_id], viewer, handles)
            if line.transaction_id in wallet.held:
                proto.state = pb.TRANSACTION_STATE_PENDING
            rows.append(_row(proto, line))
        return rows


async def _bounds(
    tx: Tx, request: pb.ExportStatementRequest, consumer: UUID, wallet: WalletAt
) -> tuple[dict[Asset, int], dict[Asset, int]]:
    """Behind which versions the statement begins, and up to which it goes."""
    last = {asset: version for asset, version in wallet.versions.items() if version}
    behind = dict.fromkeys(last, 0)
    if request.HasField("start_time"):
        first = await history.first_since(tx, consumer, last, instant(request.start_time, field="start_time"))
        behind = {asset: version - 1 for asset, version in first.items()}
    if request.HasField("end_time"):
        beyond = await history.first_since(tx, consumer, last, instant(request.end_time, field="end_time"))
        last = {asset: version - 1 for asset, version in beyond.items()}
    return behind, last


COLUMNS = (
    "time",
    "transaction_id",
    "kind",
    "state",
    "direction",
    "asset",
    "amount",
    "fee",
    "bought_asset",
    "bought_amount",
    "counterparty",
    "handle",
    "memo",
    "batch_id",
    "original_transaction_id",
    "balance",
)


def _row(shown: pb.Transaction, line: EntryLine) -> Row:
    party = shown.counterparty.WhichOneof("party")
    bought = shown.HasField("bought")
    values = (
        line.created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        shown.id,
        _word(pb.TransactionKind.Name(shown.kind), "TRANSACTION_KIND_"),
        _word(pb.TransactionState.Name(shown.state), "TRANSACTION_STATE_"),
        _word(pb.Direction.Name(shown.direction), "DIRECTION_"),
        shown.amount.asset,
        _decimal(shown.amount.micros),
        _decimal(shown.fee.micros),
        shown.bought.asset if bought else "",
        _decimal(shown.bought.micros) if bought else "",
        getattr(shown.counterparty, party) if party else "",
        shown.counterparty.handle,
        shown.memo,
        shown.batch_id,
        shown.original_transaction_id,
        # Available and held together, of the entry's asset: what the statement adds up to.
        _decimal(line.available_after + line.held_after),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _decimal(micros: int) -> str:
    units, rest = divmod(micros, MICROS_PER_UNIT)
    return f"{units}.{rest:06d}"


def _as_csv(rows: Sequence[Row]) -> str:
    return _csv(row.values() for row in rows)


def _csv(lines: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_harmless(cell) for cell in line] for line in lines)
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _as_json(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


_FORMS: dict[pb.StatementFormat.ValueType, tuple[Form, str]] = {
    pb.STATEMENT_FORMAT_CSV: (_as_csv, _csv([COLUMNS])),
    pb.STATEMENT_FORMAT_JSON: (_as_json, ""),
}
