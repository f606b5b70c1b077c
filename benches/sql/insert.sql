-- A row like that of CreateKey, in a table with the same columns and indexes, and without triggers.
INSERT INTO bench_credentials (
    id, kind, workspace_id, generation, name, hint, digest, scopes, ip_allowlist, annotations, create_time, creator,
    family_id, version)
VALUES (
    gen_random_uuid(), 1, 'ws-bench-0000', 0, 'made while measuring', 'sophic_key_...abcd',
    sha256(uuid_send(gen_random_uuid())), 1, '', '{}', now(), 'benchmark', gen_random_uuid(), 1);
