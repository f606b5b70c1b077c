-- Keys and personal access tokens, without their secret: of a token there is only the SHA-256.
-- Ids are UUIDv7, so that their order is that of making.

CREATE TABLE credentials (
    id             uuid        NOT NULL PRIMARY KEY,
    -- 1 key, 2 personal access token.
    kind           smallint    NOT NULL CHECK (kind IN (1, 2)),
    workspace_id   text COLLATE "C" REFERENCES workspaces (id),
    user_id        text COLLATE "C" REFERENCES users (id),
    max_role       smallint    CHECK (max_role BETWEEN 1 AND 4),
    -- The owner's watermark when it was made.
    generation     bigint      NOT NULL,
    name           text        NOT NULL,
    hint           text        NOT NULL,
    digest         bytea       NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    -- Bits: 1 read, 2 capture, 4 admin.
    scopes         smallint    NOT NULL CHECK (scopes BETWEEN 0 AND 7),
    -- CIDRs with commas between; empty: from anywhere.
    ip_allowlist   text        NOT NULL,
    -- A JSON object of strings.
    annotations    text        NOT NULL CHECK (json_typeof(annotations::json) = 'object'),
    create_time    timestamptz NOT NULL,
    -- What never expires has none: 'infinity' is no time that this program could read.
    expire_time    timestamptz CHECK (isfinite(expire_time)),
    disable_time   timestamptz,
    revoke_time    timestamptz,
    -- Written in batches, and told to no cache.
    last_use_time  timestamptz,
    last_use_ip    text,
    creator        text        NOT NULL,
    -- No foreign keys: rows of dead credentials are purged one by one.
    predecessor_id uuid,
    family_id      uuid        NOT NULL,
    version        bigint      NOT NULL,
    CONSTRAINT credentials_owner CHECK (
        (kind = 1 AND workspace_id IS NOT NULL AND user_id IS NULL AND max_role IS NULL)
        OR (kind = 2 AND workspace_id IS NULL AND user_id IS NOT NULL AND max_role IS NOT NULL)
    )
);

CREATE INDEX credentials_workspace ON credentials (workspace_id, id) WHERE workspace_id IS NOT NULL;
CREATE INDEX credentials_user ON credentials (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX credentials_family ON credentials (family_id, id);
