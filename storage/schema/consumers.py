"""Consumers: who they are, what they chose, their wallets and addresses."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from storage.schema.columns import metadata, optional, required, time

consumers = Table(
    "consumers",
    metadata,
    Column("id", Uuid, primary_key=True),
    optional("email_sealed", LargeBinary),
    optional("email_index", LargeBinary),
    optional("phone_sealed", LargeBinary),
    optional("phone_index", LargeBinary),
    optional("name_sealed", LargeBinary),
    optional("handle", Text),
    optional("onboard_key", Uuid),
    optional("onboard_hash", LargeBinary),
    time("created_at"),
    UniqueConstraint("email_index"),
    UniqueConstraint("phone_index"),
    UniqueConstraint("handle"),
    UniqueConstraint("onboard_key"),
    comment="The person with a wallet. Personal data is sealed; the blind indexes find it again. Erased, it is null.",
)

retired_handles = Table(
    "retired_handles",
    metadata,
    Column("handle_index", LargeBinary, primary_key=True),
    required("consumer_id", Uuid),
    time("free_at"),
    comment="Handles given up, by blind index, kept from others for a while; their owner may return.",
)

kyc_cases = Table(
    "kyc_cases",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("consumer_id", Uuid),
    required("kyc_level", SmallInteger),
    required("evidence", JSONB),
    required("state", Text),
    required("reason", Text, server_default=text("''")),
    required("decided_by", Text, server_default=text("''")),
    time("created_at"),
    time("decided_at", required=False),
    CheckConstraint("kyc_level BETWEEN 2 AND 3", name="kyc_level"),
    CheckConstraint("state IN ('PENDING', 'APPROVED', 'REJECTED')", name="state"),
    Index("kyc_cases_open_idx", "consumer_id", unique=True, postgresql_where=text("state = 'PENDING'")),
    Index(None, "state", "id"),
    Index(None, "consumer_id", "id"),
    comment="Requests to be raised by one KYC level. A consumer has one open at most.",
)

consumer_preferences = Table(
    "consumer_preferences",
    metadata,
    Column("consumer_id", Uuid, primary_key=True),
    required("default_asset", Text),
    required("preferred_speed", Text),
    required("switched_off", ARRAY(Text)),
    required("version", BigInteger),
    time("changed_at"),
    CheckConstraint("preferred_speed IN ('STANDARD', 'FAST')", name="preferred_speed"),
    comment="What a consumer chose. Who has no row has the defaults.",
)

bank_accounts = Table(
    "bank_accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    required("consumer_id", Uuid),
    required("details_sealed", LargeBinary),
    required("state", Text),
    required("reason", Text, server_default=text("''")),
    required("request_key", Uuid),
    time("created_at"),
    time("decided_at", required=False),
    UniqueConstraint("consumer_id", "request_key"),
    CheckConstraint("state IN ('PENDING', 'ACTIVE', 'FAILED')", name="state"),
    Index(None, "consumer_id", "id"),
    comment="Bank accounts that money can be paid out to. Everything about them is sealed.",
)

wallets = Table(
    "wallets",
    metadata,
    Column("consumer_id", Uuid, primary_key=True),
    required("tempo_address", Text),
    required("derivation_index", BigInteger),
    required("kyc_level", SmallInteger),
    required("frozen", Boolean, server_default=text("false")),
    required("usage_day", Date),
    required("usage_usd_micros", BigInteger, server_default=text("0")),
    time("created_at"),
    time("erased_at", required=False),
    CheckConstraint("kyc_level BETWEEN 1 AND 3", name="kyc_level"),
    CheckConstraint("usage_usd_micros >= 0", name="usage"),
    UniqueConstraint("tempo_address"),
    comment="Flags and the day's limit counter. Locked first, in the order of consumer_id.",
)

stablecoin_balances = Table(
    "stablecoin_balances",
    metadata,
    required("consumer_id", Uuid),
    required("asset", Text),
    required("available_micros", BigInteger, server_default=text("0")),
    required("held_micros", BigInteger, server_default=text("0")),
    required("unswept_fee_micros", BigInteger, server_default=text("0")),
    required("version", BigInteger, server_default=text("0")),
    time("changed_at"),
    PrimaryKeyConstraint("consumer_id", "asset"),
    CheckConstraint("available_micros >= 0", name="available"),
    CheckConstraint("held_micros >= 0", name="held"),
    CheckConstraint("unswept_fee_micros >= 0", name="unswept_fee"),
    postgresql_with={"fillfactor": "70"},
    comment="A consumer's accounts of one asset. Locked second, in the order of (consumer_id, asset).",
)

tempo_addresses = Table(
    "tempo_addresses",
    metadata,
    Column("address", Text, primary_key=True),
    required("holder_id", Uuid),
    optional("derivation_index", BigInteger),
    required("state", Text),
    time("created_at"),
    UniqueConstraint("derivation_index"),
    CheckConstraint("state IN ('free', 'assigned', 'tainted', 'operator')", name="state"),
    Index(None, "holder_id"),
    Index("tempo_addresses_free_idx", "derivation_index", postgresql_where=text("state = 'free'")),
    comment="Every address of ours: the pool derived ahead, the assigned ones, the operator's. Lower case hex.",
)
