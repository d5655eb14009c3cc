"""Money in and out: withdrawals, deposits, and what is known of where money may go."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import metadata, optional, required, time

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("transaction_id", Uuid),
    required("consumer_id", Uuid),
    required("asset", Text),
    required("micros", BigInteger),
    required("fee_micros", BigInteger),
    optional("address", Text),
    optional("bank_account_id", Uuid),
    optional("item_id", Uuid),
    required("route", JSONB),
    required("state", Text),
    required("reason", Text, server_default=text("''")),
    required("limit_day", Date),
    required("limit_usd_micros", BigInteger),
    time("created_at"),
    time("closed_at", required=False),
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
    required("consumer_id", Uuid),
    required("request_key", Uuid),
    required("asset", Text),
    required("micros", BigInteger),
    required("route", JSONB),
    required("instructions", JSONB),
    required("state", Text),
    time("created_at"),
    UniqueConstraint("consumer_id", "request_key"),
    comment="Deposits as they were announced: how the money is to come, and why so. What arrives is a transaction.",
)

destination_checks = Table(
    "destination_checks",
    metadata,
    required("asset", Text),
    required("address", Text),
    required("allowed", Boolean),
    time("checked_at"),
    PrimaryKeyConstraint("asset", "address"),
    comment="Whether a token's policy lets an address receive, as a worker last read it on the chain.",
)

ledger_epoch = Table(
    "ledger_epoch",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    required("epoch", Uuid),
    time("began_at"),
    CheckConstraint("id = 1", name="single"),
    comment="One row, changed after a restore to an earlier time: versions are then given out a second time.",
)
