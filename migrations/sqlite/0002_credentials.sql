-- Keys and personal access tokens, without their secret: of a token there is only the SHA-256.
-- Ids are UUIDv7, so that their order is that of making.

CREATE TABLE credentials (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- 1 key, 2 personal access token.
    kind           INTEGER NOT NULL CHECK (kind IN (1, 2)),
    workspace_id   TEXT    REFERENCES workspaces (id),
    user_id        TEXT    REFERENCES users (id),
    max_role       INTEGER CHECK (max_role BETWEEN 1 AND 4),
    -- The owner's watermark when it was made.
    generation     INTEGER NOT NULL,
    name           TEXT    NOT NULL,
    hint           TEXT    NOT NULL,
    digest         BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    -- Bits: 1 read, 2 capture, 4 admin.
    scopes         INTEGER NOT NULL CHECK (scopes BETWEEN 0 AND 7),
    -- CIDRs with commas between; empty: from anywhere.
    ip_allowlist   TEXT    NOT NULL,
    -- A JSON object of strings.
    annotations    TEXT    NOT NULL CHECK (json_valid(annotations)),
    create_time    INTEGER NOT NULL,
    expire_time    INTEGER,
    disable_time   INTEGER,
    revoke_time    INTEGER,
    -- Written in batches, and told to no cache.
    last_use_time  INTEGER,
    last_use_ip    TEXT,
    creator        TEXT    NOT NULL,
    -- No foreign keys: rows of dead credentials are purged one by one.
    predecessor_id BLOB    CHECK (length(predecessor_id) = 16),
    family_id      BLOB    NOT NULL CHECK (length(family_id) = 16),
    version        INTEGER NOT NULL,
    CONSTRAINT credentials_owner CHECK (
        (kind = 1 AND workspace_id IS NOT NULL AND user_id IS NULL AND max_role IS NULL)
        OR (kind = 2 AND workspace_id IS NULL AND user_id IS NOT NULL AND max_role IS NOT NULL)
    )
) STRICT;

CREATE INDEX credentials_workspace ON credentials (workspace_id, id) WHERE workspace_id IS NOT NULL;
CREATE INDEX credentials_user ON credentials (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX credentials_family ON credentials (family_id, id);
