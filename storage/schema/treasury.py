"""The treasury's own trades."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text, UniqueConstraint, Uuid, text

from storage.schema.columns import metadata, optional, required, time

treasury_sales = Table(
    "treasury_sales",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("attempt_id", Uuid),
    required("sell_asset", Text),
    required("sell_micros", BigInteger),
    required("buy_asset", Text),
    required("least_micros", BigInteger),
    optional("bought_micros", BigInteger),
    required("state", Text),
    required("reason", Text, server_default=text("''")),
    time("created_at"),
    time("closed_at", required=False),
    UniqueConstraint("attempt_id"),
    CheckConstraint("sell_asset <> buy_asset AND sell_micros > 0", name="sale"),
    CheckConstraint("state IN ('SIGNED', 'CONFIRMED', 'FAILED', 'DEAD')", name="state"),
    CheckConstraint("(state = 'CONFIRMED') = (bought_micros IS NOT NULL)", name="bought"),
    CheckConstraint("(state = 'SIGNED') = (closed_at IS NULL)", name="closed"),
    Index("treasury_sales_open_idx", "state", unique=True, postgresql_where=text("state = 'SIGNED'")),
    comment="What the treasury sold on the exchange of the chain, one sale at a time.",
)
