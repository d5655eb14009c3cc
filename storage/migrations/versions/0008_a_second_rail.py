"""A second rail: an item settles on one of several, and its attempt may be an order of a provider's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    items, attempts = "settlement_items", "settlement_attempts"
    op.add_column(items, sa.Column("rail", sa.Text(), server_default=sa.text("'tempo'"), nullable=False))
    op.add_column(items, sa.Column("purpose", sa.Text(), server_default=sa.text("'payment'"), nullable=False))
    op.add_column(items, sa.Column("for_item_id", sa.Uuid(), nullable=True))
    op.add_column(items, sa.Column("route", postgresql.JSONB(), nullable=True))
    op.add_column(attempts, sa.Column("provider_reference", sa.Text(), nullable=True))
    op.add_column(attempts, sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table_comment(
        attempts,
        "Each signed raw transaction or provider's order, persisted before it is sent (money rules 1 and 4).",
        existing_comment="Each signed raw transaction, persisted before it is broadcast (money rule 1).",
    )
