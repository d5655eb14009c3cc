"""Banks: accounts as the custodian keeps them, wires that came, payouts that go, and what the custodian says it has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "bank_deposits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), nullable=False),
        sa.Column("tracking_reference", sa.Text(), nullable=False),
        sa.Column("bank_reference", sa.Text(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=True),
        sa.Column("bank_account_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'CREDITED') = (consumer_id IS NOT NULL)", name=op.f("bank_deposits_credited_check")
        ),
        sa.CheckConstraint(
            "(state IN ('CREDITED', 'SUSPENDED')) = (transaction_id IS NOT NULL)",
            name=op.f("bank_deposits_booked_check"),
        ),
        sa.CheckConstraint(
            "state IN ('PENDING', 'CREDITED', 'SUSPENDED', 'FAILED', 'OPENING')", name=op.f("bank_deposits_state_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("bank_deposits_pkey")),
        sa.UniqueConstraint("provider_reference", name=op.f("bank_deposits_provider_reference_key")),
        sa.UniqueConstraint("transaction_id", name=op.f("bank_deposits_transaction_id_key")),
        comment="Wires that the custodian told of, each once, and what became of them.",
    )
    op.create_index(op.f("bank_deposits_arrived_at_idx"), "bank_deposits", ["arrived_at"], unique=False)
    op.create_index(
        "bank_deposits_open_idx",
        "bank_deposits",
        ["arrived_at"],
        unique=False,
        postgresql_where=sa.text("state = 'PENDING'"),
    )
    op.create_table(
        "bank_links",
        sa.Column("bank_account_id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=True),
        sa.Column("tracking_reference", sa.Text(), nullable=True),
        sa.Column("instructions", postgresql.JSONB(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state <> 'ACTIVE' OR num_nonnulls(provider_reference, instructions) = 2",
            name=op.f("bank_links_active_check"),
        ),
        sa.CheckConstraint("state IN ('PENDING', 'ACTIVE', 'FAILED')", name=op.f("bank_links_state_check")),
        sa.PrimaryKeyConstraint("bank_account_id", name=op.f("bank_links_pkey")),
        sa.UniqueConstraint("key", name=op.f("bank_links_key_key")),
        sa.UniqueConstraint("provider_reference", name=op.f("bank_links_provider_reference_key")),
        sa.UniqueConstraint("tracking_reference", name=op.f("bank_links_tracking_reference_key")),
        comment="Bank accounts as the custodian keeps them, and what a wire from there says. Outlives the account.",
    )
    op.create_index("bank_links_consumer_idx", "bank_links", ["consumer_id", "bank_account_id"], unique=False)
    op.create_index(
        "bank_links_open_idx", "bank_links", ["created_at"], unique=False, postgresql_where=sa.text("state = 'PENDING'")
    )
    op.create_table(
        "bank_payouts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("withdrawal_id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("bank_account_id", sa.Uuid(), nullable=False),
        sa.Column("bank_reference", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("unanswered", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("return_reference", sa.Text(), nullable=True),
        sa.Column("return_fee_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ordered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state IN ('STARTED', 'SUBMITTED', 'REFUSED')) = (closed_at IS NULL)",
            name=op.f("bank_payouts_closed_check"),
        ),
        sa.CheckConstraint(
            "state IN ('STARTED', 'SUBMITTED', 'REFUSED', 'COMPLETED', 'FAILED', 'RETURNED')",
            name=op.f("bank_payouts_state_check"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('SUBMITTED', 'COMPLETED', 'RETURNED') OR provider_reference IS NOT NULL",
            name=op.f("bank_payouts_id_check"),
        ),
        sa.CheckConstraint("micros > 0", name=op.f("bank_payouts_micros_check")),
        sa.CheckConstraint("unanswered >= 0", name=op.f("bank_payouts_unanswered_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("bank_payouts_pkey")),
        sa.UniqueConstraint("key", name=op.f("bank_payouts_key_key")),
        sa.UniqueConstraint("provider_reference", name=op.f("bank_payouts_provider_reference_key")),
        sa.UniqueConstraint("withdrawal_id", name=op.f("bank_payouts_withdrawal_id_key")),
        comment="Payouts, persisted before they are ordered; of unknown outcome one at most for each bank and amount.",
    )
    op.create_index(
        "bank_payouts_open_idx",
        "bank_payouts",
        ["ordered_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('STARTED', 'SUBMITTED', 'REFUSED')"),
    )
    op.create_index(
        "bank_payouts_returnable_idx",
        "bank_payouts",
        ["submitted_at"],
        unique=False,
        postgresql_where=sa.text("state = 'COMPLETED'"),
    )
    op.create_index(
        "bank_payouts_unknown_idx",
        "bank_payouts",
        ["bank_reference", "asset", "micros"],
        unique=True,
        postgresql_where=sa.text("state = 'STARTED'"),
    )
    op.create_table(
        "rail_comparisons",
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("expected_micros", sa.BigInteger(), nullable=False),
        sa.Column("found_micros", sa.BigInteger(), nullable=False),
        sa.Column("differs_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rail", "asset", name=op.f("rail_comparisons_pkey")),
        comment="What a custodian says of the operator's account there, beside the books of the same moment.",
    )
