"""Adjustments: one operator proposes a posting, another approves it, and then it is booked like any other command.

Both calls go through the ledger's door under the operator's request id. A proposal is judged as its approval will be,
so that nobody waits seven days for a colleague to be told that the account was empty; but only the approval decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from domain.adjustments import (
    Adjustment,
    AdjustmentState,
    check_accounts,
    check_cancels,
    item_of,
    transaction_of,
)
from domain.audit import Actor, AuditFact
from domain.clock import Clock, Entropy
from domain.commands import Command, ItemTransition, NewRecord, RecordKind, RecordTransition, Request
from domain.errors import AdjustmentClosed, AdjustmentNotFound, SameOperator, SettlementNotFound, WalletError
from domain.identity import OPERATOR, ItemId, TransactionId, body_hash, request_key
from domain.ledger_state import Applied, Outcome, Refused
from domain.money import Money
from domain.postings import Account
from domain.settlement import ItemState
from server.ledger_writer import LedgerWriter
from storage import adjustments, settlements
from storage.database import Engine, reading

AT_REST = frozenset({ItemState.PENDING, ItemState.BLOCKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an operator proposes. `actor` carries the request id of the call."""

    source: Account
    target: Account
    amount: Money
    reason: str
    cancel_item_id: ItemId | None
    actor: Actor


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The adjustment as it stands, and whether an earlier call with the same request id made it so."""

    adjustment: Adjustment
    replayed: bool


class AdjustmentService:
    """Proposes and approves adjustments."""

    def __init__(self, *, engine: Engine, writer: LedgerWriter, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._entropy = entropy

    # --- the maker ----------------------------------------------------------------------------------------------------

    async def propose(self, proposal: Proposal, *, deadline: float, validate_only: bool = False) -> Adjusted:
        """Write the proposal down, or raise why not. Nothing moves."""
        adjustment = self._proposed(proposal)
        key = request_key(caller=proposal.actor.caller, request_id=proposal.actor.request_id)
        command = await self._proposing(adjustment, proposal.actor, key)
        if validate_only:
            _accepted(await self._writer.preview(command))
            return Adjusted(adjustment, replayed=False)
        _accepted(await self._writer.submit(command, deadline=deadline))
        async with reading(self._engine) as tx:
            stored = await adjustments.proposed_by(tx, key)
        assert stored is not None, "a proposal is written in the commit that remembers its request id"
        return Adjusted(stored, replayed=stored.id != adjustment.id)

    def _proposed(self, proposal: Proposal) -> Adjustment:
        return Adjustment(
            id=self._entropy.uuid7(),
            source=proposal.source,
            target=proposal.target,
            amount=proposal.amount,
            reason=proposal.reason,
            cancel_item_id=proposal.cancel_item_id,
            proposed_by=proposal.actor.name,
            created_at=self._clock.now(),
        )

    async def _proposing(self, adjustment: Adjustment, actor: Actor, key: UUID) -> Command:
        source, target, amount = adjustment.source, adjustment.target, adjustment.amount
        accounts = (str(source.owner), source.kind, str(target.owner), target.kind)
        said = (*accounts, amount.asset, amount.micros, adjustment.reason, str(adjustment.cancel_item_id or ""))
        request = Request(OPERATOR, key, body_hash("ProposeAdjustment", *said), actor.request_id)
        try:
            check_accounts(adjustment)
            await self._check_item(adjustment)
            _accepted(await self._writer.preview(self._booking(adjustment, actor)))
        except WalletError as refusal:
            return Command(request=request, doom=refusal)
        values = adjustments.columns_of(adjustment, request_key=key)
        record = NewRecord(kind=RecordKind.ADJUSTMENT, id=adjustment.id, values=values)
        return Command(
            request=request, new_records=(record,), audits=(self._fact("adjustment.propose", adjustment, actor),)
        )

    # --- the checker --------------------------------------------------------------------------------------------------

    async def approve(
        self, adjustment_id: UUID, *, actor: Actor, deadline: float, validate_only: bool = False
    ) -> Adjusted:
        """Book the adjustment, or raise why not."""
        adjustment = await self._find(adjustment_id)
        command = await self._approving(adjustment_id, adjustment, actor)
        if validate_only:
            # What stands for the item was judged already; a preview reads nothing of the settlement side.
            outcome = _accepted(await self._writer.preview(replace(command, transitions=())))
        else:
            outcome = _accepted(await self._writer.submit(command, deadline=deadline))
        if validate_only and adjustment is not None and not outcome.replayed:
            return Adjusted(self._approved(adjustment, command, actor), replayed=False)
        stored = await self._find(adjustment_id)
        assert stored is not None, "only an approval is stored under an approval's request id and hash"
        return Adjusted(stored, outcome.replayed)

    async def _approving(self, adjustment_id: UUID, adjustment: Adjustment | None, actor: Actor) -> Command:
        key = request_key(caller=actor.caller, request_id=actor.request_id)
        request = Request(OPERATOR, key, body_hash("ApproveAdjustment", str(adjustment_id)), actor.request_id)
        try:
            if adjustment is None:
                raise AdjustmentNotFound()
            await self._check_approval(adjustment, actor)
        except WalletError as refusal:
            return Command(request=request, doom=refusal)
        booking = self._booking(adjustment, actor)
        return replace(
            booking,
            request=request,
            transitions=_cancelling(adjustment),
            record_transitions=(_closing(self._approved(adjustment, booking, actor)),),
            audits=(self._fact("adjustment.approve", adjustment, actor),),
        )

    async def _check_approval(self, adjustment: Adjustment, actor: Actor) -> None:
        state = adjustment.at(self._clock.now())
        if state is not AdjustmentState.PROPOSED:
            raise AdjustmentClosed(state)
        if adjustment.proposed_by.casefold() == actor.name.casefold():
            raise SameOperator()
        await self._check_item(adjustment)

    async def _find(self, adjustment_id: UUID) -> Adjustment | None:
        async with reading(self._engine) as tx:
            return await adjustments.find(tx, adjustment_id)

    # --- what both look at --------------------------------------------------------------------------------------------

    def _booking(self, adjustment: Adjustment, actor: Actor) -> Command:
        """The posting, with the item that makes it true on a rail where one has to."""
        transaction = transaction_of(
            adjustment,
            id=TransactionId(self._entropy.uuid7()),
            caller=actor.caller,
            request_id=actor.request_id,
        )
        item = item_of(adjustment, id=ItemId(self._entropy.uuid7()))
        return Command(
            transactions=(transaction,), postings=((adjustment.posting,),), items=(item,) if item is not None else ()
        )

    async def _check_item(self, adjustment: Adjustment) -> None:
        if adjustment.cancel_item_id is None:
            return
        async with reading(self._engine) as tx:
            item = (await settlements.items_by_id(tx, [adjustment.cancel_item_id])).get(adjustment.cancel_item_id)
        if item is None:
            raise SettlementNotFound()
        check_cancels(adjustment, item.candidate, item.state)

    def _approved(self, adjustment: Adjustment, booking: Command, actor: Actor) -> Adjustment:
        return replace(
            adjustment,
            state=AdjustmentState.APPROVED,
            approved_by=actor.name,
            approved_at=self._clock.now(),
            transaction_id=booking.transactions[0].id,
        )

    def _fact(self, action: str, adjustment: Adjustment, actor: Actor) -> AuditFact:
        facts = {
            "from": _named(adjustment.source),
            "to": _named(adjustment.target),
            "amount": str(adjustment.amount),
            "reason": adjustment.reason,
            "cancel_item_id": str(adjustment.cancel_item_id or ""),
        }
        return AuditFact(
            id=self._entropy.uuid7(),
            actor=actor,
            action=action,
            subject=str(adjustment.id),
            consumer_id=next(iter(adjustment.consumers), None),
            facts={name: value for name, value in facts.items() if value},
        )


def _cancelling(adjustment: Adjustment) -> tuple[ItemTransition, ...]:
    if adjustment.cancel_item_id is None:
        return ()
    return (
        ItemTransition(
            item_id=adjustment.cancel_item_id,
            expected=AT_REST,
            state=ItemState.CANCELLED,
            reason=f"adjustment {adjustment.id}",
        ),
    )


def _closing(approved: Adjustment) -> RecordTransition:
    """From proposed to approved, once: of two operators who approve at the same time, one is told so."""
    values = {
        "approved_by": approved.approved_by,
        "approved_at": approved.approved_at,
        "transaction_id": approved.transaction_id,
    }
    return RecordTransition(
        kind=RecordKind.ADJUSTMENT,
        id=approved.id,
        expected=frozenset({AdjustmentState.PROPOSED}),
        state=approved.state,
        values=values,
        refusals={AdjustmentState.APPROVED: AdjustmentClosed(AdjustmentState.APPROVED)},
    )


def _named(account: Account) -> str:
    return account.kind if account.owner == OPERATOR else str(account.owner)


def _accepted(outcome: Outcome) -> Applied:
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome
