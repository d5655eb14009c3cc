"""Payouts: withdrawals to banks, carried out by the custodian.

Start (in one commit, with the cover reserved), try (counted in a commit of its own before it is sent), observe until it
is final, and go on watching for a return. A payout whose answer was lost is first looked for among those the custodian
has; only then is it asked for again, under the same key. After a day of that nobody asks any more, and a person decides
(money rule 4).
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog

from domain import bank_payouts as booking
from domain.bank_payouts import RETURNED_WITHIN, UNKNOWN_FOR, PayoutState, Return, StoredPayout, try_again_after
from domain.clock import Clock, Entropy
from domain.commands import Command
from domain.ledger_state import Refused
from providers.base import Accepted, OutcomeUnknown, Rejected, Retryable
from providers.custodian import BankRail, OrderState, Payout, PayoutOrder, only_key
from server.ledger_writer import LedgerWriter
from storage import bank_payouts, provider_health, wallets, withdrawals
from storage.database import Engine

log = structlog.get_logger()

STARTS_PER_STEP = 50
TRIES_PER_STEP = 20
RETURNS_EVERY_SECONDS = 60.0
LOOK_BACK = timedelta(minutes=5)
"""How far the custodian's clock may be behind ours."""


class BankPayouts:
    """Starts payouts and brings them to their end."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: LedgerWriter,
        bank: BankRail,
        clock: Clock,
        entropy: Entropy,
        lease: timedelta = timedelta(seconds=60),
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._bank = bank
        self._clock = clock
        self._entropy = entropy
        self._lease = lease
        self._returns_due = clock.monotonic()

    async def step(self, *, woken: bool = False) -> None:
        """One round of everything. `woken` looks for returns at once."""
        async with self._engine.connect() as tx:
            paused = await provider_health.is_paused(tx, self._bank.name)
        if not paused:
            await self._start_all()
            await self._try_all()
        await self._release_refused()
        await self._observe_all()
        if woken or self._clock.monotonic() >= self._returns_due:
            self._returns_due = self._clock.monotonic() + RETURNS_EVERY_SECONDS
            await self._look_for_returns()

    # --- out ----------------------------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        async with self._engine.connect() as tx:
            waiting = await bank_payouts.waiting(tx, limit=STARTS_PER_STEP)
        for one in waiting:
            payout_id, key = self._entropy.uuid7(), only_key(one.withdrawal_id)
            async with self._engine.begin() as tx:
                started = await bank_payouts.start(tx, one, payout_id=payout_id, key=key, now=self._clock.now())
            if started:
                log.info("bank.payout_started", payout_id=str(payout_id), withdrawal_id=str(one.withdrawal_id))

    async def _try_all(self) -> None:
        for _ in range(TRIES_PER_STEP):
            now = self._clock.now()
            async with self._engine.begin() as tx:
                payout = await bank_payouts.claim(tx, now=now, lease=self._lease, asked_until=UNKNOWN_FOR)
            if payout is None:
                return
            await self._try(payout)

    async def _try(self, payout: StoredPayout) -> None:
        if payout.unknown_too_long(self._clock.now()):
            if not await self._find(payout):
                await self._wait(payout, "unknown for a day: a person has to look at the custodian and decide")
        elif payout.unanswered == 1 or not await self._find(payout):
            await self._order(payout)

    async def _order(self, payout: StoredPayout) -> None:
        order = PayoutOrder(
            key=payout.key, amount=payout.amount, bank_reference=payout.bank_reference, ordered_at=payout.ordered_at
        )
        match await self._bank.start_payout(order):
            case Accepted(reference=reference):
                await self._submitted(payout, reference)
            case Rejected(reason=reason):
                async with self._engine.begin() as tx:
                    definite = await bank_payouts.refused(tx, payout, reason=reason[:200])
                if not definite:
                    await self._wait(payout, f"refused, but a try before it may be on its way: {reason}")
            case Retryable(reason=reason, retry_after=pause):
                until = self._clock.now() + pause
                async with self._engine.begin() as tx:
                    await bank_payouts.give_back(tx, payout, until=until, reason=reason[:200], did_nothing=True)
            case OutcomeUnknown(reason=reason):
                await self._wait(payout, reason)

    async def _find(self, payout: StoredPayout) -> bool:
        """Look for a payout whose answer was lost. Only one like it can be missing, so the one nobody knows is it."""
        since, until = payout.ordered_at - LOOK_BACK, self._clock.now() + LOOK_BACK
        like_it = [
            one
            for one in await self._bank.payouts(since=since, until=until)
            if (one.bank_reference, one.amount) == (payout.bank_reference, payout.amount)
        ]
        async with self._engine.connect() as tx:
            known = await bank_payouts.known_references(tx, [one.reference for one in like_it])
        missing = [one for one in like_it if one.reference not in known]
        if len(missing) > 1:
            # Somebody paid the same bank the same amount by hand. Which of them is ours, a person has to say.
            await self._wait(payout, f"{len(missing)} payouts at the custodian may be this one")
            return True
        return bool(missing) and await self._submitted(payout, missing[0].reference)

    async def _submitted(self, payout: StoredPayout, reference: str) -> bool:
        async with self._engine.begin() as tx:
            noted = await bank_payouts.submitted(tx, payout, reference=reference, now=self._clock.now())
        if not noted:
            await self._wait(payout, f"the custodian's {reference} is another payout of ours")
        log.info("bank.payout_submitted", payout_id=str(payout.id), reference=reference, noted=noted)
        return True

    async def _wait(self, payout: StoredPayout, reason: str) -> None:
        until = self._clock.now() + try_again_after(payout.unanswered)
        async with self._engine.begin() as tx:
            await bank_payouts.give_back(tx, payout, until=until, reason=reason[:200])
        log.warning("bank.payout_waits", payout_id=str(payout.id), reason=reason[:200])

    # --- to the end ---------------------------------------------------------------------------------------------------

    async def _release_refused(self) -> None:
        async with self._engine.connect() as tx:
            refused = await bank_payouts.in_state(tx, {PayoutState.REFUSED})
        for payout in refused:
            await self._fail(payout, payout.reason)

    async def _observe_all(self) -> None:
        async with self._engine.connect() as tx:
            open_ones = await bank_payouts.in_state(tx, {PayoutState.SUBMITTED})
        for payout in open_ones:
            assert payout.provider_reference is not None, "what was submitted has an id there"
            found = await self._bank.payout(payout.provider_reference)
            await self._observe(payout, found)

    async def _observe(self, payout: StoredPayout, found: Payout | None) -> None:
        if found is None or (found.amount, found.bank_reference) != (payout.amount, payout.bank_reference):
            await self._remark(payout, "the custodian shows none, or another than was ordered", found)
        elif found.state is OrderState.COMPLETE:
            async with self._engine.connect() as tx:
                withdrawal = await withdrawals.get(tx, payout.withdrawal_id)
            now = self._clock.now()
            command = booking.completed(self._entropy, payout, withdrawal, provider_fee=found.fee, now=now)
            await self._submit(command, payout.id)
        elif found.state is OrderState.FAILED:
            await self._fail(payout, found.reason or "failed at the custodian")
        else:
            unknown = found.state is OrderState.UNRECOGNISED
            await self._remark(payout, "in a state that we do not know" if unknown else "", found)

    async def _remark(self, payout: StoredPayout, reason: str, found: Payout | None) -> None:
        fee = found.fee if found is not None else payout.fee
        if (reason, fee) == (payout.reason, payout.fee):
            return
        async with self._engine.begin() as tx:
            await bank_payouts.remark(tx, payout, reason=reason, fee=fee)

    async def _fail(self, payout: StoredPayout, reason: str) -> None:
        async with self._engine.connect() as tx:
            withdrawal = await withdrawals.get(tx, payout.withdrawal_id)
        now = self._clock.now()
        await self._submit(booking.failed(self._entropy, payout, withdrawal, reason=reason[:200], now=now), payout.id)

    # --- and back -----------------------------------------------------------------------------------------------------

    async def _look_for_returns(self) -> None:
        async with self._engine.connect() as tx:
            complete = await bank_payouts.returnable(tx, since=self._clock.now() - RETURNED_WITHIN)
        if not complete:
            return
        since = min(payout.ordered_at for payout in complete.values()) - LOOK_BACK
        for found in await self._bank.payouts(since=since, until=self._clock.now() + LOOK_BACK):
            payout, back = complete.get(found.reference), found.returned
            if payout is not None and back is not None and back.state is OrderState.COMPLETE:
                came = Return(reference=back.reference, amount=back.amount, fee=back.fee, reason=back.reason[:200])
                await self._reverse(payout, came)

    async def _reverse(self, payout: StoredPayout, back: Return) -> None:
        async with self._engine.connect() as tx:
            withdrawal = await withdrawals.get(tx, payout.withdrawal_id)
            flags = await wallets.read(tx, withdrawal.consumer_id)
        erased, now = flags.erased_at is not None, self._clock.now()
        command = booking.returned(self._entropy, payout, withdrawal, back, erased=erased, now=now)
        await self._submit(command, payout.id)

    async def _submit(self, command: Command, payout_id: UUID) -> None:
        """Have it booked. Refused, somebody else did it meanwhile."""
        outcome = await self._writer.submit(command)
        refusal = outcome.error if isinstance(outcome, Refused) else ""
        state = command.record_transitions[-1].state
        log.info("bank.payout", payout_id=str(payout_id), state=state, refused=str(refusal))
