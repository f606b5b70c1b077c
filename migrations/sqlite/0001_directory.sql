-- The directory: who owns credentials, and who may do what where. Rows are never deleted, but for memberships:
-- a deleted workspace or user keeps its row, which holds the id until it is put again.
-- Times are microseconds since 1970-01-01T00:00:00Z; booleans are 0 or 1.

CREATE TABLE workspaces (
    -- No '=' and no ',': looking up joins memberships with them.
    id              TEXT    NOT NULL PRIMARY KEY
                            CHECK (length(id) BETWEEN 1 AND 64 AND id NOT GLOB '*[^A-Za-z0-9_-]*'),
    slug            TEXT    NOT NULL
                            CHECK (length(slug) BETWEEN 3 AND 63 AND slug NOT GLOB '*[^a-z0-9-]*'
                                   AND slug NOT GLOB '-*' AND slug NOT GLOB '*-' AND slug NOT GLOB '*--*'),
    display_name    TEXT    NOT NULL,
    disabled        INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    -- The watermark: keys made under a smaller generation are revoked. It never falls.
    generation      INTEGER NOT NULL DEFAULT 0,
    generation_time INTEGER,
    create_time     INTEGER NOT NULL,
    update_time     INTEGER NOT NULL,
    delete_time     INTEGER
) STRICT;

-- A deleted workspace gives its slug up; reserved_slugs keeps strangers from it for a while.
CREATE UNIQUE INDEX workspaces_slug ON workspaces (slug) WHERE delete_time IS NULL;

CREATE TABLE users (
    id              TEXT    NOT NULL PRIMARY KEY
                            CHECK (length(id) BETWEEN 1 AND 64 AND id NOT GLOB '*[^A-Za-z0-9_-]*'),
    display_name    TEXT    NOT NULL,
    disabled        INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    -- The watermark, as of workspaces, for personal access tokens.
    generation      INTEGER NOT NULL DEFAULT 0,
    generation_time INTEGER,
    create_time     INTEGER NOT NULL,
    update_time     INTEGER NOT NULL,
    delete_time     INTEGER
) STRICT;

CREATE TABLE memberships (
    user_id      TEXT    NOT NULL REFERENCES users (id),
    workspace_id TEXT    NOT NULL REFERENCES workspaces (id),
    -- 1 viewer, 2 member, 3 admin, 4 owner.
    role         INTEGER NOT NULL CHECK (role BETWEEN 1 AND 4),
    create_time  INTEGER NOT NULL,
    update_time  INTEGER NOT NULL,
    -- User first: looking up a personal access token reads all of its user's roles.
    PRIMARY KEY (user_id, workspace_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX memberships_workspace ON memberships (workspace_id, user_id);

-- Slugs that a workspace has given up: until then they resolve to nothing, and only it may take them again.
CREATE TABLE reserved_slugs (
    slug         TEXT    NOT NULL PRIMARY KEY,
    workspace_id TEXT    NOT NULL REFERENCES workspaces (id),
    release_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
