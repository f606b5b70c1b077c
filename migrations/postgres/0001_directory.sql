-- The directory: who owns credentials, and who may do what where. Rows are never deleted, but for memberships:
-- a deleted workspace or user keeps its row, which holds the id until it is put again.
-- Ids collate by their bytes, as this program compares them, whatever the database's locale.

CREATE TABLE workspaces (
    -- No '=' and no ',': looking up joins memberships with them.
    id              text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
    slug            text COLLATE "C" NOT NULL
                            CHECK (length(slug) BETWEEN 3 AND 63 AND slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    display_name    text        NOT NULL,
    disabled        boolean     NOT NULL,
    -- The watermark: keys made under a smaller generation are revoked. It never falls.
    generation      bigint      NOT NULL DEFAULT 0,
    generation_time timestamptz,
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL,
    delete_time     timestamptz
);

-- A deleted workspace gives its slug up; reserved_slugs keeps strangers from it for a while.
CREATE UNIQUE INDEX workspaces_slug ON workspaces (slug) WHERE delete_time IS NULL;

CREATE TABLE users (
    id              text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
    display_name    text        NOT NULL,
    disabled        boolean     NOT NULL,
    -- The watermark, as of workspaces, for personal access tokens.
    generation      bigint      NOT NULL DEFAULT 0,
    generation_time timestamptz,
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL,
    delete_time     timestamptz
);

CREATE TABLE memberships (
    user_id      text COLLATE "C" NOT NULL REFERENCES users (id),
    workspace_id text COLLATE "C" NOT NULL REFERENCES workspaces (id),
    -- 1 viewer, 2 member, 3 admin, 4 owner.
    role         smallint    NOT NULL CHECK (role BETWEEN 1 AND 4),
    create_time  timestamptz NOT NULL,
    update_time  timestamptz NOT NULL,
    -- User first: looking up a personal access token reads all of its user's roles.
    PRIMARY KEY (user_id, workspace_id)
);

CREATE INDEX memberships_workspace ON memberships (workspace_id, user_id);

-- Slugs that a workspace has given up: until then they resolve to nothing, and only it may take them again.
CREATE TABLE reserved_slugs (
    slug         text COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL REFERENCES workspaces (id),
    release_time timestamptz NOT NULL
);
