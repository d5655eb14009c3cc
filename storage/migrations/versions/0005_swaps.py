"""Swaps: quotes, and the prices on the chain's exchange that they are made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "dex_ladders",
        sa.Column("sell_asset", sa.Text(), nullable=False),
        sa.Column("buy_asset", sa.Text(), nullable=False),
        sa.Column("rungs", postgresql.JSONB(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sell_asset", "buy_asset", name=op.f("dex_ladders_pkey")),
        comment="What the exchange of the chain gives for amounts of several sizes, as a worker last read it.",
    )
    op.create_table(
        "swap_quotes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("sell_asset", sa.Text(), nullable=False),
        sa.Column("sell_micros", sa.BigInteger(), nullable=False),
        sa.Column("buy_asset", sa.Text(), nullable=False),
        sa.Column("buy_micros", sa.BigInteger(), nullable=False),
        sa.Column("spread_micros", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reserved", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("executed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("sell_asset <> buy_asset", name=op.f("swap_quotes_two_assets_check")),
        sa.CheckConstraint(
            "sell_micros > 0 AND buy_micros > 0 AND spread_micros >= 0", name=op.f("swap_quotes_micros_check")
        ),
        sa.CheckConstraint("state IN ('OPEN', 'EXECUTED')", name=op.f("swap_quotes_state_check")),
        sa.CheckConstraint(
            "(state = 'EXECUTED') = (transaction_id IS NOT NULL)", name=op.f("swap_quotes_executed_check")
        ),
        sa.CheckConstraint(
            "(state = 'EXECUTED') = (executed_at IS NOT NULL)", name=op.f("swap_quotes_executed_at_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("swap_quotes_pkey")),
        sa.UniqueConstraint("transaction_id", name=op.f("swap_quotes_transaction_id_key")),
        comment="Prices that were named, and the swaps they became. An open one of old has expired, "
        "whatever its row says.",
    )
    op.create_index(
        "swap_quotes_open_idx",
        "swap_quotes",
        ["buy_asset", "expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'OPEN'"),
    )
