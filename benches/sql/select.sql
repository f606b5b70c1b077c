-- One credential by primary key.
\set last :live - 1
\set i random(0, :last)
SELECT * FROM credentials WHERE id = ('0193e000-0000-7000-8000-' || lpad(to_hex(:i::bigint), 12, '0'))::uuid;
