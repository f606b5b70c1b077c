-- The change of a row that Revoke makes, in a table with the same columns and indexes, and without triggers.
\set last :live - 1
\set i random(0, :last)
UPDATE bench_credentials SET revoke_time = now(), version = version + 1
WHERE id = ('0193e000-0000-7000-8000-' || lpad(to_hex(:i::bigint), 12, '0'))::uuid;
