-- What the life of a credential rests on: requests that a retry must not repeat, and what workspaces ask of their keys.

-- Request ids of calls that made a credential, for 24 hours. Of the request's body there is only a fingerprint.
CREATE TABLE requests (
    -- Who asked: `caller:<id>` or `operator:<name>`. Each has request ids of its own.
    requester     text COLLATE "C" NOT NULL,
    request_id    uuid        NOT NULL,
    -- SHA-256.
    fingerprint   bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    credential_id uuid        NOT NULL,
    create_time   timestamptz NOT NULL,
    PRIMARY KEY (requester, request_id)
);

CREATE INDEX requests_create_time ON requests (create_time);

-- What a workspace asks of its keys beyond the server's own policy. No answer to an introspection rests on it, so it is
-- not in the change log. Durations are microseconds; NULL restricts nothing.
CREATE TABLE workspace_policies (
    workspace_id        text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES workspaces (id),
    key_lifetime_max    bigint  CHECK (key_lifetime_max > 0),
    key_expiry_required boolean NOT NULL,
    keys_max            bigint  CHECK (keys_max >= 0),
    overlap_min         bigint  CHECK (overlap_min >= 0),
    overlap_max         bigint  CHECK (overlap_max >= 0)
);

-- The successor of a credential that was rotated.
CREATE INDEX credentials_predecessor ON credentials (predecessor_id, id) WHERE predecessor_id IS NOT NULL;
