"""Consumers and operations: KYC cases, preferences, bank accounts, handles given up, adjustments, the audit chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "adjustments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source_owner", sa.Uuid(), nullable=False),
        sa.Column("source_kind", sa.Text(), nullable=False),
        sa.Column("target_owner", sa.Uuid(), nullable=False),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cancel_item_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("request_key", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('PROPOSED', 'APPROVED')", name=op.f("adjustments_state_check")),
        sa.CheckConstraint("approved_by <> proposed_by", name=op.f("adjustments_two_operators_check")),
        sa.CheckConstraint("micros > 0", name=op.f("adjustments_micros_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("adjustments_pkey")),
        sa.UniqueConstraint("request_key", name=op.f("adjustments_request_key_key")),
        comment="Postings that two operators make together. An old proposal has expired, whatever its row says.",
    )
    op.create_table(
        "audit_chain",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=True),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("origin IN ('audit_log', 'transactions')", name=op.f("audit_chain_origin_check")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("audit_chain_pkey")),
        sa.UniqueConstraint("record_id", name=op.f("audit_chain_record_id_key")),
        comment="The hash chain over the audit log and the journal: each record's number, content and predecessor.",
    )
    op.create_index(
        op.f("audit_chain_consumer_id_record_id_idx"), "audit_chain", ["consumer_id", "record_id"], unique=False
    )
    op.create_table(
        "audit_chain_heads",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("cursor_id", sa.Uuid(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("audit_chain_heads_pkey")),
        comment="Where the chain ends, and the youngest record in it. Its row is the lock of who extends it.",
    )
    op.create_table(
        "bank_accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("details_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("request_key", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('PENDING', 'ACTIVE', 'FAILED')", name=op.f("bank_accounts_state_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("bank_accounts_pkey")),
        sa.UniqueConstraint("consumer_id", "request_key", name=op.f("bank_accounts_consumer_id_request_key_key")),
        comment="Bank accounts that money can be paid out to. Everything about them is sealed.",
    )
    op.create_index(op.f("bank_accounts_consumer_id_id_idx"), "bank_accounts", ["consumer_id", "id"], unique=False)
    op.create_table(
        "consumer_preferences",
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("default_asset", sa.Text(), nullable=False),
        sa.Column("preferred_speed", sa.Text(), nullable=False),
        sa.Column("switched_off", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "preferred_speed IN ('STANDARD', 'FAST')", name=op.f("consumer_preferences_preferred_speed_check")
        ),
        sa.PrimaryKeyConstraint("consumer_id", name=op.f("consumer_preferences_pkey")),
        comment="What a consumer chose. Who has no row has the defaults.",
    )
    op.create_table(
        "kyc_cases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("kyc_level", sa.SmallInteger(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decided_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('PENDING', 'APPROVED', 'REJECTED')", name=op.f("kyc_cases_state_check")),
        sa.CheckConstraint("kyc_level BETWEEN 2 AND 3", name=op.f("kyc_cases_kyc_level_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("kyc_cases_pkey")),
        comment="Requests to be raised by one KYC level. A consumer has one open at most.",
    )
    op.create_index(op.f("kyc_cases_consumer_id_id_idx"), "kyc_cases", ["consumer_id", "id"], unique=False)
    op.create_index(
        "kyc_cases_open_idx", "kyc_cases", ["consumer_id"], unique=True, postgresql_where=sa.text("state = 'PENDING'")
    )
    op.create_index(op.f("kyc_cases_state_id_idx"), "kyc_cases", ["state", "id"], unique=False)
    op.create_table(
        "retired_handles",
        sa.Column("handle_index", sa.LargeBinary(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("handle_index", name=op.f("retired_handles_pkey")),
        comment="Handles given up, by blind index, kept from others for a while; their owner may return.",
    )
    op.add_column("audit_log", sa.Column("role", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("audit_log", sa.Column("peer", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("audit_log", sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("audit_log", sa.Column("consumer_id", sa.Uuid(), nullable=True))
    op.create_index(op.f("audit_log_consumer_id_id_idx"), "audit_log", ["consumer_id", "id"], unique=False)
    op.create_index(op.f("audit_log_subject_id_idx"), "audit_log", ["subject", "id"], unique=False)
    op.create_table_comment(
        "audit_log",
        "Who did what, when, from where: operators' acts. Movements of money are audited by the journal itself.",
        existing_comment="Who did what, when: operators' actions.",
    )
    op.alter_column("consumers", "email_sealed", existing_type=postgresql.BYTEA(), nullable=True)
    op.alter_column("consumers", "email_index", existing_type=postgresql.BYTEA(), nullable=True)
    op.alter_column("consumers", "phone_sealed", existing_type=postgresql.BYTEA(), nullable=True)
    op.alter_column("consumers", "phone_index", existing_type=postgresql.BYTEA(), nullable=True)
    op.alter_column("consumers", "name_sealed", existing_type=postgresql.BYTEA(), nullable=True)
    op.create_table_comment(
        "consumers",
        "The person with a wallet. Personal data is sealed; the blind indexes find it again. Erased, it is null.",
        existing_comment="The person with a wallet. Personal data is sealed; the blind indexes find it again.",
    )
    op.add_column("reference_rates", sa.Column("created_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("wallets", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
