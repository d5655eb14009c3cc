"""Bank accounts: linked, and listed with all but the last four characters of their numbers left out."""

from __future__ import annotations

from domain.bank_accounts import BankAccountState, BankDetails
from monay.wallet.v1 import consumer_pb2 as pb
from server.api import pages
from server.api.access import Call
from server.api.convert import timestamp
from server.services.bank_accounts import BankAccountService, LinkOrder
from storage import wallets
from storage.bank_accounts import BankAccount, BankAccounts
from storage.database import Engine, reading

_STATES = {
    BankAccountState.PENDING: pb.BANK_ACCOUNT_STATE_PENDING,
    BankAccountState.ACTIVE: pb.BANK_ACCOUNT_STATE_ACTIVE,
    BankAccountState.FAILED: pb.BANK_ACCOUNT_STATE_FAILED,
}
_RAILS = {pb.BANK_RAIL_UNSPECIFIED: "WIRE", pb.BANK_RAIL_WIRE: "WIRE", pb.BANK_RAIL_ACH: "ACH"}


class BankAccountsNoun:
    """LinkBankAccount, ListBankAccounts."""

    def __init__(self, *, engine: Engine, accounts: BankAccounts, service: BankAccountService) -> None:
        self._engine = engine
        self._accounts = accounts
        self._service = service

    async def link_bank_account(self, request: pb.LinkBankAccountRequest, call: Call) -> pb.LinkBankAccountResponse:
        order = LinkOrder(
            consumer=call.consumer_id,
            details=_details(request),
            rail=_RAILS[request.rail],
            caller=call.caller.name,
            request_id=request.request_id,
        )
        linked = await self._service.link(order, deadline=call.deadline)
        return pb.LinkBankAccountResponse(bank_account=_proto(linked.account), replayed=linked.replayed)

    async def list_bank_accounts(self, request: pb.ListBankAccountsRequest, call: Call) -> pb.ListBankAccountsResponse:
        bound_to = pages.binding(request, call.consumer_id)
        size = pages.size(request.page_size)
        async with reading(self._engine) as tx:
            await wallets.read(tx, call.consumer_id)
            behind = pages.id_behind(request, bound_to)
            found = await self._accounts.page(tx, call.consumer_id, before=behind, limit=size + 1)
        shown = found[:size]
        token = pages.encode(str(shown[-1].id), bound_to) if len(found) > size else ""
        return pb.ListBankAccountsResponse(bank_accounts=[_proto(account) for account in shown], next_page_token=token)


def _details(request: pb.LinkBankAccountRequest) -> BankDetails:
    address = request.holder_address
    return BankDetails(
        holder_name=request.holder_name,
        bank_name=request.bank_name,
        line1=address.line1,
        line2=address.line2,
        city=address.city,
        district=address.district,
        postal_code=address.postal_code,
        country=address.country,
        iban=request.iban,
        account_number=request.us.account_number,
        routing_number=request.us.routing_number,
    )


def _proto(account: BankAccount) -> pb.BankAccount:
    details = account.details
    return pb.BankAccount(
        id=str(account.id),
        state=_STATES[account.state],
        holder_name=details.holder_name,
        last_four=details.last_four,
        bank_name=details.bank_name,
        country=details.iban[:2] or "US",
        create_time=timestamp(account.created_at),
    )
