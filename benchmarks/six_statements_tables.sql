-- The tables of six_statements.sql: a transfer as a plain ledger would keep it, in a schema of its own.
CREATE SCHEMA six_statements;

CREATE TABLE six_statements.balances (
    account bigint PRIMARY KEY,
    micros bigint NOT NULL CHECK (micros >= 0),
    version bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE six_statements.transactions (
    id uuid PRIMARY KEY,
    sender bigint NOT NULL,
    recipient bigint NOT NULL,
    micros bigint NOT NULL,
    memo text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE six_statements.entries (
    account bigint NOT NULL,
    transaction_id uuid NOT NULL,
    delta bigint NOT NULL,
    micros_after bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account, transaction_id)
);

CREATE TABLE six_statements.requests (
    sender bigint NOT NULL,
    key uuid NOT NULL,
    hash bigint NOT NULL,
    transaction_id uuid NOT NULL,
    PRIMARY KEY (sender, key)
);

CREATE TABLE six_statements.outbox (
    id uuid PRIMARY KEY,
    transaction_id uuid NOT NULL,
    created_at timestamptz NOT NULL
);
