-- What one Transfer of ours writes, row for row, as a server without group commit would write it: every statement a
-- round trip, locks in our order (wallets, then balances, each sorted). `make bench` compares the rows with the wallet's.
-- The caller is given to pgbench, which would take a colon inside quotes for a variable.
-- An account's number is the end of its consumer's id: see accounts.py.
\set recipient CASE WHEN :hot = 1 THEN :accounts / 2 ELSE random(0, :accounts - 1) END
\set sender (:recipient + random(1, :accounts - 1)) % :accounts
\set sender 1000000 + :sender
\set recipient 1000000 + :recipient
\set micros random(1, 1000)
\set fee 100

BEGIN;
SELECT consumer_id, kyc_level, frozen, usage_day, usage_usd_micros FROM wallets
    WHERE consumer_id IN (lpad(:sender, 32, '0190000000007000800000000')::uuid,
                          lpad(:recipient, 32, '0190000000007000800000000')::uuid)
    ORDER BY consumer_id FOR NO KEY UPDATE;
SELECT consumer_id, available_micros, held_micros, unswept_fee_micros, version, changed_at,
       uuidv7() AS transaction_id, gen_random_uuid() AS request_key, uuidv7() AS system_entry_id, uuidv7() AS item_id
    FROM stablecoin_balances
    WHERE consumer_id IN (lpad(:sender, 32, '0190000000007000800000000')::uuid,
                          lpad(:recipient, 32, '0190000000007000800000000')::uuid) AND asset = 'USDC'
    ORDER BY consumer_id, asset FOR NO KEY UPDATE \aset
SELECT body_hash, transaction_id AS known, rejection FROM requests
    WHERE owner_id = lpad(:sender, 32, '0190000000007000800000000')::uuid AND key = :request_key \aset
UPDATE wallets SET usage_day = (now() AT TIME ZONE 'UTC')::date, usage_usd_micros = usage_usd_micros + :micros
    WHERE consumer_id = lpad(:sender, 32, '0190000000007000800000000')::uuid;
UPDATE stablecoin_balances
    SET available_micros = available_micros - :micros::bigint - :fee::bigint,
        unswept_fee_micros = unswept_fee_micros + :fee, version = version + 1, changed_at = now()
    WHERE consumer_id = lpad(:sender, 32, '0190000000007000800000000')::uuid AND asset = 'USDC'
    RETURNING available_micros AS sender_available, version AS sender_version \gset
UPDATE stablecoin_balances
    SET available_micros = available_micros + :micros::bigint, version = version + 1, changed_at = now()
    WHERE consumer_id = lpad(:recipient, 32, '0190000000007000800000000')::uuid AND asset = 'USDC'
    RETURNING available_micros AS recipient_available, version AS recipient_version \gset
INSERT INTO transactions
    (id, kind, consumer_id, counterparty_id, asset, micros, fee_micros, memo, caller, request_id, reference, created_at)
    VALUES (:transaction_id, 'transfer', lpad(:sender, 32, '0190000000007000800000000')::uuid,
            lpad(:recipient, 32, '0190000000007000800000000')::uuid, 'USDC', :micros, :fee, '', :caller,
            :request_key, '', now());
INSERT INTO postings
    (transaction_id, position, source_owner, source_kind, target_owner, target_kind, asset, micros)
    VALUES (:transaction_id, 0, lpad(:sender, 32, '0190000000007000800000000')::uuid, 'available',
            lpad(:recipient, 32, '0190000000007000800000000')::uuid, 'available', 'USDC', :micros),
           (:transaction_id, 1, lpad(:sender, 32, '0190000000007000800000000')::uuid, 'available',
            '00000000-0000-0000-0000-000000000000', 'fees', 'USDC', :fee);
INSERT INTO entries
    (consumer_id, asset, version, transaction_id, kind, counterparty_id, available_delta, held_delta,
     available_after, held_after, created_at)
    VALUES (lpad(:sender, 32, '0190000000007000800000000')::uuid, 'USDC', :sender_version, :transaction_id, 'transfer',
            lpad(:recipient, 32, '0190000000007000800000000')::uuid, -:micros::bigint - :fee::bigint, 0,
            :sender_available, 0, now()),
           (lpad(:recipient, 32, '0190000000007000800000000')::uuid, 'USDC', :recipient_version, :transaction_id,
            'transfer', lpad(:sender, 32, '0190000000007000800000000')::uuid, :micros::bigint, 0,
            :recipient_available, 0, now());
INSERT INTO requests
    (owner_id, key, body_hash, transaction_id, available_after, held_after, version_after, created_at)
    VALUES (lpad(:sender, 32, '0190000000007000800000000')::uuid, :request_key, sha256(:request_key::bytea),
            :transaction_id, :sender_available, 0, :sender_version, now());
INSERT INTO system_entries (id, kind, asset, delta_micros) VALUES (:system_entry_id, 'fees', 'USDC', :fee);
INSERT INTO settlement_items
    (id, transaction_id, sender, recipient, asset, micros, sender_seq, position, counts, state, created_at)
    VALUES (:item_id, :transaction_id, lpad(:sender, 32, '0190000000007000800000000')::uuid,
            lpad(:recipient, 32, '0190000000007000800000000')::uuid, 'USDC', :micros, :sender_version, 0, true,
            'PENDING', now());
END;
