"""Circle: wallets there, and what it tells us about them."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, Uuid, text

from storage.schema.columns import metadata, optional, required, time

circle_wallets = Table(
    "circle_wallets",
    metadata,
    Column("reference", Text, primary_key=True),
    required("address", Text),
    required("chain", Text),
    required("own", Boolean),
    optional("holder_id", Uuid),
    required("labelled", Boolean, server_default=text("false")),
    time("created_at"),
    time("assigned_at", required=False),
    # In this order, because whoever asks about an address may not know the chain.
    UniqueConstraint("address", "chain"),
    UniqueConstraint("chain", "holder_id"),
    CheckConstraint("(holder_id IS NULL) = (assigned_at IS NULL)", name="assigned"),
    Index("circle_wallets_free_idx", "chain", "reference", postgresql_where=text("holder_id IS NULL")),
    comment="Wallets that Circle keeps for us: a pool made ahead, and those that have their holder.",
)

circle_wallet_orders = Table(
    "circle_wallet_orders",
    metadata,
    Column("key", Uuid, primary_key=True),
    required("chain", Text),
    required("own", Boolean),
    required("count", Integer),
    required("state", Text),
    time("created_at"),
    CheckConstraint("count > 0", name="count"),
    CheckConstraint("state IN ('OPEN', 'DONE')", name="state"),
    Index("circle_wallet_orders_open_idx", "chain", "own", unique=True, postgresql_where=text("state = 'OPEN'")),
    comment="Orders of new wallets, kept before they are sent, so that an answer that was lost is asked for again.",
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Text, primary_key=True),
    required("source", Text),
    required("subject", Text),
    required("reference", Text),
    required("state", Text),
    required("tries", Integer, server_default=text("0")),
    required("reason", Text, server_default=text("''")),
    time("occurred_at"),
    time("received_at"),
    time("due_at"),
    time("finished_at", required=False),
    CheckConstraint("state IN ('WAITING', 'UNMATCHED', 'DONE', 'IGNORED', 'GIVEN_UP')", name="state"),
    CheckConstraint("(state IN ('WAITING', 'UNMATCHED')) = (finished_at IS NULL)", name="finished"),
    Index("inbox_due_idx", "due_at", "id", postgresql_where=text("state IN ('WAITING', 'UNMATCHED')")),
    Index(None, "subject", "reference"),
    comment="Events received from providers, each once: what they are about, and whether that was looked at since.",
)
