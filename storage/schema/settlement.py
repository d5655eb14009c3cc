"""Settlement: items and attempts, where the money stands, and how far each chain has been read."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
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

settlement_items = Table(
    "settlement_items",
    metadata,
    Column("id", Uuid, primary_key=True),
    optional("transaction_id", Uuid),
    required("sender", Uuid),
    required("recipient", Uuid),
    required("asset", Text),
    required("micros", BigInteger),
    optional("destination", Text),
    optional("group_id", Uuid),
    required("sender_seq", BigInteger),
    required("position", SmallInteger),
    required("counts", Boolean),
    required("state", Text),
    required("reason", Text, server_default=text("''")),
    required("failures", Integer, server_default=text("0")),
    required("lease_token", BigInteger, server_default=text("0")),
    time("lease_until", required=False),
    time("not_before", required=False),
    optional("attempt_id", Uuid),
    optional("transaction_hash", Text),
    optional("block_number", BigInteger),
    optional("log_index", Integer),
    time("created_at"),
    time("confirmed_at", required=False),
    required("rail", Text, server_default=text("'tempo'")),
    required("purpose", Text, server_default=text("'payment'")),
    optional("for_item_id", Uuid),
    optional("route", JSONB),
    CheckConstraint("micros > 0", name="micros"),
    Index(
        "settlement_items_queue_idx",
        "sender",
        "asset",
        "sender_seq",
        "position",
        "id",
        postgresql_where=text("state NOT IN ('CONFIRMED', 'FAILED')"),
    ),
    Index("settlement_items_transaction_idx", "transaction_id"),
    Index("settlement_items_attempt_idx", "attempt_id", postgresql_where=text("attempt_id IS NOT NULL")),
    comment="What has to become true on a rail: from holder, to holder. Its id is the memo on the chain.",
)

settlement_attempts = Table(
    "settlement_attempts",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("kind", Text),
    required("rail", Text),
    required("provider", Text),
    required("reference", Text),
    required("payload", LargeBinary),
    required("state", Text),
    optional("holder_id", Uuid),
    optional("asset", Text),
    time("valid_before"),
    time("signed_at"),
    time("broadcast_at", required=False),
    time("finished_at", required=False),
    required("tries", Integer, server_default=text("0")),
    required("last_error", Text, server_default=text("''")),
    optional("fee_asset", Text),
    optional("fee_micros", BigInteger),
    optional("provider_reference", Text),
    time("observed_at", required=False),
    UniqueConstraint("reference"),
    Index(
        "settlement_attempts_open_idx",
        "valid_before",
        postgresql_where=text("state IN ('SIGNED', 'BROADCAST')"),
    ),
    Index(
        "settlement_attempts_activation_idx",
        "holder_id",
        unique=True,
        postgresql_where=text("kind = 'activation' AND state IN ('SIGNED', 'BROADCAST')"),
    ),
    comment="Each signed raw transaction or provider's order, persisted before it is sent (money rules 1 and 4).",
)

attempt_items = Table(
    "attempt_items",
    metadata,
    required("item_id", Uuid),
    required("attempt_id", Uuid),
    required("call_index", SmallInteger),
    PrimaryKeyConstraint("item_id", "attempt_id"),
    Index(None, "attempt_id"),
    comment="Which items an attempt carries, and at which call.",
)

custody_positions = Table(
    "custody_positions",
    metadata,
    required("holder_id", Uuid),
    required("rail", Text),
    required("asset", Text),
    required("micros", BigInteger, server_default=text("0")),
    required("reserved_micros", BigInteger, server_default=text("0")),
    required("activated", Boolean, server_default=text("false")),
    PrimaryKeyConstraint("holder_id", "rail", "asset"),
    CheckConstraint("micros >= 0", name="micros"),
    CheckConstraint("reserved_micros >= 0", name="reserved"),
    comment="Where the money stands. Changed by confirmed settlements and finalized deposits only.",
)

chain_cursors = Table(
    "chain_cursors",
    metadata,
    Column("chain", Text, primary_key=True),
    required("number", BigInteger),
    required("hash", Text),
    time("block_time"),
    required("halted_reason", Text, server_default=text("''")),
    comment="The watcher's progress over finalized blocks, and why settlement is halted, if it is.",
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("incarnation", Text, primary_key=True),
    time("began_at"),
    time("paused_until"),
    required("first_index", BigInteger),
    comment="Each incarnation of the database, and from when on settlement trusts it.",
)

consumed_logs = Table(
    "consumed_logs",
    metadata,
    required("chain", Text),
    required("transaction_hash", Text),
    required("log_index", Integer),
    required("meaning", Text),
    optional("item_id", Uuid),
    PrimaryKeyConstraint("chain", "transaction_hash", "log_index"),
    comment="Each chain log is accounted for once (money rule 12).",
)

breaks = Table(
    "breaks",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("kind", Text),
    required("subject", Text),
    required("facts", JSONB),
    time("found_at"),
    time("resolved_at", required=False),
    UniqueConstraint("kind", "subject"),
    comment="Differences between ledger, rails and chain: counted, alerted, never silently repaired.",
)

proofs = Table(
    "proofs",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("clean", Boolean),
    required("report", JSONB),
    time("created_at"),
    Index(None, "created_at"),
    comment="Results of the reconciliation, newest last.",
)
