"""The database, table by table. Migrations build exactly this; a test compares the two.

Amounts are micros in `bigint`, times are UTC `timestamptz`, identifiers are UUIDs made by the application. There are no
sequences, no triggers and no foreign keys between wallets, so that the tables can be spread over many databases by
consumer. What must never be true of money is a CHECK here as well as a decision in `domain/ledger.py`.
"""

from storage.schema.banks import bank_deposits, bank_links, bank_payouts, rail_comparisons
from storage.schema.between_consumers import (
    batch_transfers,
    payment_requests,
    refunded_transfers,
    scheduled_runs,
    scheduled_transfers,
    swap_quotes,
)
from storage.schema.circle import circle_wallet_orders, circle_wallets, inbox
from storage.schema.columns import metadata
from storage.schema.consumers import (
    bank_accounts,
    consumer_preferences,
    consumers,
    kyc_cases,
    retired_handles,
    stablecoin_balances,
    tempo_addresses,
    wallets,
)
from storage.schema.in_and_out import deposits, destination_checks, ledger_epoch, withdrawals
from storage.schema.journal import entries, postings, requests, system_balances, system_entries, transactions
from storage.schema.operations import adjustments, audit_chain, audit_chain_heads, audit_log
from storage.schema.providers import dex_ladders, provider_health, provider_jobs, reference_rates
from storage.schema.settlement import (
    attempt_items,
    breaks,
    chain_cursors,
    consumed_logs,
    custody_positions,
    proofs,
    recoveries,
    settlement_attempts,
    settlement_items,
)
from storage.schema.treasury import treasury_sales

__all__ = [
    "adjustments",
    "attempt_items",
    "audit_chain",
    "audit_chain_heads",
    "audit_log",
    "bank_accounts",
    "bank_deposits",
    "bank_links",
    "bank_payouts",
    "batch_transfers",
    "breaks",
    "chain_cursors",
    "circle_wallet_orders",
    "circle_wallets",
    "consumed_logs",
    "consumer_preferences",
    "consumers",
    "custody_positions",
    "deposits",
    "destination_checks",
    "dex_ladders",
    "entries",
    "inbox",
    "kyc_cases",
    "ledger_epoch",
    "metadata",
    "payment_requests",
    "postings",
    "proofs",
    "provider_health",
    "provider_jobs",
    "rail_comparisons",
    "recoveries",
    "reference_rates",
    "refunded_transfers",
    "requests",
    "retired_handles",
    "scheduled_runs",
    "scheduled_transfers",
    "settlement_attempts",
    "settlement_items",
    "stablecoin_balances",
    "swap_quotes",
    "system_balances",
    "system_entries",
    "tempo_addresses",
    "transactions",
    "treasury_sales",
    "wallets",
    "withdrawals",
]
