"""Operations: adjustments and the audit log with its chain."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import metadata, optional, required, time

adjustments = Table(
    "adjustments",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("source_owner", Uuid),
    required("source_kind", Text),
    required("target_owner", Uuid),
    required("target_kind", Text),
    required("asset", Text),
    required("micros", BigInteger),
    required("reason", Text),
    optional("cancel_item_id", Uuid),
    required("state", Text),
    required("proposed_by", Text),
    optional("approved_by", Text),
    optional("transaction_id", Uuid),
    required("request_key", Uuid),
    time("created_at"),
    time("expires_at"),
    time("approved_at", required=False),
    UniqueConstraint("request_key"),
    CheckConstraint("micros > 0", name="micros"),
    CheckConstraint("state IN ('PROPOSED', 'APPROVED')", name="state"),
    CheckConstraint("approved_by <> proposed_by", name="two_operators"),
    comment="Postings that two operators make together. An old proposal has expired, whatever its row says.",
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("actor", Text),
    required("action", Text),
    required("subject", Text),
    required("facts", JSONB),
    time("created_at"),
    required("role", Text, server_default=text("''")),
    required("peer", Text, server_default=text("''")),
    required("request_id", Text, server_default=text("''")),
    optional("consumer_id", Uuid),
    Index(None, "subject", "id"),
    Index(None, "consumer_id", "id"),
    comment="Who did what, when, from where: operators' acts. Movements of money are audited by the journal itself.",
)

audit_chain = Table(
    "audit_chain",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    required("origin", Text),
    required("record_id", Uuid),
    optional("consumer_id", Uuid),
    required("content_hash", LargeBinary),
    required("hash", LargeBinary),
    UniqueConstraint("record_id"),
    CheckConstraint("origin IN ('audit_log', 'transactions')", name="origin"),
    Index(None, "consumer_id", "record_id"),
    comment="The hash chain over the audit log and the journal: each record's number, content and predecessor.",
)

audit_chain_heads = Table(
    "audit_chain_heads",
    metadata,
    Column("chain", Text, primary_key=True),
    required("sequence", BigInteger),
    required("hash", LargeBinary),
    required("cursor_id", Uuid),
    time("changed_at"),
    comment="Where the chain ends, and the youngest record in it. Its row is the lock of who extends it.",
)
