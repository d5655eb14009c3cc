-- The yardstick: the least that a durable transfer writes when every statement is a round trip of its own.
-- Two balances, a transaction, two entries, an idempotency row and an outbox row: six statements in one transaction.
-- Accounts are updated in the order of their numbers, so that no two transfers wait for each other in a circle.
\set recipient CASE WHEN :hot = 1 THEN :accounts / 2 ELSE random(0, :accounts - 1) END
\set sender (:recipient + random(1, :accounts - 1)) % :accounts
\set micros random(1, 1000)
\set low least(:sender, :recipient)
\set high greatest(:sender, :recipient)
\set low_delta CASE WHEN :low = :sender THEN -:micros ELSE :micros END
\set high_delta -:low_delta

BEGIN;
UPDATE six_statements.balances SET micros = micros + :low_delta, version = version + 1
    WHERE account = :low
    RETURNING micros AS low_after, uuidv7() AS transaction_id, gen_random_uuid() AS key, uuidv7() AS outbox_id \gset
UPDATE six_statements.balances SET micros = micros + :high_delta, version = version + 1
    WHERE account = :high
    RETURNING micros AS high_after \gset
INSERT INTO six_statements.transactions (id, sender, recipient, micros, memo, created_at)
    VALUES (:transaction_id, :sender, :recipient, :micros, '', now());
INSERT INTO six_statements.entries (account, transaction_id, delta, micros_after, created_at)
    VALUES (:low, :transaction_id, :low_delta, :low_after, now()),
           (:high, :transaction_id, :high_delta, :high_after, now());
INSERT INTO six_statements.requests (sender, key, hash, transaction_id)
    VALUES (:sender, :key, 4711, :transaction_id);
INSERT INTO six_statements.outbox (id, transaction_id, created_at)
    VALUES (:outbox_id, :transaction_id, now());
END;
