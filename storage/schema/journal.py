"""The journal: transactions, postings and entries, the requests behind them, and the operator's sums."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import metadata, optional, required, time

transactions = Table(
    "transactions",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("kind", Text),
    required("consumer_id", Uuid),
    optional("counterparty_id", Uuid),
    required("asset", Text),
    required("micros", BigInteger),
    required("fee_micros", BigInteger),
    required("memo", Text),
    required("caller", Text),
    required("request_id", Text),
    optional("batch_id", Uuid),
    required("reference", Text),
    time("created_at"),
    comment="The header of an immutable, balanced set of postings.",
)

postings = Table(
    "postings",
    metadata,
    required("transaction_id", Uuid),
    required("position", SmallInteger),
    required("source_owner", Uuid),
    required("source_kind", Text),
    required("target_owner", Uuid),
    required("target_kind", Text),
    required("asset", Text),
    required("micros", BigInteger),
    PrimaryKeyConstraint("transaction_id", "position"),
    CheckConstraint("micros > 0", name="micros"),
    comment="Money moved from one account to another: balanced by construction.",
)

entries = Table(
    "entries",
    metadata,
    required("consumer_id", Uuid),
    required("asset", Text),
    required("version", BigInteger),
    required("transaction_id", Uuid),
    required("kind", Text),
    optional("counterparty_id", Uuid),
    required("available_delta", BigInteger),
    required("held_delta", BigInteger),
    required("available_after", BigInteger),
    required("held_after", BigInteger),
    time("created_at"),
    PrimaryKeyConstraint("consumer_id", "asset", "version"),
    comment="A transaction's effect on one balance: the consumer's history, in commit order by version.",
)

requests = Table(
    "requests",
    metadata,
    required("owner_id", Uuid),
    required("key", Uuid),
    required("body_hash", LargeBinary),
    optional("transaction_id", Uuid),
    optional("rejection", JSONB),
    required("available_after", BigInteger),
    required("held_after", BigInteger),
    required("version_after", BigInteger),
    time("created_at"),
    PrimaryKeyConstraint("owner_id", "key"),
    comment="Idempotency, for ever: what each request id was used for and what was answered.",
)

system_entries = Table(
    "system_entries",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("kind", Text),
    required("asset", Text),
    required("delta_micros", BigInteger),
    comment="What one batch did to an operator account. Appended on the hot path, rolled up in the background.",
)

system_balances = Table(
    "system_balances",
    metadata,
    required("kind", Text),
    required("asset", Text),
    required("micros", BigInteger),
    PrimaryKeyConstraint("kind", "asset"),
    comment="The operator's accounts, as far as rolled up: add system_entries for the present.",
)
