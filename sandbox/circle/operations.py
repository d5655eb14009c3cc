"""Every operation of openapi.yaml: where it is, who may call it how often, what it takes, and who answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from sandbox.circle import bodies, limits, mint, mint_transfers, payouts, queries, subscriptions, transactions, wallets
from sandbox.circle.call import Answer, Call
from sandbox.circle.simulator import Simulator

Product = Literal["wallets", "mint", "both"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Either `handle` answers; or `create` makes resources once for each idempotency key, and `render` shows them."""

    method: str
    path: str
    product: Product
    handle: Callable[[Simulator, Call], Answer] | None = None
    create: Callable[[Simulator, Call], list[str]] | None = None
    render: Callable[[Simulator, list[str]], Answer] | None = None
    created_status: int = 201
    # Before anything is written; the only place where a handler may wait.
    prepare: Callable[[Simulator, Call], Awaitable[None]] | None = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] = queries.Query
    per_second: int = limits.WRITES_PER_SECOND


def _read(
    product: Product,
    path: str,
    handle: Callable[[Simulator, Call], Answer],
    query: type[BaseModel] = queries.Query,
) -> Operation:
    per_second = limits.READS_PER_SECOND
    return Operation(method="GET", path=path, product=product, handle=handle, query=query, per_second=per_second)


def _write(
    product: Product,
    method: str,
    path: str,
    handle: Callable[[Simulator, Call], Answer],
    body: type[BaseModel] | None = None,
    *,
    prepare: Callable[[Simulator, Call], Awaitable[None]] | None = None,
) -> Operation:
    return Operation(method=method, path=path, product=product, handle=handle, body=body, prepare=prepare)


def _create(
    product: Product,
    path: str,
    create: Callable[[Simulator, Call], list[str]],
    render: Callable[[Simulator, list[str]], Answer],
    body: type[bodies.Keyed],
    *,
    created_status: int = 201,
    per_second: int = limits.WRITES_PER_SECOND,
) -> Operation:
    return Operation(
        method="POST",
        path=path,
        product=product,
        create=create,
        render=render,
        body=body,
        created_status=created_status,
        per_second=per_second,
    )


def _pong(_simulator: Simulator, _call: Call) -> Answer:
    return Answer({"message": "pong"})


def _entity(simulator: Simulator, _call: Call) -> Answer:
    return Answer({"appId": simulator.app_id})


def _entity_public_key(simulator: Simulator, _call: Call) -> Answer:
    return Answer({"publicKey": simulator.keys.entity_public_key})


_W3S, _V2, _BUSINESS = "/v1/w3s", "/v2/notifications", "/v1/businessAccount"
_TRANSACTIONS = f"{_W3S}/developer/transactions"
_ADDRESSES = f"{_BUSINESS}/wallets/addresses"

PING = _read("both", "/ping", _pong)

WALLETS = (
    _read("wallets", f"{_W3S}/config/entity", _entity),
    _read("wallets", f"{_W3S}/config/entity/publicKey", _entity_public_key),
    _create(
        "wallets",
        f"{_W3S}/developer/walletSets",
        wallets.create_wallet_set,
        wallets.wallet_set_answer,
        bodies.CreateWalletSet,
    ),
    _read("wallets", f"{_W3S}/walletSets/{{id}}", wallets.get_wallet_set),
    _create(
        "wallets",
        f"{_W3S}/developer/wallets",
        wallets.create_wallets,
        wallets.wallets_answer,
        bodies.CreateWallets,
        per_second=limits.GENEROUS_PER_SECOND,
    ),
    _read("wallets", f"{_W3S}/wallets", wallets.list_wallets, queries.WalletQuery),
    _read("wallets", f"{_W3S}/wallets/{{id}}", wallets.get_wallet),
    _write("wallets", "PUT", f"{_W3S}/wallets/{{id}}", wallets.update_wallet, bodies.UpdateWallet),
    _read("wallets", f"{_W3S}/wallets/{{id}}/balances", wallets.list_balances, queries.BalanceQuery),
    _create(
        "wallets",
        f"{_TRANSACTIONS}/transfer",
        transactions.create,
        transactions.begun_answer,
        bodies.CreateWalletTransfer,
    ),
    _create(
        "wallets",
        f"{_TRANSACTIONS}/{{id}}/cancel",
        transactions.cancel,
        transactions.begun_answer,
        bodies.AlterTransaction,
    ),
    _create(
        "wallets",
        f"{_TRANSACTIONS}/{{id}}/accelerate",
        transactions.accelerate,
        transactions.begun_answer,
        bodies.AlterTransaction,
    ),
    _read("wallets", f"{_W3S}/transactions", transactions.list_transactions, queries.TransactionQuery),
    _read("wallets", f"{_W3S}/transactions/{{id}}", transactions.get_transaction),
    _write("wallets", "POST", "/v1/faucet/drips", transactions.request_testnet_tokens, bodies.RequestTestnetTokens),
    _write(
        "wallets",
        "POST",
        f"{_V2}/subscriptions",
        subscriptions.create_wallets_subscription,
        bodies.CreateWalletsSubscription,
        prepare=subscriptions.probe_endpoint,
    ),
    _read("wallets", f"{_V2}/subscriptions", subscriptions.list_wallets_subscriptions),
    _read("wallets", f"{_V2}/subscriptions/{{id}}", subscriptions.show_wallets_subscription),
    _write(
        "wallets",
        "PATCH",
        f"{_V2}/subscriptions/{{id}}",
        subscriptions.update_wallets_subscription,
        bodies.UpdateWalletsSubscription,
    ),
    _write("wallets", "DELETE", f"{_V2}/subscriptions/{{id}}", subscriptions.delete_wallets_subscription),
    _read("wallets", f"{_V2}/publicKey/{{id}}", subscriptions.show_public_key),
)

MINT = (
    _read("mint", "/v1/configuration", mint.get_configuration),
    _read("mint", f"{_BUSINESS}/balances", mint.get_balances),
    _create("mint", f"{_BUSINESS}/banks/wires", mint.create_wire, mint.wire_answer, bodies.CreateWireAccount),
    _read("mint", f"{_BUSINESS}/banks/wires", mint.list_wires),
    _read("mint", f"{_BUSINESS}/banks/wires/{{id}}", mint.show_wire),
    _read("mint", f"{_BUSINESS}/banks/wires/{{id}}/instructions", mint.show_instructions, queries.InstructionsQuery),
    _write("mint", "POST", "/v1/mocks/payments/wire", mint.mock_wire, bodies.CreateMockWire),
    _read("mint", f"{_BUSINESS}/deposits", mint.list_deposits, queries.DepositQuery),
    _read("mint", f"{_BUSINESS}/deposits/{{id}}", mint.show_deposit),
    _create("mint", f"{_BUSINESS}/payouts", payouts.create, payouts.answer, bodies.CreatePayout),
    _read("mint", f"{_BUSINESS}/payouts", payouts.list_payouts, queries.PayoutQuery),
    _read("mint", f"{_BUSINESS}/payouts/{{id}}", payouts.show),
    _create(
        "mint",
        f"{_ADDRESSES}/deposit",
        mint_transfers.create_deposit_address,
        mint_transfers.deposit_address_answer,
        bodies.CreateDepositAddress,
    ),
    _read("mint", f"{_ADDRESSES}/deposit", mint_transfers.list_deposit_addresses),
    _create(
        "mint",
        f"{_ADDRESSES}/recipient",
        mint_transfers.create_recipient,
        mint_transfers.recipient_answer,
        bodies.CreateRecipientAddress,
        created_status=200,
    ),
    _read("mint", f"{_ADDRESSES}/recipient", mint_transfers.list_recipients, queries.PageQuery),
    _create(
        "mint",
        f"{_BUSINESS}/transfers",
        mint_transfers.create_transfer,
        mint_transfers.transfer_answer,
        bodies.CreateMintTransfer,
    ),
    _read("mint", f"{_BUSINESS}/transfers", mint_transfers.list_transfers, queries.PageQuery),
    _read("mint", f"{_BUSINESS}/transfers/{{id}}", mint_transfers.show_transfer),
    _write(
        "mint",
        "POST",
        "/v1/notifications/subscriptions",
        subscriptions.create_mint_subscription,
        bodies.CreateMintSubscription,
    ),
    _read("mint", "/v1/notifications/subscriptions", subscriptions.list_mint_subscriptions),
    _write("mint", "DELETE", "/v1/notifications/subscriptions/{id}", subscriptions.delete_mint_subscription),
)

OPERATIONS = (PING, *WALLETS, *MINT)


def register_steps(simulator: Simulator) -> None:
    """Say who moves the states on."""
    for module in (transactions, mint, payouts, mint_transfers):
        module.register(simulator)
