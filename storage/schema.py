"""The database, table by table. Migrations build exactly this; a test compares the two.

Amounts are micros in `bigint`, times are UTC `timestamptz`, identifiers are UUIDs made by the application. There are no
sequences, no triggers and no foreign keys between wallets, so that the tables can be spread over many databases by
consumer. What must never be true of money is a CHECK here as well as a decision in `domain/ledger.py`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _required(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


def _optional(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=True)


def _time(name: str, *, required: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=not required)


# --- consumers ------------------------------------------------------------------------------------------------------

consumers = Table(
    "consumers",
    metadata,
    Column("id", Uuid, primary_key=True),
    _optional("email_sealed", LargeBinary),
    _optional("email_index", LargeBinary),
    _optional("phone_sealed", LargeBinary),
    _optional("phone_index", LargeBinary),
    _optional("name_sealed", LargeBinary),
    _optional("handle", Text),
    _optional("onboard_key", Uuid),
    _optional("onboard_hash", LargeBinary),
    _time("created_at"),
    UniqueConstraint("email_index"),
    UniqueConstraint("phone_index"),
    UniqueConstraint("handle"),
    UniqueConstraint("onboard_key"),
    comment="The person with a wallet. Personal data is sealed; the blind indexes find it again. Erased, it is null.",
)

retired_handles = Table(
    "retired_handles",
    metadata,
    Column("handle_index", LargeBinary, primary_key=True),
    _required("consumer_id", Uuid),
    _time("free_at"),
    comment="Handles given up, by blind index, kept from others for a while; their owner may return.",
)

kyc_cases = Table(
    "kyc_cases",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("kyc_level", SmallInteger),
    _required("evidence", JSONB),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _required("decided_by", Text, server_default=text("''")),
    _time("created_at"),
    _time("decided_at", required=False),
    CheckConstraint("kyc_level BETWEEN 2 AND 3", name="kyc_level"),
    CheckConstraint("state IN ('PENDING', 'APPROVED', 'REJECTED')", name="state"),
    Index("kyc_cases_open_idx", "consumer_id", unique=True, postgresql_where=text("state = 'PENDING'")),
    Index(None, "state", "id"),
    Index(None, "consumer_id", "id"),
    comment="Requests to be raised by one KYC level. A consumer has one open at most.",
)

consumer_preferences = Table(
    "consumer_preferences",
    metadata,
    Column("consumer_id", Uuid, primary_key=True),
    _required("default_asset", Text),
    _required("preferred_speed", Text),
    _required("switched_off", ARRAY(Text)),
    _required("version", BigInteger),
    _time("changed_at"),
    CheckConstraint("preferred_speed IN ('STANDARD', 'FAST')", name="preferred_speed"),
    comment="What a consumer chose. Who has no row has the defaults.",
)

bank_accounts = Table(
    "bank_accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("details_sealed", LargeBinary),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _required("request_key", Uuid),
    _time("created_at"),
    _time("decided_at", required=False),
    UniqueConstraint("consumer_id", "request_key"),
    CheckConstraint("state IN ('PENDING', 'ACTIVE', 'FAILED')", name="state"),
    Index(None, "consumer_id", "id"),
    comment="Bank accounts that money can be paid out to. Everything about them is sealed.",
)

wallets = Table(
    "wallets",
    metadata,
    Column("consumer_id", Uuid, primary_key=True),
    _required("tempo_address", Text),
    _required("derivation_index", BigInteger),
    _required("kyc_level", SmallInteger),
    _required("frozen", Boolean, server_default=text("false")),
    _required("usage_day", Date),
    _required("usage_usd_micros", BigInteger, server_default=text("0")),
    _time("created_at"),
    _time("erased_at", required=False),
    CheckConstraint("kyc_level BETWEEN 1 AND 3", name="kyc_level"),
    CheckConstraint("usage_usd_micros >= 0", name="usage"),
    UniqueConstraint("tempo_address"),
    comment="Flags and the day's limit counter. Locked first, in the order of consumer_id.",
)

stablecoin_balances = Table(
    "stablecoin_balances",
    metadata,
    _required("consumer_id", Uuid),
    _required("asset", Text),
    _required("available_micros", BigInteger, server_default=text("0")),
    _required("held_micros", BigInteger, server_default=text("0")),
    _required("unswept_fee_micros", BigInteger, server_default=text("0")),
    _required("version", BigInteger, server_default=text("0")),
    _time("changed_at"),
    PrimaryKeyConstraint("consumer_id", "asset"),
    CheckConstraint("available_micros >= 0", name="available"),
    CheckConstraint("held_micros >= 0", name="held"),
    CheckConstraint("unswept_fee_micros >= 0", name="unswept_fee"),
    postgresql_with={"fillfactor": "70"},
    comment="A consumer's accounts of one asset. Locked second, in the order of (consumer_id, asset).",
)

tempo_addresses = Table(
    "tempo_addresses",
    metadata,
    Column("address", Text, primary_key=True),
    _required("holder_id", Uuid),
    _optional("derivation_index", BigInteger),
    _required("state", Text),
    _time("created_at"),
    UniqueConstraint("derivation_index"),
    CheckConstraint("state IN ('free', 'assigned', 'tainted', 'operator')", name="state"),
    Index(None, "holder_id"),
    Index("tempo_addresses_free_idx", "derivation_index", postgresql_where=text("state = 'free'")),
    comment="Every address of ours: the pool derived ahead, the assigned ones, the operator's. Lower case hex.",
)

# --- the journal ----------------------------------------------------------------------------------------------------

transactions = Table(
    "transactions",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("kind", Text),
    _required("consumer_id", Uuid),
    _optional("counterparty_id", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("fee_micros", BigInteger),
    _required("memo", Text),
    _required("caller", Text),
    _required("request_id", Text),
    _optional("batch_id", Uuid),
    _required("reference", Text),
    _time("created_at"),
    comment="The header of an immutable, balanced set of postings.",
)

postings = Table(
    "postings",
    metadata,
    _required("transaction_id", Uuid),
    _required("position", SmallInteger),
    _required("source_owner", Uuid),
    _required("source_kind", Text),
    _required("target_owner", Uuid),
    _required("target_kind", Text),
    _required("asset", Text),
    _required("micros", BigInteger),
    PrimaryKeyConstraint("transaction_id", "position"),
    CheckConstraint("micros > 0", name="micros"),
    comment="Money moved from one account to another: balanced by construction.",
)

entries = Table(
    "entries",
    metadata,
    _required("consumer_id", Uuid),
    _required("asset", Text),
    _required("version", BigInteger),
    _required("transaction_id", Uuid),
    _required("kind", Text),
    _optional("counterparty_id", Uuid),
    _required("available_delta", BigInteger),
    _required("held_delta", BigInteger),
    _required("available_after", BigInteger),
    _required("held_after", BigInteger),
    _time("created_at"),
    PrimaryKeyConstraint("consumer_id", "asset", "version"),
    comment="A transaction's effect on one balance: the consumer's history, in commit order by version.",
)

requests = Table(
    "requests",
    metadata,
    _required("owner_id", Uuid),
    _required("key", Uuid),
    _required("body_hash", LargeBinary),
    _optional("transaction_id", Uuid),
    _optional("rejection", JSONB),
    _required("available_after", BigInteger),
    _required("held_after", BigInteger),
    _required("version_after", BigInteger),
    _time("created_at"),
    PrimaryKeyConstraint("owner_id", "key"),
    comment="Idempotency, for ever: what each request id was used for and what was answered.",
)

system_entries = Table(
    "system_entries",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("kind", Text),
    _required("asset", Text),
    _required("delta_micros", BigInteger),
    comment="What one batch did to an operator account. Appended on the hot path, rolled up in the background.",
)

system_balances = Table(
    "system_balances",
    metadata,
    _required("kind", Text),
    _required("asset", Text),
    _required("micros", BigInteger),
    PrimaryKeyConstraint("kind", "asset"),
    comment="The operator's accounts, as far as rolled up: add system_entries for the present.",
)

# --- settlement -----------------------------------------------------------------------------------------------------

settlement_items = Table(
    "settlement_items",
    metadata,
    Column("id", Uuid, primary_key=True),
    _optional("transaction_id", Uuid),
    _required("sender", Uuid),
    _required("recipient", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _optional("destination", Text),
    _optional("group_id", Uuid),
    _required("sender_seq", BigInteger),
    _required("position", SmallInteger),
    _required("counts", Boolean),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _required("failures", Integer, server_default=text("0")),
    _required("lease_token", BigInteger, server_default=text("0")),
    _time("lease_until", required=False),
    _time("not_before", required=False),
    _optional("attempt_id", Uuid),
    _optional("transaction_hash", Text),
    _optional("block_number", BigInteger),
    _optional("log_index", Integer),
    _time("created_at"),
    _time("confirmed_at", required=False),
    _required("rail", Text, server_default=text("'tempo'")),
    _required("purpose", Text, server_default=text("'payment'")),
    _optional("for_item_id", Uuid),
    _optional("route", JSONB),
    CheckConstraint("micros > 0", name="micros"),
    Index(
        "settlement_items_queue_idx",
        "sender",
        "asset",
        "sender_seq",
        "position",
        "id",
        postgresql_where=text("state NOT IN ('CONFIRMED', 'FAILED')"),
    ),
    Index("settlement_items_transaction_idx", "transaction_id"),
    Index("settlement_items_attempt_idx", "attempt_id", postgresql_where=text("attempt_id IS NOT NULL")),
    comment="What has to become true on a rail: from holder, to holder. Its id is the memo on the chain.",
)

settlement_attempts = Table(
    "settlement_attempts",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("kind", Text),
    _required("rail", Text),
    _required("provider", Text),
    _required("reference", Text),
    _required("payload", LargeBinary),
    _required("state", Text),
    _optional("holder_id", Uuid),
    _optional("asset", Text),
    _time("valid_before"),
    _time("signed_at"),
    _time("broadcast_at", required=False),
    _time("finished_at", required=False),
    _required("tries", Integer, server_default=text("0")),
    _required("last_error", Text, server_default=text("''")),
    _optional("fee_asset", Text),
    _optional("fee_micros", BigInteger),
    _optional("provider_reference", Text),
    _time("observed_at", required=False),
    UniqueConstraint("reference"),
    Index(
        "settlement_attempts_open_idx",
        "valid_before",
        postgresql_where=text("state IN ('SIGNED', 'BROADCAST')"),
    ),
    Index(
        "settlement_attempts_activation_idx",
        "holder_id",
        unique=True,
        postgresql_where=text("kind = 'activation' AND state IN ('SIGNED', 'BROADCAST')"),
    ),
    comment="Each signed raw transaction or provider's order, persisted before it is sent (money rules 1 and 4).",
)

attempt_items = Table(
    "attempt_items",
    metadata,
    _required("item_id", Uuid),
    _required("attempt_id", Uuid),
    _required("call_index", SmallInteger),
    PrimaryKeyConstraint("item_id", "attempt_id"),
    Index(None, "attempt_id"),
    comment="Which items an attempt carries, and at which call.",
)

custody_positions = Table(
    "custody_positions",
    metadata,
    _required("holder_id", Uuid),
    _required("rail", Text),
    _required("asset", Text),
    _required("micros", BigInteger, server_default=text("0")),
    _required("reserved_micros", BigInteger, server_default=text("0")),
    _required("activated", Boolean, server_default=text("false")),
    PrimaryKeyConstraint("holder_id", "rail", "asset"),
    CheckConstraint("micros >= 0", name="micros"),
    CheckConstraint("reserved_micros >= 0", name="reserved"),
    comment="Where the money stands. Changed by confirmed settlements and finalized deposits only.",
)

chain_cursors = Table(
    "chain_cursors",
    metadata,
    Column("chain", Text, primary_key=True),
    _required("number", BigInteger),
    _required("hash", Text),
    _time("block_time"),
    _required("halted_reason", Text, server_default=text("''")),
    comment="The watcher's progress over finalized blocks, and why settlement is halted, if it is.",
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("incarnation", Text, primary_key=True),
    _time("began_at"),
    _time("paused_until"),
    _required("first_index", BigInteger),
    comment="Each incarnation of the database, and from when on settlement trusts it.",
)

consumed_logs = Table(
    "consumed_logs",
    metadata,
    _required("chain", Text),
    _required("transaction_hash", Text),
    _required("log_index", Integer),
    _required("meaning", Text),
    _optional("item_id", Uuid),
    PrimaryKeyConstraint("chain", "transaction_hash", "log_index"),
    comment="Each chain log is accounted for once (money rule 12).",
)

breaks = Table(
    "breaks",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("kind", Text),
    _required("subject", Text),
    _required("facts", JSONB),
    _time("found_at"),
    _time("resolved_at", required=False),
    UniqueConstraint("kind", "subject"),
    comment="Differences between ledger, rails and chain: counted, alerted, never silently repaired.",
)

proofs = Table(
    "proofs",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("clean", Boolean),
    _required("report", JSONB),
    _time("created_at"),
    Index(None, "created_at"),
    comment="Results of the reconciliation, newest last.",
)

# --- money in and out -----------------------------------------------------------------------------------------------

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("transaction_id", Uuid),
    _required("consumer_id", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("fee_micros", BigInteger),
    _optional("address", Text),
    _optional("bank_account_id", Uuid),
    _optional("item_id", Uuid),
    _required("route", JSONB),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _required("limit_day", Date),
    _required("limit_usd_micros", BigInteger),
    _time("created_at"),
    _time("closed_at", required=False),
    UniqueConstraint("transaction_id"),
    UniqueConstraint("item_id"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("num_nonnulls(address, bank_account_id) = 1", name="destination"),
    CheckConstraint("state IN ('HELD', 'COMPLETED', 'FAILED', 'RETURNED')", name="state"),
    CheckConstraint("(state = 'HELD') = (closed_at IS NULL)", name="closed"),
    Index("withdrawals_held_idx", "consumer_id", postgresql_where=text("state = 'HELD'")),
    comment="Money on its way out: what is held, for where, by which route, and what the hold ended as.",
)

deposits = Table(
    "deposits",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("request_key", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("route", JSONB),
    _required("instructions", JSONB),
    _required("state", Text),
    _time("created_at"),
    UniqueConstraint("consumer_id", "request_key"),
    comment="Deposits as they were announced: how the money is to come, and why so. What arrives is a transaction.",
)

destination_checks = Table(
    "destination_checks",
    metadata,
    _required("asset", Text),
    _required("address", Text),
    _required("allowed", Boolean),
    _time("checked_at"),
    PrimaryKeyConstraint("asset", "address"),
    comment="Whether a token's policy lets an address receive, as a worker last read it on the chain.",
)

ledger_epoch = Table(
    "ledger_epoch",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    _required("epoch", Uuid),
    _time("began_at"),
    CheckConstraint("id = 1", name="single"),
    comment="One row, changed after a restore to an earlier time: versions are then given out a second time.",
)

# --- from consumer to consumer --------------------------------------------------------------------------------------

batch_transfers = Table(
    "batch_transfers",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("fee_micros", BigInteger),
    _required("item_count", Integer),
    _required("state", Text),
    _time("created_at"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("item_count > 0", name="item_count"),
    CheckConstraint("state = 'COMPLETED'", name="state"),
    comment="Many paid in one commit for one fee. Each recipient's part is a transaction with this batch_id.",
)

refunded_transfers = Table(
    "refunded_transfers",
    metadata,
    Column("transaction_id", Uuid, primary_key=True),
    _required("received_micros", BigInteger),
    _required("refunded_micros", BigInteger),
    CheckConstraint("refunded_micros BETWEEN 1 AND received_micros", name="refunded"),
    comment="How much of a transfer its recipient has given back in all refunds together.",
)

payment_requests = Table(
    "payment_requests",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("payee_id", Uuid),
    _required("payer_id", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("memo", Text),
    _required("state", Text),
    _optional("transaction_id", Uuid),
    _required("request_key", Uuid),
    _time("created_at"),
    _time("expires_at"),
    _time("closed_at", required=False),
    UniqueConstraint("payee_id", "request_key"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("payee_id <> payer_id", name="two_parties"),
    CheckConstraint("state IN ('OPEN', 'PAID', 'DECLINED', 'CANCELLED')", name="state"),
    CheckConstraint("(state = 'OPEN') = (closed_at IS NULL)", name="closed"),
    CheckConstraint("(state = 'PAID') = (transaction_id IS NOT NULL)", name="paid"),
    Index(None, "payee_id", "id"),
    Index(None, "payer_id", "id"),
    comment="Somebody asks somebody for money. An open one of old has expired, whatever its row says.",
)

scheduled_transfers = Table(
    "scheduled_transfers",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("recipient_id", Uuid),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("memo", Text),
    _time("start_at"),
    _required("recurrence", Text),
    _required("state", Text),
    _time("next_run_at", required=False),
    _required("run_count", Integer),
    _required("request_key", Uuid),
    _time("created_at"),
    UniqueConstraint("consumer_id", "request_key"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("state IN ('ACTIVE', 'COMPLETED', 'CANCELLED')", name="state"),
    CheckConstraint("(state = 'ACTIVE') = (next_run_at IS NOT NULL)", name="next_run"),
    Index(None, "consumer_id", "id"),
    Index("scheduled_transfers_due_idx", "next_run_at", "id", postgresql_where=text("state = 'ACTIVE'")),
    comment="Transfers in the future: to whom, how much, when first and by which rule again.",
)

scheduled_runs = Table(
    "scheduled_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("scheduled_transfer_id", Uuid),
    _time("occurrence_at"),
    _required("state", Text),
    _optional("transaction_id", Uuid),
    _required("reason", Text, server_default=text("''")),
    _time("begun_at"),
    _time("lease_until"),
    _time("finished_at", required=False),
    UniqueConstraint("scheduled_transfer_id", "occurrence_at"),
    CheckConstraint("state IN ('BEGUN', 'COMPLETED', 'REFUSED')", name="state"),
    CheckConstraint("(state = 'BEGUN') = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state = 'COMPLETED') = (transaction_id IS NOT NULL)", name="completed"),
    Index("scheduled_runs_open_idx", "lease_until", "id", postgresql_where=text("state = 'BEGUN'")),
    comment="Each occurrence of a scheduled transfer that has begun, once, and what became of it.",
)

swap_quotes = Table(
    "swap_quotes",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("sell_asset", Text),
    _required("sell_micros", BigInteger),
    _required("buy_asset", Text),
    _required("buy_micros", BigInteger),
    _required("spread_micros", BigInteger),
    _required("source", Text),
    _required("state", Text),
    _required("reserved", Boolean, server_default=text("false")),
    _optional("transaction_id", Uuid),
    _time("created_at"),
    _time("expires_at"),
    _time("executed_at", required=False),
    UniqueConstraint("transaction_id"),
    CheckConstraint("sell_asset <> buy_asset", name="two_assets"),
    CheckConstraint("sell_micros > 0 AND buy_micros > 0 AND spread_micros >= 0", name="micros"),
    CheckConstraint("state IN ('OPEN', 'EXECUTED')", name="state"),
    CheckConstraint("(state = 'EXECUTED') = (transaction_id IS NOT NULL)", name="executed"),
    CheckConstraint("(state = 'EXECUTED') = (executed_at IS NOT NULL)", name="executed_at"),
    Index("swap_quotes_open_idx", "buy_asset", "expires_at", postgresql_where=text("state = 'OPEN'")),
    comment="Prices that were named, and the swaps they became. An open one of old has expired, whatever its row says.",
)

# --- providers ------------------------------------------------------------------------------------------------------

provider_health = Table(
    "provider_health",
    metadata,
    Column("provider", Text, primary_key=True),
    _required("healthy", Boolean),
    _required("breaker", Text),
    _required("paused", Boolean, server_default=text("false")),
    _required("latency_ms", Integer),
    _required("success_rate_micros", Integer),
    _required("detail", Text),
    _time("checked_at"),
    comment="What workers know of each provider: API processes never ask a provider themselves.",
)

provider_jobs = Table(
    "provider_jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("kind", Text),
    _required("key", Text),
    _required("body", JSONB),
    _required("state", Text),
    _optional("answer", JSONB),
    _required("tries", Integer, server_default=text("0")),
    _time("lease_until", required=False),
    _time("created_at"),
    _time("finished_at", required=False),
    UniqueConstraint("kind", "key"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="state"),
    Index("provider_jobs_open_idx", "created_at", postgresql_where=text("state IN ('waiting', 'running')")),
    comment="What an API process wants a provider to do; workers take it from here.",
)

reference_rates = Table(
    "reference_rates",
    metadata,
    Column("pair", Text, primary_key=True),
    _required("rate_micros", BigInteger),
    _required("source", Text),
    _time("quoted_at"),
    _time("created_at", required=False),
    CheckConstraint("rate_micros > 0", name="rate"),
    comment="EUR/USD: what one euro is worth in dollar micros.",
)

dex_ladders = Table(
    "dex_ladders",
    metadata,
    _required("sell_asset", Text),
    _required("buy_asset", Text),
    _required("rungs", JSONB),
    _required("block_number", BigInteger),
    _time("read_at"),
    PrimaryKeyConstraint("sell_asset", "buy_asset"),
    comment="What the exchange of the chain gives for amounts of several sizes, as a worker last read it.",
)

# --- Circle ---------------------------------------------------------------------------------------------------------

circle_wallets = Table(
    "circle_wallets",
    metadata,
    Column("reference", Text, primary_key=True),
    _required("address", Text),
    _required("chain", Text),
    _required("own", Boolean),
    _optional("holder_id", Uuid),
    _required("labelled", Boolean, server_default=text("false")),
    _time("created_at"),
    _time("assigned_at", required=False),
    UniqueConstraint("chain", "address"),
    UniqueConstraint("chain", "holder_id"),
    CheckConstraint("(holder_id IS NULL) = (assigned_at IS NULL)", name="assigned"),
    Index("circle_wallets_free_idx", "chain", "reference", postgresql_where=text("holder_id IS NULL")),
    comment="Wallets that Circle keeps for us: a pool made ahead, and those that have their holder.",
)

circle_wallet_orders = Table(
    "circle_wallet_orders",
    metadata,
    Column("key", Uuid, primary_key=True),
    _required("chain", Text),
    _required("own", Boolean),
    _required("count", Integer),
    _required("state", Text),
    _time("created_at"),
    CheckConstraint("count > 0", name="count"),
    CheckConstraint("state IN ('OPEN', 'DONE')", name="state"),
    Index("circle_wallet_orders_open_idx", "chain", "own", unique=True, postgresql_where=text("state = 'OPEN'")),
    comment="Orders of new wallets, kept before they are sent, so that an answer that was lost is asked for again.",
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Text, primary_key=True),
    _required("source", Text),
    _required("subject", Text),
    _required("reference", Text),
    _required("state", Text),
    _required("tries", Integer, server_default=text("0")),
    _required("reason", Text, server_default=text("''")),
    _time("occurred_at"),
    _time("received_at"),
    _time("due_at"),
    _time("finished_at", required=False),
    CheckConstraint("state IN ('WAITING', 'UNMATCHED', 'DONE', 'IGNORED', 'GIVEN_UP')", name="state"),
    CheckConstraint("(state IN ('WAITING', 'UNMATCHED')) = (finished_at IS NULL)", name="finished"),
    Index("inbox_due_idx", "due_at", "id", postgresql_where=text("state IN ('WAITING', 'UNMATCHED')")),
    Index(None, "subject", "reference"),
    comment="Events received from providers, each once: what they are about, and whether that was looked at since.",
)

# --- banks ------------------------------------------------------------------------------------------------------------

bank_links = Table(
    "bank_links",
    metadata,
    Column("bank_account_id", Uuid, primary_key=True),
    _required("consumer_id", Uuid),
    _required("key", Uuid),
    _optional("provider_reference", Text),
    _optional("tracking_reference", Text),
    Column("instructions", JSONB(none_as_null=True), nullable=True),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _required("tries", Integer, server_default=text("0")),
    _time("not_before", required=False),
    _time("created_at"),
    _time("closed_at", required=False),
    UniqueConstraint("key"),
    UniqueConstraint("provider_reference"),
    UniqueConstraint("tracking_reference"),
    CheckConstraint("state IN ('PENDING', 'ACTIVE', 'FAILED')", name="state"),
    CheckConstraint("state <> 'ACTIVE' OR num_nonnulls(provider_reference, instructions) = 2", name="active"),
    Index("bank_links_consumer_idx", "consumer_id", "bank_account_id"),
    Index("bank_links_open_idx", "created_at", postgresql_where=text("state = 'PENDING'")),
    comment="Bank accounts as the custodian keeps them, and what a wire from there says. Outlives the account.",
)

bank_deposits = Table(
    "bank_deposits",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("provider_reference", Text),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("fee_micros", BigInteger),
    _required("tracking_reference", Text),
    _required("bank_reference", Text),
    _optional("consumer_id", Uuid),
    _optional("bank_account_id", Uuid),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _optional("transaction_id", Uuid),
    _time("arrived_at"),
    _time("created_at"),
    _time("closed_at", required=False),
    UniqueConstraint("provider_reference"),
    UniqueConstraint("transaction_id"),
    CheckConstraint("state IN ('PENDING', 'CREDITED', 'SUSPENDED', 'FAILED', 'OPENING')", name="state"),
    CheckConstraint("(state IN ('CREDITED', 'SUSPENDED')) = (transaction_id IS NOT NULL)", name="booked"),
    CheckConstraint("(state = 'CREDITED') = (consumer_id IS NOT NULL)", name="credited"),
    Index("bank_deposits_open_idx", "arrived_at", postgresql_where=text("state = 'PENDING'")),
    Index(None, "arrived_at"),
    comment="Wires that the custodian told of, each once, and what became of them.",
)

bank_payouts = Table(
    "bank_payouts",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("withdrawal_id", Uuid),
    _required("consumer_id", Uuid),
    _required("bank_account_id", Uuid),
    _required("bank_reference", Text),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("fee_micros", BigInteger, server_default=text("0")),
    _required("key", Uuid),
    _optional("provider_reference", Text),
    _required("state", Text),
    _required("reason", Text, server_default=text("''")),
    _required("unanswered", Integer, server_default=text("0")),
    _required("lease_token", BigInteger, server_default=text("0")),
    _time("lease_until", required=False),
    _time("not_before", required=False),
    _optional("return_reference", Text),
    _required("return_fee_micros", BigInteger, server_default=text("0")),
    _time("ordered_at"),
    _time("submitted_at", required=False),
    _time("closed_at", required=False),
    UniqueConstraint("withdrawal_id"),
    UniqueConstraint("key"),
    UniqueConstraint("provider_reference"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("unanswered >= 0", name="unanswered"),
    CheckConstraint(
        "state IN ('STARTED', 'SUBMITTED', 'REFUSED', 'COMPLETED', 'FAILED', 'RETURNED')",
        name="state",
    ),
    CheckConstraint("state NOT IN ('SUBMITTED', 'COMPLETED', 'RETURNED') OR provider_reference IS NOT NULL", name="id"),
    CheckConstraint("(state IN ('STARTED', 'SUBMITTED', 'REFUSED')) = (closed_at IS NULL)", name="closed"),
    Index(
        "bank_payouts_unknown_idx",
        "bank_reference",
        "asset",
        "micros",
        unique=True,
        postgresql_where=text("state = 'STARTED'"),
    ),
    Index(
        "bank_payouts_open_idx",
        "ordered_at",
        postgresql_where=text("state IN ('STARTED', 'SUBMITTED', 'REFUSED')"),
    ),
    Index("bank_payouts_returnable_idx", "submitted_at", postgresql_where=text("state = 'COMPLETED'")),
    comment="Payouts, persisted before they are ordered; of unknown outcome one at most for each bank and amount.",
)

rail_comparisons = Table(
    "rail_comparisons",
    metadata,
    _required("rail", Text),
    _required("asset", Text),
    _required("expected_micros", BigInteger),
    _required("found_micros", BigInteger),
    _time("differs_since", required=False),
    _time("compared_at"),
    PrimaryKeyConstraint("rail", "asset"),
    comment="What a custodian says of the operator's account there, beside the books of the same moment.",
)

# --- operations -----------------------------------------------------------------------------------------------------

adjustments = Table(
    "adjustments",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("source_owner", Uuid),
    _required("source_kind", Text),
    _required("target_owner", Uuid),
    _required("target_kind", Text),
    _required("asset", Text),
    _required("micros", BigInteger),
    _required("reason", Text),
    _optional("cancel_item_id", Uuid),
    _required("state", Text),
    _required("proposed_by", Text),
    _optional("approved_by", Text),
    _optional("transaction_id", Uuid),
    _required("request_key", Uuid),
    _time("created_at"),
    _time("expires_at"),
    _time("approved_at", required=False),
    UniqueConstraint("request_key"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("state IN ('PROPOSED', 'APPROVED')", name="state"),
    CheckConstraint("approved_by <> proposed_by", name="two_operators"),
    comment="Postings that two operators make together. An old proposal has expired, whatever its row says.",
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    _required("actor", Text),
    _required("action", Text),
    _required("subject", Text),
    _required("facts", JSONB),
    _time("created_at"),
    _required("role", Text, server_default=text("''")),
    _required("peer", Text, server_default=text("''")),
    _required("request_id", Text, server_default=text("''")),
    _optional("consumer_id", Uuid),
    Index(None, "subject", "id"),
    Index(None, "consumer_id", "id"),
    comment="Who did what, when, from where: operators' acts. Movements of money are audited by the journal itself.",
)

audit_chain = Table(
    "audit_chain",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _required("origin", Text),
    _required("record_id", Uuid),
    _optional("consumer_id", Uuid),
    _required("content_hash", LargeBinary),
    _required("hash", LargeBinary),
    UniqueConstraint("record_id"),
    CheckConstraint("origin IN ('audit_log', 'transactions')", name="origin"),
    Index(None, "consumer_id", "record_id"),
    comment="The hash chain over the audit log and the journal: each record's number, content and predecessor.",
)

audit_chain_heads = Table(
    "audit_chain_heads",
    metadata,
    Column("chain", Text, primary_key=True),
    _required("sequence", BigInteger),
    _required("hash", LargeBinary),
    _required("cursor_id", Uuid),
    _time("changed_at"),
    comment="Where the chain ends, and the youngest record in it. Its row is the lock of who extends it.",
)
