-- What the service reads for a token that is not in memory: the same columns and joins as in
-- src/store/postgres/credentials.rs. It selects by primary key, because pgbench cannot compute the digest of a token.
\set last :live - 1
\set i random(0, :last)
SELECT counter.revision, c.*, own.*, named.*, u.*,
    (SELECT string_agg(m.workspace_id || '=' || m.role, ',' ORDER BY m.workspace_id) FROM memberships AS m WHERE m.user_id = c.user_id)
FROM counter
LEFT JOIN credentials AS c ON c.id = ('0193e000-0000-7000-8000-' || lpad(to_hex(:i::bigint), 12, '0'))::uuid
LEFT JOIN users AS u ON u.id = c.user_id
LEFT JOIN workspaces AS own ON own.id = c.workspace_id
LEFT JOIN workspaces AS named ON c.user_id IS NOT NULL AND named.id = COALESCE(
    (SELECT w.id FROM workspaces AS w WHERE w.id = 'bench-' || lpad((:i::bigint / 2 % 1000)::text, 4, '0') AND w.delete_time IS NULL),
    (SELECT w.id FROM workspaces AS w WHERE w.slug = 'bench-' || lpad((:i::bigint / 2 % 1000)::text, 4, '0') AND w.delete_time IS NULL))
WHERE counter.id = 1;
