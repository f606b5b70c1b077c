-- Services that call this one, and how each proves who it is.

CREATE TABLE callers (
    id              uuid        NOT NULL PRIMARY KEY,
    name            text COLLATE "C" NOT NULL,
    -- Bits, as model::Permission has them.
    permissions     integer     NOT NULL,
    -- The SHA-256 of its service token. Unique among revoked ones too, so that no token ever comes back.
    digest          bytea       UNIQUE CHECK (octet_length(digest) = 32),
    certificate_san text COLLATE "C",
    hint            text        NOT NULL,
    create_time     timestamptz NOT NULL,
    revoke_time     timestamptz,
    CONSTRAINT callers_identity CHECK ((digest IS NULL) <> (certificate_san IS NULL))
);

CREATE UNIQUE INDEX callers_name ON callers (name) WHERE revoke_time IS NULL;
CREATE UNIQUE INDEX callers_certificate_san ON callers (certificate_san) WHERE revoke_time IS NULL;
