"""Treasury sales: what the operator sells on the exchange of the chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "treasury_sales",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("sell_asset", sa.Text(), nullable=False),
        sa.Column("sell_micros", sa.BigInteger(), nullable=False),
        sa.Column("buy_asset", sa.Text(), nullable=False),
        sa.Column("least_micros", sa.BigInteger(), nullable=False),
        sa.Column("bought_micros", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("sell_asset <> buy_asset AND sell_micros > 0", name=op.f("treasury_sales_sale_check")),
        sa.CheckConstraint(
            "state IN ('SIGNED', 'CONFIRMED', 'FAILED', 'DEAD')", name=op.f("treasury_sales_state_check")
        ),
        sa.CheckConstraint(
            "(state = 'CONFIRMED') = (bought_micros IS NOT NULL)", name=op.f("treasury_sales_bought_check")
        ),
        sa.CheckConstraint("(state = 'SIGNED') = (closed_at IS NULL)", name=op.f("treasury_sales_closed_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("treasury_sales_pkey")),
        sa.UniqueConstraint("attempt_id", name=op.f("treasury_sales_attempt_id_key")),
        comment="What the treasury sold on the exchange of the chain, one sale at a time.",
    )
    op.create_index(
        "treasury_sales_open_idx",
        "treasury_sales",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state = 'SIGNED'"),
    )
