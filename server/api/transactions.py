"""Transactions: the wallet's history, and one transaction with its settlement receipts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from domain.bank_deposits import bank_origin_of
from domain.chain_events import log_origin_of
from domain.errors import PageTokenInvalid, TransactionNotFound
from domain.identity import ConsumerId
from domain.ledger_state import Applied
from domain.money import MAX_MICROS, Asset, Money
from domain.postings import Transaction as Header
from domain.postings import TransactionKind as Kind
from domain.settlement import FINAL, ItemState, Rail
from domain.streams import Mark, StreamPosition
from domain.transfers import OriginKind, origin_of
from domain.withdrawals import Withdrawal, WithdrawalState
from monay.wallet.v1 import money_pb2
from monay.wallet.v1 import transaction_pb2 as pb
from server.api import pages, resume_cursors
from server.api.access import Call
from server.api.convert import checksummed, instant, money, timestamp
from server.api.routes import route
from storage import epochs, history, transactions
from storage.consumers import Directory
from storage.database import Engine, Tx, reading
from storage.history import Filters, Page, Place, Versions
from storage.transactions import Receipt, Recorded

# What a history shows. The other kinds are steps of one of these, or the operator's own business.
SHOWN_KINDS = {
    Kind.TRANSFER: pb.TRANSACTION_KIND_TRANSFER,
    Kind.BATCH_TRANSFER: pb.TRANSACTION_KIND_BATCH_TRANSFER,
    Kind.DEPOSIT: pb.TRANSACTION_KIND_DEPOSIT,
    Kind.WITHDRAWAL: pb.TRANSACTION_KIND_WITHDRAWAL,
    Kind.SWAP: pb.TRANSACTION_KIND_SWAP,
    Kind.REFUND: pb.TRANSACTION_KIND_REFUND,
    Kind.REVERSAL: pb.TRANSACTION_KIND_REVERSAL,
    Kind.ADJUSTMENT: pb.TRANSACTION_KIND_ADJUSTMENT,
}

# The least advanced first: of several settlements, the first of these is the state of the whole.
_STATES = {
    ItemState.FAILED: pb.SETTLEMENT_STATE_FAILED,
    ItemState.BLOCKED: pb.SETTLEMENT_STATE_BLOCKED,
    ItemState.INDETERMINATE: pb.SETTLEMENT_STATE_INDETERMINATE,
    ItemState.PENDING: pb.SETTLEMENT_STATE_PENDING,
    # A claim is a worker's own affair: it may be given back, and nothing has happened yet.
    ItemState.CLAIMED: pb.SETTLEMENT_STATE_PENDING,
    ItemState.SIGNED: pb.SETTLEMENT_STATE_SIGNED,
    ItemState.BROADCAST: pb.SETTLEMENT_STATE_BROADCAST,
    ItemState.CANCELLED: pb.SETTLEMENT_STATE_CANCELLED,
    ItemState.CONFIRMED: pb.SETTLEMENT_STATE_CONFIRMED,
}

_COMING_IN = (Kind.DEPOSIT, Kind.REVERSAL)

_WITHDRAWAL_STATES = {
    WithdrawalState.HELD: pb.TRANSACTION_STATE_PENDING,
    WithdrawalState.COMPLETED: pb.TRANSACTION_STATE_COMPLETED,
    WithdrawalState.FAILED: pb.TRANSACTION_STATE_FAILED,
    WithdrawalState.RETURNED: pb.TRANSACTION_STATE_REVERSED,
}


class Transactions:
    """ListTransactions, GetTransaction."""

    def __init__(self, *, engine: Engine, directory: Directory) -> None:
        self._engine = engine
        self._directory = directory

    async def get_transaction(self, request: pb.GetTransactionRequest, call: Call) -> pb.GetTransactionResponse:
        async with reading(self._engine) as tx:
            recorded = await transactions.get(tx, UUID(request.transaction_id), party=call.consumer_id)
            handles = await self._handles(tx, [recorded], call.consumer_id)
        if recorded.transaction.kind not in SHOWN_KINDS:
            raise TransactionNotFound()
        return pb.GetTransactionResponse(transaction=transaction(recorded, call.consumer_id, handles))

    async def list_transactions(self, request: pb.ListTransactionsRequest, call: Call) -> pb.ListTransactionsResponse:
        wallet, bound_to = call.consumer_id, pages.binding(request, call.consumer_id)
        async with reading(self._engine) as tx:
            newest = await history.newest(tx, wallet, list(Asset))
            whole = await self._span(tx, request, wallet, newest)
            place = self._page_place(request, whole, bound_to)
            page = await history.page(tx, wallet, place, _filters(request), pages.size(request.page_size))
            found = await transactions.find(tx, {line.transaction_id for line in page.lines})
            handles = await self._handles(tx, found.values(), wallet)
            cursor = "" if request.page_token else await self._resume_cursor(tx, wallet, whole, page, found)
        shown = [transaction(found[line.transaction_id], wallet, handles) for line in page.lines]
        token = pages.encode(_place_said(page.next), bound_to) if page.next else ""
        return pb.ListTransactionsResponse(transactions=shown, next_page_token=token, resume_cursor=cursor)

    async def _span(self, tx: Tx, request: pb.ListTransactionsRequest, wallet: ConsumerId, newest: Versions) -> Place:
        """The part of the history that lies in the time that was asked for, of every asset."""
        below = {asset: version + 1 for asset, version in newest.items()}
        start = dict.fromkeys(newest, 1)
        if request.HasField("end_time"):
            below = await history.first_since(tx, wallet, newest, instant(request.end_time, field="end_time"))
        if request.HasField("start_time"):
            start = await history.first_since(tx, wallet, newest, instant(request.start_time, field="start_time"))
        return Place(below, start)

    def _page_place(self, request: pb.ListTransactionsRequest, whole: Place, bound_to: str) -> Place:
        """Where the page begins: at its token, or at the newest entry of the assets that were asked for."""
        if request.page_token:
            return _place_read(pages.decode(request.page_token, bound_to))
        if not request.asset:
            return whole
        asset = Asset(request.asset)
        below = {one: version for one, version in whole.below.items() if one is asset}
        return Place(below, {one: whole.start[one] for one in below})

    async def _resume_cursor(
        self, tx: Tx, wallet: ConsumerId, whole: Place, page: Page, found: Mapping[UUID, Recorded]
    ) -> str:
        """Exactly behind what the page saw: what is newer, and how what it shows goes on to settle."""
        seen = {asset: version - 1 for asset, version in whole.below.items()}
        position = StreamPosition.resumed(Mark.at(seen))
        for line in page.lines:
            if any(state not in FINAL for state in found[line.transaction_id].states):
                position.follow((line.asset, line.version), line.transaction_id)
        return resume_cursors.encode(position.mark(), wallet=wallet, epoch=await epochs.current(tx))

    async def _handles(self, tx: Tx, found: Collection[Recorded], wallet: UUID) -> dict[UUID, str]:
        others = {other_party(recorded.transaction, wallet) for recorded in found}
        return await self._directory.handles(tx, [other for other in others if other is not None])


def transaction(recorded: Recorded, viewer: UUID, handles: dict[UUID, str] | None = None) -> pb.Transaction:
    """A transaction as one of its parties sees it."""
    header, at = recorded.transaction, timestamp(recorded.created_at)
    own = viewer == header.consumer_id
    proto = pb.Transaction(
        id=str(header.id),
        kind=SHOWN_KINDS[header.kind],
        state=_state(recorded),
        direction=_direction(header, own=own),
        amount=money_pb2.Money(asset=header.asset, micros=header.micros),
        fee=money_pb2.Money(asset=header.asset, micros=header.fee_micros if own else 0),
        memo=header.memo,
        batch_id=str(header.batch_id or ""),
        request_id=header.request_id if own else "",
        create_time=at,
        effective_time=at,
        settlement_state=whole_state(recorded.states),
        settlements=[settlement(receipt) for receipt in recorded.receipts],
    )
    other = other_party(header, viewer)
    if other is not None:
        proto.counterparty.consumer_id = str(other)
        if handles:
            proto.counterparty.handle = handles.get(other, "")
    if recorded.withdrawal is not None:
        _show_withdrawal(proto, recorded.withdrawal)
    if recorded.swap is not None:
        proto.bought.CopyFrom(money(recorded.swap.buy))
    if header.reference:
        _show_origin(proto, header)
    if recorded.refunded_micros:
        proto.refunded.CopyFrom(money(Money(header.asset, recorded.refunded_micros)))
    return proto


def unrecorded(proto: pb.Transaction, balance: money_pb2.Balance) -> None:
    """Show an answer without its effect: no id and no time yet, and the balance names the version it rests on."""
    for field in ("id", "create_time", "effective_time", "settlements"):
        proto.ClearField(field)
    balance.version -= 1
    balance.ClearField("change_time")


def balance_after(applied: Applied, asset: Asset) -> money_pb2.Balance:
    """A balance as a command left it. What is settling is not known here; GetBalance tells it."""
    return money_pb2.Balance(
        asset=asset,
        available_micros=applied.available_after,
        held_micros=applied.held_after,
        version=applied.version_after,
        change_time=timestamp(applied.at),
    )


def _direction(header: Header, *, own: bool) -> pb.Direction.ValueType:
    if header.kind is Kind.SWAP:
        return pb.DIRECTION_BOTH
    return pb.DIRECTION_OUT if own and header.kind not in _COMING_IN else pb.DIRECTION_IN


def _state(recorded: Recorded) -> pb.TransactionState.ValueType:
    """Most are completed the instant they exist; a withdrawal when its hold has ended."""
    if recorded.withdrawal is None:
        return pb.TRANSACTION_STATE_COMPLETED
    return _WITHDRAWAL_STATES[recorded.withdrawal.state]


def _show_withdrawal(proto: pb.Transaction, withdrawal: Withdrawal) -> None:
    if withdrawal.address is not None:
        proto.counterparty.address = checksummed(withdrawal.address)
    else:
        proto.counterparty.bank_account_id = str(withdrawal.bank_account_id)
    proto.route.CopyFrom(route(withdrawal.route))


def _show_origin(proto: pb.Transaction, header: Header) -> None:
    """What it goes back to, if nobody sent it by hand; of a deposit, the address or bank account that paid it."""
    origin, log, bank_account_id = origin_of(header), log_origin_of(header), bank_origin_of(header)
    if log is not None:
        proto.counterparty.address = checksummed(log.sender)
    if bank_account_id is not None:
        proto.counterparty.bank_account_id = str(bank_account_id)
    if header.kind in (Kind.REFUND, Kind.REVERSAL):
        proto.original_transaction_id = header.reference
    elif origin is not None and origin.kind is OriginKind.PAYMENT_REQUEST:
        proto.payment_request_id = origin.id
    elif origin is not None:
        proto.scheduled_transfer_id = origin.id


def other_party(header: Header, viewer: UUID) -> UUID | None:
    """The other consumer of a transaction, if there is one."""
    return header.counterparty_id if viewer == header.consumer_id else header.consumer_id


def whole_state(states: Collection[ItemState]) -> pb.SettlementState.ValueType:
    """CONFIRMED only when every item is. What came in on the rail where it stays has no item."""
    if len(states) == 1:
        (state,) = states
        return _STATES[state]
    return next((proto for state, proto in _STATES.items() if state in states), pb.SETTLEMENT_STATE_NOT_NEEDED)


def settlement(receipt: Receipt) -> pb.Settlement:
    """The receipt of one item."""
    on_chain = receipt.rail == Rail.TEMPO
    proto = pb.Settlement(
        item_id=str(receipt.item_id),
        state=_STATES[receipt.state],
        provider=receipt.provider,
        rail=receipt.rail,
        amount=money(receipt.amount),
        chain_transaction_hash=receipt.reference if on_chain else "",
        provider_reference="" if on_chain else receipt.reference,
        block_number=receipt.block_number,
        log_index=receipt.log_index,
        attempts=receipt.attempts,
        reason=receipt.reason,
        create_time=timestamp(receipt.created_at),
    )
    if receipt.network_fee is not None:
        proto.network_fee.CopyFrom(money(receipt.network_fee))
    if receipt.submitted_at is not None:
        proto.submit_time.CopyFrom(timestamp(receipt.submitted_at))
    if receipt.confirmed_at is not None:
        proto.confirm_time.CopyFrom(timestamp(receipt.confirmed_at))
    return proto


def _filters(request: pb.ListTransactionsRequest) -> Filters:
    asked = set(request.kinds)
    kinds = frozenset(kind for kind, proto in SHOWN_KINDS.items() if not asked or proto in asked)
    withdrawal_states = frozenset(state for state, proto in _WITHDRAWAL_STATES.items() if proto in request.states)
    if request.states and pb.TRANSACTION_STATE_COMPLETED not in request.states:
        kinds &= {Kind.WITHDRAWAL}  # The others are completed the instant they exist.
    return Filters(
        kinds=kinds,
        withdrawal_states=withdrawal_states if request.states else None,
        counterparty=UUID(request.counterparty_id) if request.counterparty_id else None,
        batch_id=UUID(request.batch_id) if request.batch_id else None,
        both_sides=bool(request.asset),
    )


def _place_said(place: Place) -> dict[str, list[int]]:
    return {str(asset): [below, place.start[asset]] for asset, below in place.below.items()}


def _place_read(said: Any) -> Place:
    try:
        pairs = {Asset(asset): (below, start) for asset, (below, start) in said.items()}
    except (AttributeError, TypeError, ValueError):
        raise PageTokenInvalid() from None
    for version in (version for pair in pairs.values() for version in pair):
        if type(version) is not int or not 0 < version <= MAX_MICROS:
            raise PageTokenInvalid()
    return Place(
        {asset: below for asset, (below, _) in pairs.items()}, {asset: start for asset, (_, start) in pairs.items()}
    )
