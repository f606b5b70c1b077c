-- What the life of a credential rests on: requests that a retry must not repeat, and what workspaces ask of their keys.

-- Request ids of calls that made a credential, for 24 hours. Of the request's body there is only a fingerprint.
CREATE TABLE requests (
    -- Who asked: `caller:<id>` or `operator:<name>`. Each has request ids of its own.
    requester     TEXT    NOT NULL,
    request_id    BLOB    NOT NULL CHECK (length(request_id) = 16),
    -- SHA-256.
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    credential_id BLOB    NOT NULL CHECK (length(credential_id) = 16),
    create_time   INTEGER NOT NULL,
    PRIMARY KEY (requester, request_id)
) STRICT;

CREATE INDEX requests_create_time ON requests (create_time);

-- What a workspace asks of its keys beyond the server's own policy. No answer to an introspection rests on it, so it is
-- not in the change log. Durations are microseconds; NULL restricts nothing.
CREATE TABLE workspace_policies (
    workspace_id        TEXT    NOT NULL PRIMARY KEY REFERENCES workspaces (id),
    key_lifetime_max    INTEGER CHECK (key_lifetime_max > 0),
    key_expiry_required INTEGER NOT NULL CHECK (key_expiry_required IN (0, 1)),
    keys_max            INTEGER CHECK (keys_max >= 0),
    overlap_min         INTEGER CHECK (overlap_min >= 0),
    overlap_max         INTEGER CHECK (overlap_max >= 0)
) STRICT, WITHOUT ROWID;

-- The successor of a credential that was rotated.
CREATE INDEX credentials_predecessor ON credentials (predecessor_id, id) WHERE predecessor_id IS NOT NULL;
