"""Money in and out: withdrawals, announced deposits, checked destinations, and the epoch of streams' cursors."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "deposits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("request_key", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("route", postgresql.JSONB(), nullable=False),
        sa.Column("instructions", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("deposits_pkey")),
        sa.UniqueConstraint("consumer_id", "request_key", name=op.f("deposits_consumer_id_request_key_key")),
        comment="Deposits as they were announced: how the money is to come, and why so. What arrives is a transaction.",
    )
    op.create_table(
        "destination_checks",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("asset", "address", name=op.f("destination_checks_pkey")),
        comment="Whether a token's policy lets an address receive, as a worker last read it on the chain.",
    )
    ledger_epoch = op.create_table(
        "ledger_epoch",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Uuid(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ledger_epoch_single_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("ledger_epoch_pkey")),
        comment="One row, changed after a restore to an earlier time: versions are then given out a second time.",
    )
    # Any name will do, as long as no other time line of this ledger has the same.
    op.bulk_insert(ledger_epoch, [{"id": 1, "epoch": uuid4(), "began_at": datetime.now(UTC)}])
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("bank_account_id", sa.Uuid(), nullable=True),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("route", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("limit_day", sa.Date(), nullable=False),
        sa.Column("limit_usd_micros", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'HELD') = (closed_at IS NULL)", name=op.f("withdrawals_closed_check")),
        sa.CheckConstraint(
            "state IN ('HELD', 'COMPLETED', 'FAILED', 'RETURNED')", name=op.f("withdrawals_state_check")
        ),
        sa.CheckConstraint("micros > 0", name=op.f("withdrawals_micros_check")),
        sa.CheckConstraint("num_nonnulls(address, bank_account_id) = 1", name=op.f("withdrawals_destination_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("withdrawals_pkey")),
        sa.UniqueConstraint("item_id", name=op.f("withdrawals_item_id_key")),
        sa.UniqueConstraint("transaction_id", name=op.f("withdrawals_transaction_id_key")),
        comment="Money on its way out: what is held, for where, by which route, and what the hold ended as.",
    )
    op.create_index(
        "withdrawals_held_idx", "withdrawals", ["consumer_id"], unique=False, postgresql_where=sa.text("state = 'HELD'")
    )
