"""From consumer to consumer: batches, refunds, payment requests, scheduled transfers and their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "batch_transfers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), nullable=False),
        sa.Column("item_count", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state = 'COMPLETED'", name=op.f("batch_transfers_state_check")),
        sa.CheckConstraint("item_count > 0", name=op.f("batch_transfers_item_count_check")),
        sa.CheckConstraint("micros > 0", name=op.f("batch_transfers_micros_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("batch_transfers_pkey")),
        comment="Many paid in one commit for one fee. Each recipient's part is a transaction with this batch_id.",
    )
    op.create_table(
        "payment_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("payer_id", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("request_key", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'OPEN') = (closed_at IS NULL)", name=op.f("payment_requests_closed_check")),
        sa.CheckConstraint("(state = 'PAID') = (transaction_id IS NOT NULL)", name=op.f("payment_requests_paid_check")),
        sa.CheckConstraint(
            "state IN ('OPEN', 'PAID', 'DECLINED', 'CANCELLED')", name=op.f("payment_requests_state_check")
        ),
        sa.CheckConstraint("micros > 0", name=op.f("payment_requests_micros_check")),
        sa.CheckConstraint("payee_id <> payer_id", name=op.f("payment_requests_two_parties_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("payment_requests_pkey")),
        sa.UniqueConstraint("payee_id", "request_key", name=op.f("payment_requests_payee_id_request_key_key")),
        comment="Somebody asks somebody for money. An open one of old has expired, whatever its row says.",
    )
    op.create_index(op.f("payment_requests_payee_id_id_idx"), "payment_requests", ["payee_id", "id"], unique=False)
    op.create_index(op.f("payment_requests_payer_id_id_idx"), "payment_requests", ["payer_id", "id"], unique=False)
    op.create_table(
        "refunded_transfers",
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("received_micros", sa.BigInteger(), nullable=False),
        sa.Column("refunded_micros", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "refunded_micros BETWEEN 1 AND received_micros", name=op.f("refunded_transfers_refunded_check")
        ),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("refunded_transfers_pkey")),
        comment="How much of a transfer its recipient has given back in all refunds together.",
    )
    op.create_table(
        "scheduled_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scheduled_transfer_id", sa.Uuid(), nullable=False),
        sa.Column("occurrence_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'BEGUN') = (finished_at IS NULL)", name=op.f("scheduled_runs_finished_check")),
        sa.CheckConstraint(
            "(state = 'COMPLETED') = (transaction_id IS NOT NULL)", name=op.f("scheduled_runs_completed_check")
        ),
        sa.CheckConstraint("state IN ('BEGUN', 'COMPLETED', 'REFUSED')", name=op.f("scheduled_runs_state_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("scheduled_runs_pkey")),
        sa.UniqueConstraint(
            "scheduled_transfer_id",
            "occurrence_at",
            name=op.f("scheduled_runs_scheduled_transfer_id_occurrence_at_key"),
        ),
        comment="Each occurrence of a scheduled transfer that has begun, once, and what became of it.",
    )
    op.create_index(
        "scheduled_runs_open_idx",
        "scheduled_runs",
        ["lease_until", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'BEGUN'"),
    )
    op.create_table(
        "scheduled_transfers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("recipient_id", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.Text(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recurrence", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("next_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("request_key", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(state = 'ACTIVE') = (next_run_at IS NOT NULL)", name=op.f("scheduled_transfers_next_run_check")
        ),
        sa.CheckConstraint(
            "state IN ('ACTIVE', 'COMPLETED', 'CANCELLED')", name=op.f("scheduled_transfers_state_check")
        ),
        sa.CheckConstraint("micros > 0", name=op.f("scheduled_transfers_micros_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("scheduled_transfers_pkey")),
        sa.UniqueConstraint("consumer_id", "request_key", name=op.f("scheduled_transfers_consumer_id_request_key_key")),
        comment="Transfers in the future: to whom, how much, when first and by which rule again.",
    )
    op.create_index(
        op.f("scheduled_transfers_consumer_id_id_idx"), "scheduled_transfers", ["consumer_id", "id"], unique=False
    )
    op.create_index(
        "scheduled_transfers_due_idx",
        "scheduled_transfers",
        ["next_run_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'ACTIVE'"),
    )
