"""The wallet: consumers, ledger, settlement, providers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "attempt_items",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("call_index", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "attempt_id", name=op.f("attempt_items_pkey")),
        comment="Which items an attempt carries, and at which call.",
    )
    op.create_index(op.f("attempt_items_attempt_id_idx"), "attempt_items", ["attempt_id"], unique=False)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_log_pkey")),
        comment="Who did what, when: operators' actions.",
    )
    op.create_table(
        "breaks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("breaks_pkey")),
        sa.UniqueConstraint("kind", "subject", name=op.f("breaks_kind_subject_key")),
        comment="Differences between ledger, rails and chain: counted, alerted, never silently repaired.",
    )
    op.create_table(
        "chain_cursors",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("halted_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("chain_cursors_pkey")),
        comment="The watcher's progress over finalized blocks, and why settlement is halted, if it is.",
    )
    op.create_table(
        "consumed_logs",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("transaction_hash", sa.Text(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("chain", "transaction_hash", "log_index", name=op.f("consumed_logs_pkey")),
        comment="Each chain log is accounted for once (money rule 12).",
    )
    op.create_table(
        "consumers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("email_index", sa.LargeBinary(), nullable=False),
        sa.Column("phone_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("phone_index", sa.LargeBinary(), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("onboard_key", sa.Uuid(), nullable=True),
        sa.Column("onboard_hash", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("consumers_pkey")),
        sa.UniqueConstraint("email_index", name=op.f("consumers_email_index_key")),
        sa.UniqueConstraint("handle", name=op.f("consumers_handle_key")),
        sa.UniqueConstraint("onboard_key", name=op.f("consumers_onboard_key_key")),
        sa.UniqueConstraint("phone_index", name=op.f("consumers_phone_index_key")),
        comment="The person with a wallet. Personal data is sealed; the blind indexes find it again.",
    )
    op.create_table(
        "custody_positions",
        sa.Column("holder_id", sa.Uuid(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("activated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("micros >= 0", name=op.f("custody_positions_micros_check")),
        sa.CheckConstraint("reserved_micros >= 0", name=op.f("custody_positions_reserved_check")),
        sa.PrimaryKeyConstraint("holder_id", "rail", "asset", name=op.f("custody_positions_pkey")),
        comment="Where the money stands. Changed by confirmed settlements and finalized deposits only.",
    )
    op.create_table(
        "entries",
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("counterparty_id", sa.Uuid(), nullable=True),
        sa.Column("available_delta", sa.BigInteger(), nullable=False),
        sa.Column("held_delta", sa.BigInteger(), nullable=False),
        sa.Column("available_after", sa.BigInteger(), nullable=False),
        sa.Column("held_after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("consumer_id", "asset", "version", name=op.f("entries_pkey")),
        comment="A transaction's effect on one balance: the consumer's history, in commit order by version.",
    )
    op.create_table(
        "postings",
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("source_owner", sa.Uuid(), nullable=False),
        sa.Column("source_kind", sa.Text(), nullable=False),
        sa.Column("target_owner", sa.Uuid(), nullable=False),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("micros > 0", name=op.f("postings_micros_check")),
        sa.PrimaryKeyConstraint("transaction_id", "position", name=op.f("postings_pkey")),
        comment="Money moved from one account to another: balanced by construction.",
    )
    op.create_table(
        "proofs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("clean", sa.Boolean(), nullable=False),
        sa.Column("report", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("proofs_pkey")),
        comment="Results of the reconciliation, newest last.",
    )
    op.create_index(op.f("proofs_created_at_idx"), "proofs", ["created_at"], unique=False)
    op.create_table(
        "provider_health",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("healthy", sa.Boolean(), nullable=False),
        sa.Column("breaker", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column("success_rate_micros", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("provider_health_pkey")),
        comment="What workers know of each provider: API processes never ask a provider themselves.",
    )
    op.create_table(
        "provider_jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name=op.f("provider_jobs_state_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("provider_jobs_pkey")),
        sa.UniqueConstraint("kind", "key", name=op.f("provider_jobs_kind_key_key")),
        comment="What an API process wants a provider to do; workers take it from here.",
    )
    op.create_index(
        "provider_jobs_open_idx",
        "provider_jobs",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting', 'running')"),
    )
    op.create_table(
        "reference_rates",
        sa.Column("pair", sa.Text(), nullable=False),
        sa.Column("rate_micros", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("quoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("rate_micros > 0", name=op.f("reference_rates_rate_check")),
        sa.PrimaryKeyConstraint("pair", name=op.f("reference_rates_pkey")),
        comment="EUR/USD: what one euro is worth in dollar micros.",
    )
    op.create_table(
        "requests",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("rejection", postgresql.JSONB(), nullable=True),
        sa.Column("available_after", sa.BigInteger(), nullable=False),
        sa.Column("held_after", sa.BigInteger(), nullable=False),
        sa.Column("version_after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("requests_pkey")),
        comment="Idempotency, for ever: what each request id was used for and what was answered.",
    )
    op.create_table(
        "settlement_attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("holder_id", sa.Uuid(), nullable=True),
        sa.Column("asset", sa.Text(), nullable=True),
        sa.Column("valid_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("broadcast_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("fee_asset", sa.Text(), nullable=True),
        sa.Column("fee_micros", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("settlement_attempts_pkey")),
        sa.UniqueConstraint("reference", name=op.f("settlement_attempts_reference_key")),
        comment="Each signed raw transaction, persisted before it is broadcast (money rule 1).",
    )
    op.create_index(
        "settlement_attempts_activation_idx",
        "settlement_attempts",
        ["holder_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'activation' AND state IN ('SIGNED', 'BROADCAST')"),
    )
    op.create_index(
        "settlement_attempts_open_idx",
        "settlement_attempts",
        ["valid_before"],
        unique=False,
        postgresql_where=sa.text("state IN ('SIGNED', 'BROADCAST')"),
    )
    op.create_table(
        "settlement_items",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("sender", sa.Uuid(), nullable=False),
        sa.Column("recipient", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("sender_seq", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("transaction_hash", sa.Text(), nullable=True),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("log_index", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("micros > 0", name=op.f("settlement_items_micros_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("settlement_items_pkey")),
        comment="What has to become true on a rail: from holder, to holder. Its id is the memo on the chain.",
    )
    op.create_index(
        "settlement_items_attempt_idx",
        "settlement_items",
        ["attempt_id"],
        unique=False,
        postgresql_where=sa.text("attempt_id IS NOT NULL"),
    )
    op.create_index(
        "settlement_items_queue_idx",
        "settlement_items",
        ["sender", "asset", "sender_seq", "position", "id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('CONFIRMED', 'FAILED')"),
    )
    op.create_index("settlement_items_transaction_idx", "settlement_items", ["transaction_id"], unique=False)
    op.create_table(
        "stablecoin_balances",
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("available_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("held_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unswept_fee_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("available_micros >= 0", name=op.f("stablecoin_balances_available_check")),
        sa.CheckConstraint("held_micros >= 0", name=op.f("stablecoin_balances_held_check")),
        sa.CheckConstraint("unswept_fee_micros >= 0", name=op.f("stablecoin_balances_unswept_fee_check")),
        sa.PrimaryKeyConstraint("consumer_id", "asset", name=op.f("stablecoin_balances_pkey")),
        comment="A consumer's accounts of one asset. Locked second, in the order of (consumer_id, asset).",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "system_balances",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "asset", name=op.f("system_balances_pkey")),
        comment="The operator's accounts, as far as rolled up: add system_entries for the present.",
    )
    op.create_table(
        "system_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("delta_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("system_entries_pkey")),
        comment="What one batch did to an operator account. Appended on the hot path, rolled up in the background.",
    )
    op.create_table(
        "tempo_addresses",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("holder_id", sa.Uuid(), nullable=False),
        sa.Column("derivation_index", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('free', 'assigned', 'tainted', 'operator')", name=op.f("tempo_addresses_state_check")
        ),
        sa.PrimaryKeyConstraint("address", name=op.f("tempo_addresses_pkey")),
        sa.UniqueConstraint("derivation_index", name=op.f("tempo_addresses_derivation_index_key")),
        comment="Every address of ours: the pool derived ahead, the assigned ones, the operator's. Lower case hex.",
    )
    op.create_index(
        "tempo_addresses_free_idx",
        "tempo_addresses",
        ["derivation_index"],
        unique=False,
        postgresql_where=sa.text("state = 'free'"),
    )
    op.create_index(op.f("tempo_addresses_holder_id_idx"), "tempo_addresses", ["holder_id"], unique=False)
    op.create_table(
        "transactions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("counterparty_id", sa.Uuid(), nullable=True),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("fee_micros", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.Text(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("transactions_pkey")),
        comment="The header of an immutable, balanced set of postings.",
    )
    op.create_table(
        "wallets",
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("tempo_address", sa.Text(), nullable=False),
        sa.Column("derivation_index", sa.BigInteger(), nullable=False),
        sa.Column("kyc_level", sa.SmallInteger(), nullable=False),
        sa.Column("frozen", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("usage_day", sa.Date(), nullable=False),
        sa.Column("usage_usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kyc_level BETWEEN 1 AND 3", name=op.f("wallets_kyc_level_check")),
        sa.CheckConstraint("usage_usd_micros >= 0", name=op.f("wallets_usage_check")),
        sa.PrimaryKeyConstraint("consumer_id", name=op.f("wallets_pkey")),
        sa.UniqueConstraint("tempo_address", name=op.f("wallets_tempo_address_key")),
        comment="Flags and the day's limit counter. Locked first, in the order of consumer_id.",
    )
