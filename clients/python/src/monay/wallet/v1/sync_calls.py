# Generated from the contract by proto/python_calls_plugin.py. Do not edit.
"""Every rpc of the wallet as a typed method."""

from collections.abc import Iterator

from monay.wallet.rpc import SyncCaller, Rpc
from monay.wallet.v1 import consumer_pb2, money_pb2, operations_service_pb2, provider_pb2, sandbox_service_pb2, transaction_pb2, transfer_pb2

ONBOARD = Rpc("/monay.wallet.v1.ConsumerWalletService/Onboard", consumer_pb2.OnboardRequest, consumer_pb2.OnboardResponse, repeatable=True)
GET_CONSUMER = Rpc("/monay.wallet.v1.ConsumerWalletService/GetConsumer", consumer_pb2.GetConsumerRequest, consumer_pb2.GetConsumerResponse, repeatable=True)
UPGRADE_KYC = Rpc("/monay.wallet.v1.ConsumerWalletService/UpgradeKyc", consumer_pb2.UpgradeKycRequest, consumer_pb2.UpgradeKycResponse, repeatable=True)
GET_LIMITS = Rpc("/monay.wallet.v1.ConsumerWalletService/GetLimits", consumer_pb2.GetLimitsRequest, consumer_pb2.GetLimitsResponse, repeatable=True)
GET_PREFERENCES = Rpc("/monay.wallet.v1.ConsumerWalletService/GetPreferences", consumer_pb2.GetPreferencesRequest, consumer_pb2.GetPreferencesResponse, repeatable=True)
UPDATE_PREFERENCES = Rpc("/monay.wallet.v1.ConsumerWalletService/UpdatePreferences", consumer_pb2.UpdatePreferencesRequest, consumer_pb2.UpdatePreferencesResponse, repeatable=True)
SET_HANDLE = Rpc("/monay.wallet.v1.ConsumerWalletService/SetHandle", consumer_pb2.SetHandleRequest, consumer_pb2.SetHandleResponse, repeatable=True)
LINK_BANK_ACCOUNT = Rpc("/monay.wallet.v1.ConsumerWalletService/LinkBankAccount", consumer_pb2.LinkBankAccountRequest, consumer_pb2.LinkBankAccountResponse, repeatable=True)
LIST_BANK_ACCOUNTS = Rpc("/monay.wallet.v1.ConsumerWalletService/ListBankAccounts", consumer_pb2.ListBankAccountsRequest, consumer_pb2.ListBankAccountsResponse, repeatable=True)
DEPOSIT = Rpc("/monay.wallet.v1.ConsumerWalletService/Deposit", transfer_pb2.DepositRequest, transfer_pb2.DepositResponse, repeatable=True)
WITHDRAW = Rpc("/monay.wallet.v1.ConsumerWalletService/Withdraw", transfer_pb2.WithdrawRequest, transfer_pb2.WithdrawResponse, repeatable=True)
TRANSFER = Rpc("/monay.wallet.v1.ConsumerWalletService/Transfer", transfer_pb2.TransferRequest, transfer_pb2.TransferResponse, repeatable=True)
BATCH_TRANSFER = Rpc("/monay.wallet.v1.ConsumerWalletService/BatchTransfer", transfer_pb2.BatchTransferRequest, transfer_pb2.BatchTransferResponse, repeatable=True)
SUBMIT_TRANSFERS = Rpc("/monay.wallet.v1.ConsumerWalletService/SubmitTransfers", transfer_pb2.SubmitTransfersRequest, transfer_pb2.SubmitTransfersResponse, repeatable=True)
REFUND_TRANSFER = Rpc("/monay.wallet.v1.ConsumerWalletService/RefundTransfer", transfer_pb2.RefundTransferRequest, transfer_pb2.RefundTransferResponse, repeatable=True)
QUOTE_SWAP = Rpc("/monay.wallet.v1.ConsumerWalletService/QuoteSwap", transfer_pb2.QuoteSwapRequest, transfer_pb2.QuoteSwapResponse, repeatable=True)
SWAP = Rpc("/monay.wallet.v1.ConsumerWalletService/Swap", transfer_pb2.SwapRequest, transfer_pb2.SwapResponse, repeatable=True)
CREATE_PAYMENT_REQUEST = Rpc("/monay.wallet.v1.ConsumerWalletService/CreatePaymentRequest", transfer_pb2.CreatePaymentRequestRequest, transfer_pb2.CreatePaymentRequestResponse, repeatable=True)
PAY_PAYMENT_REQUEST = Rpc("/monay.wallet.v1.ConsumerWalletService/PayPaymentRequest", transfer_pb2.PayPaymentRequestRequest, transfer_pb2.PayPaymentRequestResponse, repeatable=True)
DECLINE_PAYMENT_REQUEST = Rpc("/monay.wallet.v1.ConsumerWalletService/DeclinePaymentRequest", transfer_pb2.DeclinePaymentRequestRequest, transfer_pb2.DeclinePaymentRequestResponse, repeatable=True)
LIST_PAYMENT_REQUESTS = Rpc("/monay.wallet.v1.ConsumerWalletService/ListPaymentRequests", transfer_pb2.ListPaymentRequestsRequest, transfer_pb2.ListPaymentRequestsResponse, repeatable=True)
SCHEDULE_TRANSFER = Rpc("/monay.wallet.v1.ConsumerWalletService/ScheduleTransfer", transfer_pb2.ScheduleTransferRequest, transfer_pb2.ScheduleTransferResponse, repeatable=True)
LIST_SCHEDULED_TRANSFERS = Rpc("/monay.wallet.v1.ConsumerWalletService/ListScheduledTransfers", transfer_pb2.ListScheduledTransfersRequest, transfer_pb2.ListScheduledTransfersResponse, repeatable=True)
CANCEL_SCHEDULED_TRANSFER = Rpc("/monay.wallet.v1.ConsumerWalletService/CancelScheduledTransfer", transfer_pb2.CancelScheduledTransferRequest, transfer_pb2.CancelScheduledTransferResponse, repeatable=True)
GET_BALANCE = Rpc("/monay.wallet.v1.ConsumerWalletService/GetBalance", money_pb2.GetBalanceRequest, money_pb2.GetBalanceResponse, repeatable=True)
GET_PORTFOLIO = Rpc("/monay.wallet.v1.ConsumerWalletService/GetPortfolio", money_pb2.GetPortfolioRequest, money_pb2.GetPortfolioResponse, repeatable=True)
LIST_TRANSACTIONS = Rpc("/monay.wallet.v1.ConsumerWalletService/ListTransactions", transaction_pb2.ListTransactionsRequest, transaction_pb2.ListTransactionsResponse, repeatable=True)
GET_TRANSACTION = Rpc("/monay.wallet.v1.ConsumerWalletService/GetTransaction", transaction_pb2.GetTransactionRequest, transaction_pb2.GetTransactionResponse, repeatable=True)
EXPORT_STATEMENT = Rpc("/monay.wallet.v1.ConsumerWalletService/ExportStatement", transaction_pb2.ExportStatementRequest, transaction_pb2.ExportStatementResponse, repeatable=True)
WATCH_BALANCES = Rpc("/monay.wallet.v1.ConsumerWalletService/WatchBalances", money_pb2.WatchBalancesRequest, money_pb2.WatchBalancesResponse, repeatable=True)
WATCH_TRANSACTIONS = Rpc("/monay.wallet.v1.ConsumerWalletService/WatchTransactions", transaction_pb2.WatchTransactionsRequest, transaction_pb2.WatchTransactionsResponse, repeatable=True)
GET_PROVIDER_STATUS = Rpc("/monay.wallet.v1.ConsumerWalletService/GetProviderStatus", provider_pb2.GetProviderStatusRequest, provider_pb2.GetProviderStatusResponse, repeatable=True)
GET_HEALTH = Rpc("/monay.wallet.v1.ConsumerWalletService/GetHealth", provider_pb2.GetHealthRequest, provider_pb2.GetHealthResponse, repeatable=True)


class ConsumerWalletCalls:
    """Wallets of consumers: accounts, balances, payments, history."""

    def __init__(self, caller: SyncCaller) -> None:
        self._caller = caller

    def onboard(
        self, request: consumer_pb2.OnboardRequest, *, timeout: float | None = None
    ) -> consumer_pb2.OnboardResponse:
        """Makes a consumer with a wallet at KYC level 1.

        The wallet works at once: it can receive transfers, and its address on chain can receive tokens. Nothing is asked
        of any network while the caller waits, because addresses are made ahead. Email and phone are normalised, sealed,
        and found again only by a blind index.

        Idempotent by request_id where one is given. Without it, a repeat gives EMAIL_TAKEN or PHONE_TAKEN.

        Errors: EMAIL_TAKEN, PHONE_TAKEN, KYC_LEVEL_NOT_ALLOWED for a level above 1, ADDRESS_POOL_EMPTY,
        IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(ONBOARD, request, timeout)

    def get_consumer(
        self, request: consumer_pb2.GetConsumerRequest, *, timeout: float | None = None
    ) -> consumer_pb2.GetConsumerResponse:
        """Who the consumer is: contact, handle, KYC level, state, addresses.

        An erased consumer is still answered, with the personal fields empty.
        """
        return self._caller.unary(GET_CONSUMER, request, timeout)

    def upgrade_kyc(
        self, request: consumer_pb2.UpgradeKycRequest, *, timeout: float | None = None
    ) -> consumer_pb2.UpgradeKycResponse:
        """Opens a case to be raised by one KYC level.

        The case waits for a verifier: a person in production, who decides it by OperationsService.DecideKyc, and a machine
        that says yes in the sandbox. The level changes in the same commit as the decision, and the new limit holds from
        the next call on. A consumer has at most one open case; asking again for the same level answers that case.

        Idempotent by nature.

        Errors: KYC_LEVEL_NOT_ALLOWED if it is not the next level, KYC_EVIDENCE_MISSING, CONSUMER_FROZEN, CONSUMER_ERASED.
        """
        return self._caller.unary(UPGRADE_KYC, request, timeout)

    def get_limits(
        self, request: consumer_pb2.GetLimitsRequest, *, timeout: float | None = None
    ) -> consumer_pb2.GetLimitsResponse:
        """What may still go out today, when it starts anew, and what the next KYC level needs.

        The figures are those that the next transfer will be judged by. They may be overtaken by a concurrent transfer,
        which is why LIMIT_EXCEEDED carries them too.
        """
        return self._caller.unary(GET_LIMITS, request, timeout)

    def get_preferences(
        self, request: consumer_pb2.GetPreferencesRequest, *, timeout: float | None = None
    ) -> consumer_pb2.GetPreferencesResponse:
        """The consumer's preferences. Who never set any gets the defaults, with an etag."""
        return self._caller.unary(GET_PREFERENCES, request, timeout)

    def update_preferences(
        self, request: consumer_pb2.UpdatePreferencesRequest, *, timeout: float | None = None
    ) -> consumer_pb2.UpdatePreferencesResponse:
        """Sets the fields named in update_mask and answers all preferences.

        With an etag it is applied only if nothing changed since it was read. Idempotent by nature.

        Errors: ETAG_MISMATCH.
        """
        return self._caller.unary(UPDATE_PREFERENCES, request, timeout)

    def set_handle(
        self, request: consumer_pb2.SetHandleRequest, *, timeout: float | None = None
    ) -> consumer_pb2.SetHandleResponse:
        """Gives the consumer a handle, by which others can pay: @name.

        A handle is unique without regard to case. A consumer has one. The one given up is kept from others for 90 days, so
        that money meant for its former owner does not reach a stranger. Idempotent by nature.

        Errors: HANDLE_TAKEN, CONSUMER_FROZEN, CONSUMER_ERASED.
        """
        return self._caller.unary(SET_HANDLE, request, timeout)

    def link_bank_account(
        self, request: consumer_pb2.LinkBankAccountRequest, *, timeout: float | None = None
    ) -> consumer_pb2.LinkBankAccountResponse:
        """Links a bank account that withdrawals can be paid to and deposits can come from.

        It answers at once with the account PENDING; the provider's check follows. The number is sealed before it is
        stored, and only its last four characters ever come back. Idempotent by request_id.

        Errors: RAIL_UNSUPPORTED for ACH, CONSUMER_FROZEN, CONSUMER_ERASED, IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(LINK_BANK_ACCOUNT, request, timeout)

    def list_bank_accounts(
        self, request: consumer_pb2.ListBankAccountsRequest, *, timeout: float | None = None
    ) -> consumer_pb2.ListBankAccountsResponse:
        """The consumer's bank accounts, newest first.

        Errors: PAGE_TOKEN_INVALID.
        """
        return self._caller.unary(LIST_BANK_ACCOUNTS, request, timeout)

    def iterate_bank_accounts(
        self, request: consumer_pb2.ListBankAccountsRequest, *, timeout: float | None = None
    ) -> Iterator[consumer_pb2.BankAccount]:
        """Each of what list_bank_accounts lists, page after page. `timeout` is each page's."""
        page_request = consumer_pb2.ListBankAccountsRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_bank_accounts(page_request, timeout=timeout)
            for item in page.bank_accounts:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def deposit(
        self, request: transfer_pb2.DepositRequest, *, timeout: float | None = None
    ) -> transfer_pb2.DepositResponse:
        """Says how to bring money in: an address on chain, or bank details with a reference, whichever suits.

        Routing looks at amount, speed, asset, fee and health, and the answer says what it chose and what it rejected.
        Nothing moves yet. The money is credited once its block is final or the bank transfer is complete, each arrival
        once, and also when it comes unannounced or in another amount.

        Idempotent by request_id: a replay gives the same instructions.

        Errors: ASSET_UNSUPPORTED, NO_ROUTE, BANK_ACCOUNT_NOT_FOUND, BANK_ACCOUNT_NOT_ACTIVE, PROVIDER_UNAVAILABLE,
        CONSUMER_FROZEN, CONSUMER_ERASED, IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(DEPOSIT, request, timeout)

    def withdraw(
        self, request: transfer_pb2.WithdrawRequest, *, timeout: float | None = None
    ) -> transfer_pb2.WithdrawResponse:
        """Sends money out, to an address on Tempo or to a linked bank account.

        Amount and fee are held in one commit, and that is when the call answers; the transaction is PENDING. When the rail
        has it for good, the hold is posted and the transaction COMPLETED. On a definite failure, and only then, the hold
        is released, the day's limit is given back, and the transaction is FAILED. A bank may return a payout days later:
        then a REVERSAL follows. An address that belongs to this wallet system is paid as a transfer.

        Idempotent by request_id.

        Errors: INSUFFICIENT_FUNDS, LIMIT_EXCEEDED, CONSUMER_FROZEN, CONSUMER_ERASED, ASSET_UNSUPPORTED,
        DESTINATION_REFUSED, BANK_ACCOUNT_NOT_FOUND, BANK_ACCOUNT_NOT_ACTIVE, RATE_TOO_OLD, NO_ROUTE, PROVIDER_UNAVAILABLE,
        IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(WITHDRAW, request, timeout)

    def transfer(
        self, request: transfer_pb2.TransferRequest, *, timeout: float | None = None
    ) -> transfer_pb2.TransferResponse:
        """Pays another consumer, at once.

        When it answers, the recipient can spend the money, and neither a crash nor a chain can take it back. A flat fee
        comes on top. Funds, limit and flags are judged in the commit that moves the money, so concurrent transfers can
        neither overdraw a wallet nor pass a limit. Settlement follows, in the sender's order, and is told by
        WatchTransactions.

        Idempotent by request_id: a replay answers what the first call answered.

        Errors: INSUFFICIENT_FUNDS, LIMIT_EXCEEDED, CONSUMER_FROZEN, CONSUMER_ERASED, RECIPIENT_NOT_FOUND,
        RECIPIENT_FROZEN, SELF_TRANSFER, ASSET_UNSUPPORTED, BALANCE_OVERFLOW, RATE_TOO_OLD, IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(TRANSFER, request, timeout)

    def batch_transfer(
        self, request: transfer_pb2.BatchTransferRequest, *, timeout: float | None = None
    ) -> transfer_pb2.BatchTransferResponse:
        """Pays many consumers in one go, for one fee, all of them or none.

        Each recipient's part is a transaction of its own with the common batch_id. One bad item refuses the batch and
        nothing moves; the error names it by its path, items[3].amount, counted from zero. Settlement puts as many items as
        the chain allows into each chain transaction.

        Idempotent by request_id, which covers the whole batch.

        Errors: those of Transfer, and BATCH_TOO_LARGE.
        """
        return self._caller.unary(BATCH_TRANSFER, request, timeout)

    def submit_transfers(
        self, request: transfer_pb2.SubmitTransfersRequest, *, timeout: float | None = None
    ) -> transfer_pb2.SubmitTransfersResponse:
        """Hands in up to 1,000 independent transfers, for services that move money in bulk.

        Each is a Transfer of its own, with its own consumer_id, request_id, decision and answer, and one that is refused
        leaves the others alone: look at every result. Those of one sender are decided in the order given. Some may have
        taken effect when the call as a whole fails; sending the same message again is right, and answers those as replays.

        Errors: of each transfer, those of Transfer, in its result.
        """
        return self._caller.unary(SUBMIT_TRANSFERS, request, timeout)

    def refund_transfer(
        self, request: transfer_pb2.RefundTransferRequest, *, timeout: float | None = None
    ) -> transfer_pb2.RefundTransferResponse:
        """Gives back a transfer that the wallet received, in whole or in part.

        The money goes to who sent it, whatever has become of their handle, and costs no fee and no limit. Several refunds
        may follow one another until nothing is left of the transfer. Idempotent by request_id.

        Errors: TRANSACTION_NOT_FOUND, NOT_REFUNDABLE, REFUND_TOO_LARGE, INSUFFICIENT_FUNDS, CONSUMER_FROZEN,
        CONSUMER_ERASED, RECIPIENT_FROZEN, IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(REFUND_TRANSFER, request, timeout)

    def quote_swap(
        self, request: transfer_pb2.QuoteSwapRequest, *, timeout: float | None = None
    ) -> transfer_pb2.QuoteSwapResponse:
        """Names the price of a swap and holds it until the quote expires.

        Dollar assets are priced on the exchange of the chain, euros at the reference rate with a spread. A quote reserves
        nothing and obliges to nothing.

        Errors: ASSET_UNSUPPORTED, NO_LIQUIDITY, RATE_TOO_OLD, SWAPS_SUSPENDED, PROVIDER_UNAVAILABLE.
        """
        return self._caller.unary(QUOTE_SWAP, request, timeout)

    def swap(
        self, request: transfer_pb2.SwapRequest, *, timeout: float | None = None
    ) -> transfer_pb2.SwapResponse:
        """Swaps at exactly the quoted price, once.

        Both sides are booked in one commit and can be spent at once. What the market does until the swap has settled is
        the operator's risk. A quote can be swapped once; a swap costs its spread and no fee, and does not count towards
        the limit. Idempotent by request_id.

        Errors: QUOTE_NOT_FOUND, QUOTE_EXPIRED, QUOTE_USED, PRICE_MOVED, INSUFFICIENT_FUNDS, NO_LIQUIDITY,
        RATE_TOO_OLD, PROVIDER_UNAVAILABLE, SWAPS_SUSPENDED, CONSUMER_FROZEN, CONSUMER_ERASED, IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(SWAP, request, timeout)

    def create_payment_request(
        self, request: transfer_pb2.CreatePaymentRequestRequest, *, timeout: float | None = None
    ) -> transfer_pb2.CreatePaymentRequestResponse:
        """Asks another consumer for money.

        Nothing is reserved. The request stays open until it is paid, declined, cancelled or expired, and it ends once.
        Idempotent by request_id.

        Errors: RECIPIENT_NOT_FOUND, SELF_TRANSFER, ASSET_UNSUPPORTED, CONSUMER_FROZEN, CONSUMER_ERASED,
        IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(CREATE_PAYMENT_REQUEST, request, timeout)

    def pay_payment_request(
        self, request: transfer_pb2.PayPaymentRequestRequest, *, timeout: float | None = None
    ) -> transfer_pb2.PayPaymentRequestResponse:
        """Pays a request: a Transfer to who asked, of what they asked for.

        The request is closed in the same commit, so it is paid once however many ids are used. Idempotent by request_id.

        Errors: PAYMENT_REQUEST_NOT_FOUND, PAYMENT_REQUEST_CLOSED, NOT_THE_PAYER, and those of Transfer.
        """
        return self._caller.unary(PAY_PAYMENT_REQUEST, request, timeout)

    def decline_payment_request(
        self, request: transfer_pb2.DeclinePaymentRequestRequest, *, timeout: float | None = None
    ) -> transfer_pb2.DeclinePaymentRequestResponse:
        """Ends an open request without payment. By who was asked it is declined; by who asked it is cancelled.

        Idempotent by nature: declining a declined request answers it again.

        Errors: PAYMENT_REQUEST_NOT_FOUND, PAYMENT_REQUEST_CLOSED if it ended otherwise.
        """
        return self._caller.unary(DECLINE_PAYMENT_REQUEST, request, timeout)

    def list_payment_requests(
        self, request: transfer_pb2.ListPaymentRequestsRequest, *, timeout: float | None = None
    ) -> transfer_pb2.ListPaymentRequestsResponse:
        """Requests that the wallet made or got, newest first.

        Errors: PAGE_TOKEN_INVALID.
        """
        return self._caller.unary(LIST_PAYMENT_REQUESTS, request, timeout)

    def iterate_payment_requests(
        self, request: transfer_pb2.ListPaymentRequestsRequest, *, timeout: float | None = None
    ) -> Iterator[transfer_pb2.PaymentRequest]:
        """Each of what list_payment_requests lists, page after page. `timeout` is each page's."""
        page_request = transfer_pb2.ListPaymentRequestsRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_payment_requests(page_request, timeout=timeout)
            for item in page.payment_requests:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def schedule_transfer(
        self, request: transfer_pb2.ScheduleTransferRequest, *, timeout: float | None = None
    ) -> transfer_pb2.ScheduleTransferResponse:
        """Makes a transfer later, once or again and again.

        Each run is a Transfer that is made exactly once, also across restarts; a run that was missed while the service was
        away is made late, and not twice. Funds, limit and flags are judged when it runs. A refused run is told by
        `last_error` and is not repeated; the next one follows at its time. The recipient is fixed now: a handle that
        changes hands later changes nothing. Idempotent by request_id.

        Errors: SCHEDULE_INVALID, RECIPIENT_NOT_FOUND, SELF_TRANSFER, ASSET_UNSUPPORTED, CONSUMER_FROZEN, CONSUMER_ERASED,
        IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(SCHEDULE_TRANSFER, request, timeout)

    def list_scheduled_transfers(
        self, request: transfer_pb2.ListScheduledTransfersRequest, *, timeout: float | None = None
    ) -> transfer_pb2.ListScheduledTransfersResponse:
        """The wallet's scheduled transfers, newest first, those that are over included.

        Errors: PAGE_TOKEN_INVALID.
        """
        return self._caller.unary(LIST_SCHEDULED_TRANSFERS, request, timeout)

    def iterate_scheduled_transfers(
        self, request: transfer_pb2.ListScheduledTransfersRequest, *, timeout: float | None = None
    ) -> Iterator[transfer_pb2.ScheduledTransfer]:
        """Each of what list_scheduled_transfers lists, page after page. `timeout` is each page's."""
        page_request = transfer_pb2.ListScheduledTransfersRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_scheduled_transfers(page_request, timeout=timeout)
            for item in page.scheduled_transfers:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def cancel_scheduled_transfer(
        self, request: transfer_pb2.CancelScheduledTransferRequest, *, timeout: float | None = None
    ) -> transfer_pb2.CancelScheduledTransferResponse:
        """Stops a scheduled transfer. A run that has begun is finished; none follows.

        Idempotent by nature.

        Errors: SCHEDULED_TRANSFER_NOT_FOUND, SCHEDULED_TRANSFER_COMPLETED.
        """
        return self._caller.unary(CANCEL_SCHEDULED_TRANSFER, request, timeout)

    def get_balance(
        self, request: money_pb2.GetBalanceRequest, *, timeout: float | None = None
    ) -> money_pb2.GetBalanceResponse:
        """What the wallet holds, by asset.

        Never older than the caller's own last write, cache or not. Held money is not available; settling money is.

        Errors: ASSET_UNSUPPORTED.
        """
        return self._caller.unary(GET_BALANCE, request, timeout)

    def get_portfolio(
        self, request: money_pb2.GetPortfolioRequest, *, timeout: float | None = None
    ) -> money_pb2.GetPortfolioResponse:
        """All assets with their worth in dollars, where they stand, and how they changed in a day.

        Balances are as fresh as GetBalance's. Positions are those last confirmed on their rail and may lag behind.

        Errors: RATE_TOO_OLD if euros are among the assets.
        """
        return self._caller.unary(GET_PORTFOLIO, request, timeout)

    def list_transactions(
        self, request: transaction_pb2.ListTransactionsRequest, *, timeout: float | None = None
    ) -> transaction_pb2.ListTransactionsResponse:
        """The wallet's history, newest first, page by page.

        A page token points at a place in the history, so what arrives meanwhile neither repeats nor hides anything on
        later pages. To go on live without a gap, watch from the first page's resume_cursor.

        Errors: PAGE_TOKEN_INVALID, ASSET_UNSUPPORTED.
        """
        return self._caller.unary(LIST_TRANSACTIONS, request, timeout)

    def iterate_transactions(
        self, request: transaction_pb2.ListTransactionsRequest, *, timeout: float | None = None
    ) -> Iterator[transaction_pb2.Transaction]:
        """Each of what list_transactions lists, page after page. `timeout` is each page's."""
        page_request = transaction_pb2.ListTransactionsRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_transactions(page_request, timeout=timeout)
            for item in page.transactions:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def get_transaction(
        self, request: transaction_pb2.GetTransactionRequest, *, timeout: float | None = None
    ) -> transaction_pb2.GetTransactionResponse:
        """One transaction with its settlement receipts: provider, chain transaction, block, log, network fee and times.

        Either party of a transfer can ask for it.

        Errors: TRANSACTION_NOT_FOUND.
        """
        return self._caller.unary(GET_TRANSACTION, request, timeout)

    def export_statement(
        self, request: transaction_pb2.ExportStatementRequest, *, timeout: float | None = None
    ) -> Iterator[transaction_pb2.ExportStatementResponse]:
        """The wallet's history as a document, oldest first, in pieces as fast as the client reads.

        Snapshot: it shows the wallet as it was when the call began. Order: by time of recording. The document is whole if
        the stream ends with OK. Reconnect: start again; there is no resuming.

        Errors: ASSET_UNSUPPORTED.
        """
        return self._caller.stream(EXPORT_STATEMENT, request, timeout)

    def get_provider_status(
        self, request: provider_pb2.GetProviderStatusRequest, *, timeout: float | None = None
    ) -> provider_pb2.GetProviderStatusResponse:
        """How each provider is, and what routing would choose now for each asset.

        The figures are those that routing uses. A provider that is down delays settlement and nothing else.
        """
        return self._caller.unary(GET_PROVIDER_STATUS, request, timeout)

    def get_health(
        self, request: provider_pb2.GetHealthRequest, *, timeout: float | None = None
    ) -> provider_pb2.GetHealthResponse:
        """One word on the service, for monitors that read JSON. It needs no token.

        The standard grpc.health.v1.Health service says the same by name, for machines.
        """
        return self._caller.unary(GET_HEALTH, request, timeout)

GET_LEDGER_PROOF = Rpc("/monay.wallet.v1.OperationsService/GetLedgerProof", operations_service_pb2.GetLedgerProofRequest, operations_service_pb2.GetLedgerProofResponse, repeatable=True)
FREEZE_CONSUMER = Rpc("/monay.wallet.v1.OperationsService/FreezeConsumer", operations_service_pb2.FreezeConsumerRequest, operations_service_pb2.FreezeConsumerResponse, repeatable=True)
UNFREEZE_CONSUMER = Rpc("/monay.wallet.v1.OperationsService/UnfreezeConsumer", operations_service_pb2.UnfreezeConsumerRequest, operations_service_pb2.UnfreezeConsumerResponse, repeatable=True)
LIST_KYC_CASES = Rpc("/monay.wallet.v1.OperationsService/ListKycCases", operations_service_pb2.ListKycCasesRequest, operations_service_pb2.ListKycCasesResponse, repeatable=True)
DECIDE_KYC = Rpc("/monay.wallet.v1.OperationsService/DecideKyc", operations_service_pb2.DecideKycRequest, operations_service_pb2.DecideKycResponse, repeatable=True)
ERASE_PERSONAL_DATA = Rpc("/monay.wallet.v1.OperationsService/ErasePersonalData", operations_service_pb2.ErasePersonalDataRequest, operations_service_pb2.ErasePersonalDataResponse, repeatable=True)
LIST_UNSETTLED = Rpc("/monay.wallet.v1.OperationsService/ListUnsettled", operations_service_pb2.ListUnsettledRequest, operations_service_pb2.ListUnsettledResponse, repeatable=True)
RETRY_SETTLEMENT = Rpc("/monay.wallet.v1.OperationsService/RetrySettlement", operations_service_pb2.RetrySettlementRequest, operations_service_pb2.RetrySettlementResponse, repeatable=True)
LIST_BANK_TRANSFERS = Rpc("/monay.wallet.v1.OperationsService/ListBankTransfers", operations_service_pb2.ListBankTransfersRequest, operations_service_pb2.ListBankTransfersResponse, repeatable=True)
RESOLVE_PAYOUT = Rpc("/monay.wallet.v1.OperationsService/ResolvePayout", operations_service_pb2.ResolvePayoutRequest, operations_service_pb2.ResolvePayoutResponse, repeatable=True)
PAUSE_PROVIDER = Rpc("/monay.wallet.v1.OperationsService/PauseProvider", operations_service_pb2.PauseProviderRequest, operations_service_pb2.PauseProviderResponse, repeatable=True)
RESUME_PROVIDER = Rpc("/monay.wallet.v1.OperationsService/ResumeProvider", operations_service_pb2.ResumeProviderRequest, operations_service_pb2.ResumeProviderResponse, repeatable=True)
PROPOSE_ADJUSTMENT = Rpc("/monay.wallet.v1.OperationsService/ProposeAdjustment", operations_service_pb2.ProposeAdjustmentRequest, operations_service_pb2.ProposeAdjustmentResponse, repeatable=True)
APPROVE_ADJUSTMENT = Rpc("/monay.wallet.v1.OperationsService/ApproveAdjustment", operations_service_pb2.ApproveAdjustmentRequest, operations_service_pb2.ApproveAdjustmentResponse, repeatable=True)
SET_REFERENCE_RATE = Rpc("/monay.wallet.v1.OperationsService/SetReferenceRate", operations_service_pb2.SetReferenceRateRequest, operations_service_pb2.SetReferenceRateResponse, repeatable=True)
LIST_AUDIT = Rpc("/monay.wallet.v1.OperationsService/ListAudit", operations_service_pb2.ListAuditRequest, operations_service_pb2.ListAuditResponse, repeatable=True)
VERIFY_AUDIT = Rpc("/monay.wallet.v1.OperationsService/VerifyAudit", operations_service_pb2.VerifyAuditRequest, operations_service_pb2.VerifyAuditResponse, repeatable=True)


class OperationsCalls:
    """Operators' view of the wallet and their levers."""

    def __init__(self, caller: SyncCaller) -> None:
        self._caller = caller

    def get_ledger_proof(
        self, request: operations_service_pb2.GetLedgerProofRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.GetLedgerProofResponse:
        """Shows that every consumer's balance is backed.

        A proof compares, at one final block: the sum of all postings, which is zero; each balance with its entries; for
        every holder and asset, the operator included, what the ledger owes with what stands on the rails and what is on
        its way; and each position with what the chain says. Every difference is a break, and is listed. Nothing is
        repaired here.

        Workers make proofs continuously and this answers the latest. With `refresh` it waits for a new one, within the
        caller's deadline.

        Errors: PROOF_TOO_OLD if the latest is older than allowed.
        """
        return self._caller.unary(GET_LEDGER_PROOF, request, timeout)

    def freeze_consumer(
        self, request: operations_service_pb2.FreezeConsumerRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.FreezeConsumerResponse:
        """Stops a wallet from sending and receiving transfers, from the next decision on.

        What was committed before still settles, deposits are still credited, and reads go on. Idempotent by nature.

        Errors: CONSUMER_NOT_FOUND, CONSUMER_ERASED.
        """
        return self._caller.unary(FREEZE_CONSUMER, request, timeout)

    def unfreeze_consumer(
        self, request: operations_service_pb2.UnfreezeConsumerRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.UnfreezeConsumerResponse:
        """Lets a frozen wallet move money again. Idempotent by nature.

        Errors: CONSUMER_NOT_FOUND, CONSUMER_ERASED.
        """
        return self._caller.unary(UNFREEZE_CONSUMER, request, timeout)

    def list_kyc_cases(
        self, request: operations_service_pb2.ListKycCasesRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ListKycCasesResponse:
        """Cases that consumers opened, oldest first, so that the one that waits longest is on top.

        Errors: PAGE_TOKEN_INVALID.
        """
        return self._caller.unary(LIST_KYC_CASES, request, timeout)

    def iterate_kyc_cases(
        self, request: operations_service_pb2.ListKycCasesRequest, *, timeout: float | None = None
    ) -> Iterator[consumer_pb2.KycCase]:
        """Each of what list_kyc_cases lists, page after page. `timeout` is each page's."""
        page_request = operations_service_pb2.ListKycCasesRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_kyc_cases(page_request, timeout=timeout)
            for item in page.kyc_cases:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def decide_kyc(
        self, request: operations_service_pb2.DecideKycRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.DecideKycResponse:
        """Approves or rejects a KYC case. With approval the consumer's level rises in the same commit.

        Idempotent by nature: the same decision again answers the case.

        Errors: KYC_CASE_NOT_FOUND, KYC_CASE_DECIDED if it was decided the other way.
        """
        return self._caller.unary(DECIDE_KYC, request, timeout)

    def erase_personal_data(
        self, request: operations_service_pb2.ErasePersonalDataRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ErasePersonalDataResponse:
        """Erases what is known about a person, for good, and closes the wallet.

        Email, phone, name, handle and bank accounts go; transactions, postings and the audit log stay, under an id that
        leads to nobody. The wallet has to be empty and settled. Idempotent by nature.

        Errors: CONSUMER_NOT_FOUND, WALLET_NOT_EMPTY.
        """
        return self._caller.unary(ERASE_PERSONAL_DATA, request, timeout)

    def list_unsettled(
        self, request: operations_service_pb2.ListUnsettledRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ListUnsettledResponse:
        """Settlement items that are not final, oldest first, with every attempt that was made.

        An item that is INDETERMINATE says what is missing for a proof.

        Errors: PAGE_TOKEN_INVALID, PROVIDER_NOT_FOUND.
        """
        return self._caller.unary(LIST_UNSETTLED, request, timeout)

    def iterate_unsettled(
        self, request: operations_service_pb2.ListUnsettledRequest, *, timeout: float | None = None
    ) -> Iterator[operations_service_pb2.UnsettledItem]:
        """Each of what list_unsettled lists, page after page. `timeout` is each page's."""
        page_request = operations_service_pb2.ListUnsettledRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_unsettled(page_request, timeout=timeout)
            for item in page.items:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def retry_settlement(
        self, request: operations_service_pb2.RetrySettlementRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.RetrySettlementResponse:
        """Puts a BLOCKED item, or one that waits after failures, back into its queue, once its cause is gone.

        A FAILED item is final and is refused: what it was to move has been given back, if it was a withdrawal, or moves by
        way of the operator under items of its own, which the same transaction lists.

        It cannot make a payment double: an item with an attempt that is not proven dead is refused. Idempotent by nature:
        an item that waits already is answered as it is.

        Errors: SETTLEMENT_NOT_FOUND, SETTLEMENT_NOT_RETRYABLE.
        """
        return self._caller.unary(RETRY_SETTLEMENT, request, timeout)

    def list_bank_transfers(
        self, request: operations_service_pb2.ListBankTransfersRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ListBankTransfersResponse:
        """Money between banks and the operator's account with a provider: wires that came, payouts that went, newest first.

        What waits for an operator says so. A SUSPENDED wire stands in `suspense` until an adjustment moves it.

        Errors: PAGE_TOKEN_INVALID.
        """
        return self._caller.unary(LIST_BANK_TRANSFERS, request, timeout)

    def iterate_bank_transfers(
        self, request: operations_service_pb2.ListBankTransfersRequest, *, timeout: float | None = None
    ) -> Iterator[operations_service_pb2.BankTransfer]:
        """Each of what list_bank_transfers lists, page after page. `timeout` is each page's."""
        page_request = operations_service_pb2.ListBankTransfersRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_bank_transfers(page_request, timeout=timeout)
            for item in page.bank_transfers:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def resolve_payout(
        self, request: operations_service_pb2.ResolvePayoutRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ResolvePayoutResponse:
        """Says what became of a payout whose outcome nobody could learn for a day, after a person has looked at the provider.

        Either it was made, under the provider's id for it, and goes on from there; or it was not, and the hold is released
        within seconds. A payout that is said not to have been made and was is paid twice, so look carefully. Idempotent by
        nature.

        Errors: PAYOUT_NOT_FOUND, PAYOUT_NOT_RESOLVABLE.
        """
        return self._caller.unary(RESOLVE_PAYOUT, request, timeout)

    def pause_provider(
        self, request: operations_service_pb2.PauseProviderRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.PauseProviderResponse:
        """Takes a provider out of routing and stops new attempts there. What is out already is watched to its end.

        Idempotent by nature.

        Errors: PROVIDER_NOT_FOUND.
        """
        return self._caller.unary(PAUSE_PROVIDER, request, timeout)

    def resume_provider(
        self, request: operations_service_pb2.ResumeProviderRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ResumeProviderResponse:
        """Lets a paused provider work again. Its breaker still has a say. Idempotent by nature.

        Errors: PROVIDER_NOT_FOUND.
        """
        return self._caller.unary(RESUME_PROVIDER, request, timeout)

    def propose_adjustment(
        self, request: operations_service_pb2.ProposeAdjustmentRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ProposeAdjustmentResponse:
        """Proposes a posting between two accounts, to correct what only people can judge: a refund, a loss, a found break.

        Nothing moves until another operator approves it; it expires after seven days. If it stands in for a settlement
        item that cannot go on, `cancel_item_id` names the item, and both happen in one commit. Idempotent by request_id.

        Errors: CONSUMER_NOT_FOUND, SETTLEMENT_NOT_FOUND, SETTLEMENT_NOT_RETRYABLE, INSUFFICIENT_FUNDS,
        IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(PROPOSE_ADJUSTMENT, request, timeout)

    def approve_adjustment(
        self, request: operations_service_pb2.ApproveAdjustmentRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ApproveAdjustmentResponse:
        """Approves another operator's proposal and books it in the same commit. Funds are judged now.

        Idempotent by request_id, and by nature: an adjustment is booked once.

        Errors: ADJUSTMENT_NOT_FOUND, ADJUSTMENT_CLOSED, SAME_OPERATOR, INSUFFICIENT_FUNDS, SETTLEMENT_NOT_RETRYABLE,
        IDEMPOTENCY_KEY_REUSED.
        """
        return self._caller.unary(APPROVE_ADJUSTMENT, request, timeout)

    def set_reference_rate(
        self, request: operations_service_pb2.SetReferenceRateRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.SetReferenceRateResponse:
        """Sets what one euro is worth in dollars, for limits, portfolios and swaps of EURC.

        Every process decides by it within two seconds. A rate that grows too old is not used: what depends on it is
        refused. Idempotent by nature.
        """
        return self._caller.unary(SET_REFERENCE_RATE, request, timeout)

    def list_audit(
        self, request: operations_service_pb2.ListAuditRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.ListAuditResponse:
        """The audit log, newest first: every movement of money and every act of an operator.

        Errors: PAGE_TOKEN_INVALID.
        """
        return self._caller.unary(LIST_AUDIT, request, timeout)

    def iterate_audit(
        self, request: operations_service_pb2.ListAuditRequest, *, timeout: float | None = None
    ) -> Iterator[operations_service_pb2.AuditRecord]:
        """Each of what list_audit lists, page after page. `timeout` is each page's."""
        page_request = operations_service_pb2.ListAuditRequest()
        page_request.CopyFrom(request)
        while True:
            page = self.list_audit(page_request, timeout=timeout)
            for item in page.records:
                yield item
            if not page.next_page_token:
                return
            page_request.page_token = page.next_page_token

    def verify_audit(
        self, request: operations_service_pb2.VerifyAuditRequest, *, timeout: float | None = None
    ) -> operations_service_pb2.VerifyAuditResponse:
        """Recomputes the hash chain of the audit log and tells what does not fit: a record altered, missing or moved.

        A worker chains new records within seconds; the answer says how far the chain reaches. It reads the whole range
        that was asked for, so give it a deadline to match.
        """
        return self._caller.unary(VERIFY_AUDIT, request, timeout)

FAUCET = Rpc("/monay.wallet.v1.SandboxService/Faucet", sandbox_service_pb2.FaucetRequest, sandbox_service_pb2.FaucetResponse, repeatable=True)


class SandboxCalls:
    """Money for nothing, for development and tests."""

    def __init__(self, caller: SyncCaller) -> None:
        self._caller = caller

    def faucet(
        self, request: sandbox_service_pb2.FaucetRequest, *, timeout: float | None = None
    ) -> sandbox_service_pb2.FaucetResponse:
        """Pays tokens to the consumer's address on Tempo.

        It is a real token transfer, made by an account outside the books, so what follows is what follows any deposit: the
        watcher sees the final block and credits the ledger once. The call returns when the transfer is on chain, which is
        before it is credited; watch the balance to see it arrive.

        Idempotent by request_id where one is given; without it each call pays.

        Errors: ASSET_UNSUPPORTED, CONSUMER_NOT_FOUND, PROVIDER_UNAVAILABLE if the chain is away.
        """
        return self._caller.unary(FAUCET, request, timeout)
