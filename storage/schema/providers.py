"""Providers: how they fare, what they are asked to do, and the prices they give."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import metadata, optional, required, time

provider_health = Table(
    "provider_health",
    metadata,
    Column("provider", Text, primary_key=True),
    required("healthy", Boolean),
    required("breaker", Text),
    required("paused", Boolean, server_default=text("false")),
    required("latency_ms", Integer),
    required("success_rate_micros", Integer),
    required("detail", Text),
    time("checked_at"),
    comment="What workers know of each provider: API processes never ask a provider themselves.",
)

provider_jobs = Table(
    "provider_jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("kind", Text),
    required("key", Text),
    required("body", JSONB),
    required("state", Text),
    optional("answer", JSONB),
    required("tries", Integer, server_default=text("0")),
    time("lease_until", required=False),
    time("created_at"),
    time("finished_at", required=False),
    UniqueConstraint("kind", "key"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="state"),
    Index("provider_jobs_open_idx", "created_at", postgresql_where=text("state IN ('waiting', 'running')")),
    comment="What an API process wants a provider to do; workers take it from here.",
)

reference_rates = Table(
    "reference_rates",
    metadata,
    Column("pair", Text, primary_key=True),
    required("rate_micros", BigInteger),
    required("source", Text),
    time("quoted_at"),
    time("created_at", required=False),
    CheckConstraint("rate_micros > 0", name="rate"),
    comment="EUR/USD: what one euro is worth in dollar micros.",
)

dex_ladders = Table(
    "dex_ladders",
    metadata,
    required("sell_asset", Text),
    required("buy_asset", Text),
    required("rungs", JSONB),
    required("block_number", BigInteger),
    time("read_at"),
    PrimaryKeyConstraint("sell_asset", "buy_asset"),
    comment="What the exchange of the chain gives for amounts of several sizes, as a worker last read it.",
)
