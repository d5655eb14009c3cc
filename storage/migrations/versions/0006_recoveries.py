"""Recoveries: which incarnations of the database settlement trusts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "recoveries",
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incarnation", name=op.f("recoveries_pkey")),
        comment="Each incarnation of the database, and from when on settlement trusts it.",
    )
    # The database that is migrated is what it was: nothing was lost on the way here.
    op.execute(
        "INSERT INTO recoveries SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '-' || "
        "(pg_control_system()).system_identifier, now(), 'epoch', 0"
    )
