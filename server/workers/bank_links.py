"""Links of bank accounts in a sandbox: nobody is asked, and every ending can be tried.

A provider that checks bank accounts takes this handler's place. Until a deployment has one, the jobs wait.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain.bank_accounts import BankAccountState
from domain.clock import Clock
from server.workers.jobs import Handler
from storage import bank_accounts
from storage.bank_accounts import BankAccounts
from storage.database import Engine

REFUSED_ENDING = "0000"


def sandbox_link_handler(*, engine: Engine, accounts: BankAccounts, clock: Clock) -> Handler:
    """Accepts every account but those whose number ends in 0000."""

    async def link(body: dict[str, Any]) -> dict[str, Any]:
        account_id = UUID(body["bank_account_id"])
        async with engine.begin() as tx:
            account = await accounts.find(tx, account_id)
            if account is None:
                return {"state": "gone"}
            refused = account.details.last_four == REFUSED_ENDING
            state = BankAccountState.FAILED if refused else BankAccountState.ACTIVE
            reason = "refused by the sandbox" if refused else ""
            await bank_accounts.decide(tx, account_id, state, reason=reason, now=clock.now())
        return {"state": state}

    return link
