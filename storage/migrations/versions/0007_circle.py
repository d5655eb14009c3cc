"""Circle: wallets made ahead, and an inbox for events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "circle_wallets",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("holder_id", sa.Uuid(), nullable=True),
        sa.Column("labelled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(holder_id IS NULL) = (assigned_at IS NULL)", name=op.f("circle_wallets_assigned_check")),
        sa.PrimaryKeyConstraint("reference", name=op.f("circle_wallets_pkey")),
        sa.UniqueConstraint("address", "chain", name=op.f("circle_wallets_address_chain_key")),
        sa.UniqueConstraint("chain", "holder_id", name=op.f("circle_wallets_chain_holder_id_key")),
        comment="Wallets that Circle keeps for us: a pool made ahead, and those that have their holder.",
    )
    op.create_index(
        "circle_wallets_free_idx",
        "circle_wallets",
        ["chain", "reference"],
        unique=False,
        postgresql_where=sa.text("holder_id IS NULL"),
    )
    op.create_table(
        "circle_wallet_orders",
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("count > 0", name=op.f("circle_wallet_orders_count_check")),
        sa.CheckConstraint("state IN ('OPEN', 'DONE')", name=op.f("circle_wallet_orders_state_check")),
        sa.PrimaryKeyConstraint("key", name=op.f("circle_wallet_orders_pkey")),
        comment="Orders of new wallets, kept before they are sent, so that an answer that was lost is asked for again.",
    )
    op.create_index(
        "circle_wallet_orders_open_idx",
        "circle_wallet_orders",
        ["chain", "own"],
        unique=True,
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('WAITING', 'UNMATCHED', 'DONE', 'IGNORED', 'GIVEN_UP')", name=op.f("inbox_state_check")
        ),
        sa.CheckConstraint(
            "(state IN ('WAITING', 'UNMATCHED')) = (finished_at IS NULL)", name=op.f("inbox_finished_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("inbox_pkey")),
        comment="Events received from providers, each once: what they are about, and whether that was looked at since.",
    )
    op.create_index("inbox_subject_reference_idx", "inbox", ["subject", "reference"], unique=False)
    op.create_index(
        "inbox_due_idx",
        "inbox",
        ["due_at", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('WAITING', 'UNMATCHED')"),
    )
