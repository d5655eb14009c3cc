"""Thousands of funded consumers at once, straight through SQL: onboarding each would take longer than the measurement.

What stands in the tables afterwards is what onboarding and a deposit from the chain would have left, so that the books
can be proven after the run. A consumer's id ends with the number of the account, which is how pgbench, whose variables
are numbers, finds it.
"""

from __future__ import annotations

from uuid import UUID

import psycopg

FIRST_NUMBER = 1_000_000
MICROS_EACH = 1_000_000_000_000

CALLER = "service:benchmark"
"""Who asks for the transfers, as the journal names it."""

# The start of every consumer's id. A number of seven digits completes it to a UUID of version 7.
ID_START = "0190000000007000800000000"

_FILL = (
    """
    CREATE TEMPORARY TABLE numbered AS
    SELECT number, lpad(number::text, 32, %(id_start)s)::uuid AS id, uuidv7() AS transaction_id, now() AS at
    FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number
    """,
    """
    INSERT INTO consumers (id, email_sealed, email_index, phone_sealed, phone_index, name_sealed, created_at)
    SELECT id, '', sha256(convert_to('email' || number, 'UTF8')), '',
           sha256(convert_to('phone' || number, 'UTF8')), '', at
    FROM numbered
    """,
    """
    INSERT INTO tempo_addresses (address, holder_id, derivation_index, state, created_at)
    SELECT '0x' || lpad(to_hex(number), 40, '0'), id, number, 'assigned', at FROM numbered
    """,
    """
    INSERT INTO wallets (consumer_id, tempo_address, derivation_index, kyc_level, usage_day, created_at)
    SELECT id, '0x' || lpad(to_hex(number), 40, '0'), number, 3, (at AT TIME ZONE 'UTC')::date, at FROM numbered
    """,
    """
    INSERT INTO stablecoin_balances (consumer_id, asset, available_micros, version, changed_at)
    SELECT id, asset, CASE asset WHEN 'USDC' THEN %(micros)s ELSE 0 END, CASE asset WHEN 'USDC' THEN 1 ELSE 0 END, at
    FROM numbered, unnest(ARRAY['EURC', 'PYUSD', 'USDB', 'USDC', 'USDT']) AS asset
    """,
    """
    INSERT INTO transactions (id, kind, consumer_id, asset, micros, fee_micros, memo, caller, request_id, reference,
                              created_at)
    SELECT transaction_id, 'deposit', id, 'USDC', %(micros)s, 0, '', 'worker:benchmark', '', '', at FROM numbered
    """,
    """
    INSERT INTO postings (transaction_id, position, source_owner, source_kind, target_owner, target_kind, asset, micros)
    SELECT transaction_id, 0, '00000000-0000-0000-0000-000000000000', 'external:tempo', id, 'available', 'USDC',
           %(micros)s
    FROM numbered
    """,
    """
    INSERT INTO entries (consumer_id, asset, version, transaction_id, kind, available_delta, held_delta,
                         available_after, held_after, created_at)
    SELECT id, 'USDC', 1, transaction_id, 'deposit', %(micros)s, 0, %(micros)s, 0, at FROM numbered
    """,
    """
    INSERT INTO custody_positions (holder_id, rail, asset, micros, activated)
    SELECT id, 'tempo', 'USDC', %(micros)s, true FROM numbered
    """,
    """
    INSERT INTO system_entries (id, kind, asset, delta_micros)
    VALUES (uuidv7(), 'external:tempo', 'USDC', -%(count)s::bigint * %(micros)s)
    """,
    "INSERT INTO six_statements.balances SELECT number - %(first)s, %(micros)s, 0 FROM numbered",
    "DROP TABLE numbered",
)


def consumer_ids(count: int) -> list[UUID]:
    """The ids of the first accounts, in order."""
    return [UUID(f"{ID_START}{number}") for number in range(FIRST_NUMBER, FIRST_NUMBER + count)]


def fill(connection: psycopg.Connection, count: int) -> None:
    """Make the accounts, for the wallet and for the six-statement yardstick."""
    values = {"count": count, "first": FIRST_NUMBER, "micros": MICROS_EACH, "id_start": ID_START}
    with connection.transaction():
        for statement in _FILL:
            connection.execute(statement, values)
