-- Services that call this one, and how each proves who it is.

CREATE TABLE callers (
    id              BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name            TEXT    NOT NULL,
    -- Bits, as model::Permission has them.
    permissions     INTEGER NOT NULL,
    -- The SHA-256 of its service token. Unique among revoked ones too, so that no token ever comes back.
    digest          BLOB    UNIQUE CHECK (length(digest) = 32),
    certificate_san TEXT,
    hint            TEXT    NOT NULL,
    create_time     INTEGER NOT NULL,
    revoke_time     INTEGER,
    CONSTRAINT callers_identity CHECK ((digest IS NULL) <> (certificate_san IS NULL))
) STRICT;

CREATE UNIQUE INDEX callers_name ON callers (name) WHERE revoke_time IS NULL;
CREATE UNIQUE INDEX callers_certificate_san ON callers (certificate_san) WHERE revoke_time IS NULL;
